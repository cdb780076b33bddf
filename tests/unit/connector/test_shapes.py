"""Properties of Things by edge name, read when they are asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lambdas.connector.shapes import EdgeProperty, Shapes
from lambdas.shared.control_table import ASSIGNED, ThingRecord
from lambdas.shared.shape import Property

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lambdas.shared.shape import Shape


class Table:
    """The control table's records and shapes, with the reads that were made."""

    def __init__(self) -> None:
        self.shape_of = {"pump": "s1", "fan": "s1"}
        self.content: dict[str, Shape] = {
            "s1": {"speed": Property("NUMBER", "Speed")},
            "s2": {"speed": Property("NUMBER", "Speed"), "mode": Property("STRING", "Mode")},
        }
        self.read: list[str] = []
        self.now = 0.0
        self.shapes = Shapes(self.record, self.read_shapes, lambda: self.now)

    def record(self, thing: str) -> ThingRecord | None:
        """As `ControlTable.thing`."""
        self.read.append(thing)
        shape = self.shape_of.get(thing)
        return None if shape is None else ThingRecord(thing, "1", shape, ASSIGNED, 1)

    def read_shapes(self, ids: Iterable[str]) -> dict[str, Shape]:
        """As `ControlTable.shapes`."""
        found = list(ids)
        self.read += found
        return {shape: self.content[shape] for shape in found if shape in self.content}

    def edges(self, thing: str, *asked: str) -> dict[str, EdgeProperty]:
        """What is told of a Thing."""
        return dict(asyncio.run(self.shapes.of(thing, asked)))


def test_a_property_is_found_by_its_edge_name() -> None:
    assert Table().edges("pump") == {"Speed": EdgeProperty("speed", "NUMBER")}


def test_a_thing_is_read_once_in_a_while_and_a_shape_once() -> None:
    table = Table()
    for _ in range(3):
        table.edges("pump", "Speed")
        table.edges("fan", "Speed")
    assert table.read == ["pump", "s1", "fan"]
    table.now = 61
    table.edges("pump", "Speed")
    assert table.read == ["pump", "s1", "fan", "pump"]


def test_a_property_that_discovery_has_just_added_is_found_soon() -> None:
    table = Table()
    assert "Mode" not in table.edges("pump", "Mode")
    table.shape_of["pump"] = "s2"
    assert "Mode" not in table.edges("pump", "Mode")
    table.now = 2
    assert table.edges("pump", "Mode")["Mode"] == EdgeProperty("mode", "STRING")


def test_an_unknown_thing_has_no_properties() -> None:
    table = Table()
    assert table.edges("stranger", "Speed") == {}
    table.shape_of["stranger"] = "gone"
    table.now = 2
    assert table.edges("stranger", "Speed") == {}
