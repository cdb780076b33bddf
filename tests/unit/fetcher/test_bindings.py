"""Bindings: edge names, and what is wrong with them, without asking everybody."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.fetcher.bindings import Bindings
from lambdas.shared.errors import ThingworxCallFailed
from lambdas.shared.seen import Mistake
from lambdas.shared.shape import Property
from lambdas.thingworx.infotable import InfoTable
from tests.unit.fetcher.fake_platform import FakePlatform

SHAPE = {"level": Property("INTEGER", "level"), "temp": Property("NUMBER", "temp")}


class Edges(FakePlatform):
    """Things with bindings: property -> (edge name, push type)."""

    def __init__(self, **things: dict[str, tuple[str, str]]) -> None:
        super().__init__(GetPropertySubscriptions=self._all, GetRemotePropertyBinding=self._one)
        self.things = things

    def _all(self, thing: str, _: dict[str, Any]) -> InfoTable:
        rows = [{"edgeName": edge, "pushType": push} for edge, push in self.things[thing].values()]
        return InfoTable({}, rows)

    def _one(self, thing: str, parameters: dict[str, Any]) -> InfoTable:
        bound = self.things[thing].get(parameters["propertyName"])
        if bound is None:
            raise ThingworxCallFailed(500, "not remotely bound")
        return InfoTable({}, [{"sourceName": bound[0], "pushType": bound[1]}])


USUAL = {"temp": ("temp", "ALWAYS"), "level": ("level", "VALUE")}


def test_things_like_one_that_is_as_usual_are_not_asked() -> None:
    platform = Edges(a=USUAL)
    bindings = Bindings(platform, each=False)
    for thing in ("a", "b", "c"):
        found = bindings.of(thing, "Pump", SHAPE)
        assert (found.shape, found.mistakes) == (SHAPE, [])
    assert platform.called("GetPropertySubscriptions") == len(platform.calls) == 1


@pytest.mark.parametrize(
    ("each", "template", "shape"),
    [
        (True, "Pump", SHAPE),
        (False, "Other", SHAPE),
        (False, "Pump", {"temp": SHAPE["temp"]}),
    ],
)
def test_a_thing_of_another_kind_is_asked(each: bool, template: str, shape: Any) -> None:  # noqa: FBT001 - a case
    platform = Edges(a=USUAL, b=USUAL)
    bindings = Bindings(platform, each=each)
    bindings.of("a", "Pump", SHAPE)
    bindings.of("b", template, shape)
    assert platform.called("GetPropertySubscriptions") == 2


def test_a_renamed_property_has_its_edge_name_and_its_like_are_asked_each() -> None:
    platform = Edges(a=USUAL | {"temp": ("T1", "ALWAYS")}, b=USUAL, c=USUAL)
    bindings = Bindings(platform, each=False)
    assert bindings.of("a", "Pump", SHAPE).shape == SHAPE | {"temp": Property("NUMBER", "T1")}
    assert bindings.of("b", "Pump", SHAPE).shape == SHAPE
    assert bindings.of("c", "Pump", SHAPE).shape == SHAPE
    assert platform.called("GetPropertySubscriptions") == 2


def test_a_property_that_is_not_bound_or_never_pushed_is_named() -> None:
    platform = Edges(
        a={"level": ("level", "NEVER")}, b={"temp": ("T", "NEVER"), "level": ("level", "ALWAYS")}
    )
    bindings = Bindings(platform, each=False)
    assert bindings.of("a", None, SHAPE).mistakes == [
        Mistake("push_never", "level"),
        Mistake("not_bound", "temp"),
    ]
    assert bindings.of("b", None, SHAPE).mistakes == [Mistake("push_never", "temp")]


def test_a_thing_without_the_services_of_remote_ones_is_named() -> None:
    def missing(*_: object) -> InfoTable:
        raise ThingworxCallFailed(500, "No service handler defined for service X on thing a")

    platform = FakePlatform(GetPropertySubscriptions=missing, GetRemotePropertyBinding=missing)
    found = Bindings(platform, each=False).of("a", None, SHAPE)
    assert (found.shape, found.mistakes) == (SHAPE, [Mistake("not_remote")])


@pytest.mark.parametrize("status", [403, 404, 500])
def test_what_the_platform_cannot_tell_is_no_mistake_of_the_owner(status: int) -> None:
    def fails(*_: object) -> InfoTable:
        raise ThingworxCallFailed(status, "no")

    def unbound(*_: object) -> InfoTable:
        raise ThingworxCallFailed(500, "not remotely bound")

    platform = FakePlatform(GetPropertySubscriptions=fails, GetRemotePropertyBinding=unbound)
    found = Bindings(platform, each=False).of("a", None, SHAPE)
    assert (found.shape, found.mistakes) == (SHAPE, [])
