"""docs/reference/base-types.md names what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from lambdas.thingworx.alwayson import BaseType, to_wire
from lambdas.thingworx.base_types import SUPPORTED, UNSUPPORTED
from tests.unit.thingworx.alwayson.test_wire_forms import SAMPLES

PAGE = Path(__file__).parents[3] / "docs/reference/base-types.md"


def rows() -> dict[str, list[str]]:
    """Base type -> the other cells of its row."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"\s\|\s?", line.strip("| "))]
        if line.startswith("|") and cells[0].partition(",")[0] in BaseType.__members__:
            names = cells[0].split(", ")
            found.update(dict.fromkeys(names, cells[1:]))
            assert len(names) == len(set(names))
    return found


def test_the_table_has_a_row_for_every_base_type() -> None:
    assert rows().keys() == {base_type.name for base_type in BaseType}


def test_the_table_tells_the_base_type_on_the_wire() -> None:
    table = rows()
    for base_type in SUPPORTED:
        named = re.match(r"[A-Z0-9, ]+", table[base_type][2])
        assert named is not None
        assert to_wire(base_type, SAMPLES.get(base_type, "x")).base_type.name in named[0].split(", "), (
            base_type
        )


def test_the_table_tells_the_reason_of_what_is_not_supported() -> None:
    table = rows()
    for base_type, reason in UNSUPPORTED.items():
        assert table[base_type][0] == f"not supported: {reason}"
