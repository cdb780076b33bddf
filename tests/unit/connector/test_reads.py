"""GET from ThingWorx: the last value that is known, wherever it is."""

# ruff: noqa: D101, D102 - names of the stand-ins say what they do
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lambdas.connector.kept_values import Kept
from lambdas.connector.reads import Reads
from lambdas.connector.shadow import ShadowRefused, ShadowUnavailable
from lambdas.connector.shapes import EdgeProperty
from lambdas.thingworx.alwayson import Status
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lambdas.thingworx.alwayson.events import Reply

SHAPE = {"Speed": EdgeProperty("speed", "NUMBER"), "Mode": EdgeProperty("mode", "STRING")}


class Sources:
    def __init__(self) -> None:
        self.came: dict[str, ValueRow] = {}
        self.left: dict[str, ValueRow] = {}
        self.state: dict[str, Any] = {}
        self.failure: Exception | None = None
        self.asked: list[str] = []

    async def of(self, thing: str, edges: Sequence[str] = ()) -> Mapping[str, EdgeProperty]:
        return SHAPE

    async def reported(self, thing: str) -> dict[str, Any]:
        self.asked.append(thing)
        if self.failure:
            raise self.failure
        return self.state

    def get(self, edge: str, thing: str = "pump") -> Reply:
        class KeptOnes:
            async def of(_, thing: str) -> Kept:  # noqa: N805 - the outer `self` is meant
                return Kept(self.left, {})

        reads = Reads(lambda _: self.came, KeptOnes(), self, self)  # type: ignore[arg-type] # a stand-in
        return asyncio.run(reads.get(thing, edge))

    def value(self, edge: str) -> Any:
        reply = self.get(edge)
        assert reply.content
        return reply.content.first(edge).value


def row(name: str, value: Any, at: int = 10, base_type: str = "NUMBER") -> ValueRow:
    return ValueRow(name, base_type, value, at)


def test_the_newest_value_is_given_whoever_received_it() -> None:
    sources = Sources()
    sources.left = {"Speed": row("Speed", 1.0, 10)}
    assert sources.value("Speed") == 1.0
    sources.came = {"Speed": row("Speed", 2.0, 20)}
    assert sources.value("Speed") == 2.0
    sources.came = {"Speed": row("Speed", 0.5, 5)}
    assert sources.value("Speed") == 1.0
    assert not sources.asked


def test_a_value_that_never_came_is_read_from_the_devices_shadow() -> None:
    sources = Sources()
    sources.state = {"speed": 3, "mode": 7}
    assert sources.value("Speed") == 3.0
    assert sources.value("Mode") == "7"


def test_what_nobody_knows_is_not_found_with_the_reason() -> None:
    sources = Sources()
    reply = sources.get("Speed")
    assert reply.status == Status.NOT_FOUND
    assert reply.reason == "Speed: no value of it has come yet, and the device's shadow reports none"
    sources.state = {"speed": None}
    assert sources.get("Speed").status == Status.NOT_FOUND
    sources.state = {"speed": "fast"}
    reason = sources.get("Speed").reason
    assert reason
    assert "NUMBER takes" in reason


def test_an_unknown_property_and_a_name_without_shadow_ask_nobody() -> None:
    sources = Sources()
    reply = sources.get("Gone")
    assert (reply.status, reply.reason) == (
        Status.NOT_FOUND,
        "Gone: the connector serves no such property of pump",
    )
    assert sources.get("Speed", "pump 1").status == Status.NOT_FOUND
    assert not sources.asked


def test_a_shadow_that_cannot_be_read_now_is_no_missing_value() -> None:
    sources = Sources()
    sources.failure = ShadowUnavailable("AWS IoT: ThrottlingException")
    assert sources.get("Speed").status == Status.SERVICE_UNAVAILABLE
    sources.failure = ShadowRefused(403, "AWS IoT refuses")
    assert sources.get("Speed").status == Status.NOT_FOUND


def test_all_properties_are_those_that_came() -> None:
    sources = Sources()
    sources.left = {"Speed": row("Speed", 1.0)}
    sources.came = {"Mode": row("Mode", "on", base_type="STRING")}
    for every in ("", "*"):
        content = sources.get(every).content
        assert content
        assert sorted(content.fields) == ["Mode", "Speed"]
    assert not sources.asked
