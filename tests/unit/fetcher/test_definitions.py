"""Definitions: only what can be delivered, and one bad Thing harms no other."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.fetcher import retry
from lambdas.fetcher.bindings import Bindings
from lambdas.fetcher.definitions import OUT_OF_TIME, Ask, fetch_definitions, shape_of
from lambdas.shared.errors import ThingworxCallFailed, ThingworxRefused, ThingworxUnavailable
from lambdas.shared.seen import Mistake
from lambdas.shared.shape import Property, shape_id
from lambdas.thingworx.infotable import InfoTable
from tests.unit.fetcher.fake_platform import FakePlatform

CATEGORY = "AWSConnectorBound"
TEMPERATURE = {"name": "temp", "baseType": "NUMBER"}
NAMES = [f"Thing {number}" for number in range(40)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST", 0.0)


def table(*rows: dict[str, Any]) -> InfoTable:
    return InfoTable({}, list(rows))


def fetch(answer: Any, *names: str) -> Any:
    return read(FakePlatform(GetPropertyDefinitions=answer, GetPropertySubscriptions=bound), *names)


def read(platform: FakePlatform, *names: str, concurrency: int = 4, **options: Any) -> Any:
    asks = [Ask(name) for name in names]
    bindings = Bindings(platform, each=False)
    return fetch_definitions(platform, asks, CATEGORY, bindings=bindings, concurrency=concurrency, **options)


def bound(*_: object) -> InfoTable:
    return table({"edgeName": "temp", "pushType": "ALWAYS"})


def test_a_shape_has_the_supported_properties_under_their_own_names() -> None:
    shape, unsupported = shape_of([{"name": "b", "baseType": "STRING"}, TEMPERATURE])
    assert shape == {"temp": Property("NUMBER", "temp"), "b": Property("STRING", "b")}
    assert unsupported == []


def test_properties_of_other_base_types_are_named() -> None:
    assert shape_of([TEMPERATURE, {"name": "key", "baseType": "NOTHING"}, {"name": "odd"}]) == (
        {"temp": Property("NUMBER", "temp")},
        ["key", "odd"],
    )


def test_built_in_properties_are_never_delivered_to() -> None:
    assert shape_of(
        [{"name": "isConnected", "baseType": "BOOLEAN"}, {"name": "name", "baseType": "STRING"}]
    ) == ({}, [])


def test_things_made_alike_share_one_shape() -> None:
    found = fetch(lambda *_: table(TEMPERATURE), *NAMES)
    assert found.things == dict.fromkeys(NAMES, shape_id({"temp": Property("NUMBER", "temp")}))
    assert len(found.shapes) == 1


def test_only_the_category_is_asked_for() -> None:
    platform = FakePlatform(
        GetPropertyDefinitions=lambda *_: table(TEMPERATURE), GetPropertySubscriptions=bound
    )
    read(platform, "Pump 1")
    assert platform.calls[0] == ("Things", "Pump 1", "GetPropertyDefinitions", {"category": CATEGORY})


def test_a_thing_without_properties_has_the_empty_shape() -> None:
    assert fetch(lambda *_: None, "a").things == {"a": shape_id({})}


def test_a_thing_that_cannot_be_read_harms_no_other() -> None:
    def answer(thing: str, _: object) -> InfoTable:
        if thing == "Thing 7":
            raise ThingworxCallFailed(500, "script error")
        return table(TEMPERATURE)

    found = fetch(answer, *NAMES)
    assert found.failed == {"Thing 7": "ThingWorx answered 500: script error"}
    assert len(found.things) == len(NAMES) - 1


def test_a_busy_platform_is_asked_again() -> None:
    answers = [ThingworxUnavailable("429"), ThingworxUnavailable("503"), table(TEMPERATURE)]

    def answer(*_: object) -> Any:
        first = answers.pop(0)
        if isinstance(first, Exception):
            raise first
        return first

    assert list(fetch(answer, "a").things) == ["a"]


def test_a_failing_call_is_not_repeated() -> None:
    def answer(*_: object) -> InfoTable:
        raise ThingworxCallFailed(500, "script error")

    platform = FakePlatform(GetPropertyDefinitions=answer)
    read(platform, "a", concurrency=1)
    assert platform.called("GetPropertyDefinitions") == 1


def test_one_thing_that_never_answers_harms_no_other() -> None:
    def answer(thing: str, _: object) -> InfoTable:
        if thing in {"Thing 3", "Thing 30"}:
            raise ThingworxUnavailable("time-out")
        return table(TEMPERATURE)

    found = fetch(answer, *NAMES)
    assert found.failed == {"Thing 3": "time-out", "Thing 30": "time-out"}


def test_a_platform_that_is_down_is_an_error_and_not_a_fleet_of_failures() -> None:
    def answer(*_: object) -> InfoTable:
        raise ThingworxUnavailable("no answer")

    platform = FakePlatform(GetPropertyDefinitions=answer)
    with pytest.raises(ThingworxUnavailable):
        read(platform, *NAMES)
    assert platform.called("GetPropertyDefinitions") < len(NAMES) * retry.TRIES


def test_a_platform_that_refuses_us_ends_it_at_once() -> None:
    def answer(*_: object) -> InfoTable:
        raise ThingworxRefused("401")

    platform = FakePlatform(GetPropertyDefinitions=answer)
    with pytest.raises(ThingworxRefused):
        read(platform, *NAMES * 10)
    assert platform.called("GetPropertyDefinitions") < len(NAMES) * 10


def test_what_there_is_no_time_for_is_left_to_the_next_run() -> None:
    platform = FakePlatform(
        GetPropertyDefinitions=lambda *_: table(TEMPERATURE), GetPropertySubscriptions=bound
    )
    left = iter([True, True, False])
    found = read(platform, *NAMES, concurrency=1, in_time=lambda: next(left, False))
    assert list(found.things) == NAMES[:2]
    assert found.failed == dict.fromkeys(NAMES[2:], OUT_OF_TIME)


def test_a_thing_that_has_not_changed_keeps_its_edge_names_and_its_owners_mistakes() -> None:
    platform = FakePlatform(
        GetPropertyDefinitions=lambda *_: table(TEMPERATURE, {"name": "key", "baseType": "NOTHING"})
    )
    mistakes = (Mistake("unsupported_type", "gone"), Mistake("push_never", "temp"))
    before = {"temp": Property("NUMBER", "T")}
    found = fetch_definitions(
        platform,
        [Ask("a", None, before, mistakes)],
        CATEGORY,
        bindings=Bindings(platform, each=True),
        concurrency=1,
    )
    assert found.things == {"a": shape_id(before)}
    assert found.mistakes == {"a": [Mistake("unsupported_type", "key"), Mistake("push_never", "temp")]}


def test_a_thing_with_another_property_is_asked_for_its_bindings_again() -> None:
    platform = FakePlatform(
        GetPropertyDefinitions=lambda *_: table(TEMPERATURE), GetPropertySubscriptions=bound
    )
    found = fetch_definitions(
        platform,
        [Ask("a", None, {"temp": Property("STRING", "T")})],
        CATEGORY,
        bindings=Bindings(platform, each=False),
        concurrency=1,
    )
    assert found.things == {"a": shape_id({"temp": Property("NUMBER", "temp")})}


def test_pauses_grow_and_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST", 0.5)
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    assert list(retry.pauses()) == [0.5, 1.0, 2.0]
