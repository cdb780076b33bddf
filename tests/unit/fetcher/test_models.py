"""Templates and shapes: the times of their changes, where the platform tells them, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.fetcher.listing import Row
from lambdas.fetcher.models import Models, read_models, stamps_of_things
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.infotable import InfoTable
from tests.unit.fetcher.fake_platform import FakePlatform

TAG = "Plant:Line1"
PUMP = {"type": "ThingTemplate", "name": "Pump", "parentName": "RemoteThing", "lastModifiedDate": 1}
WET = {"type": "ThingShape", "name": "Wet", "lastModifiedDate": 2}


def answer(*rows: dict[str, Any]) -> Any:
    return lambda *_: InfoTable({}, list(rows))


def missing(*_: object) -> InfoTable:
    raise ThingworxCallFailed(404, "Not Found")


def test_all_templates_and_shapes_come_in_one_call() -> None:
    other = {"type": "Mashup", "name": "M", "lastModifiedDate": 3}
    platform = FakePlatform(SpotlightSearchV2=answer(PUMP, WET, other))
    models = read_models(platform)
    assert models == Models({"ThingTemplate/Pump": 1, "ThingShape/Wet": 2}, {"Pump": "RemoteThing"})
    assert len(platform.calls) == 1
    assert platform.calls[0][3]["maxItems"] == 1_000_000


def test_an_older_platform_is_asked_by_the_older_search() -> None:
    models = read_models(FakePlatform(SpotlightSearchV2=missing, SpotlightSearch=answer(WET)))
    assert models == Models({"ThingShape/Wet": 2}, {})


@pytest.mark.parametrize(
    "platform",
    [
        FakePlatform(SpotlightSearchV2=missing, SpotlightSearch=missing),
        FakePlatform(SpotlightSearchV2=answer(PUMP, {"type": "ThingShape", "name": "Wet"})),
    ],
)
def test_a_platform_that_tells_no_times_tells_nothing(platform: FakePlatform) -> None:
    assert read_models(platform) is None


def test_a_platform_that_is_busy_is_not_one_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> InfoTable:
        raise ThingworxUnavailable("503")

    monkeypatch.setattr("lambdas.fetcher.retry._FIRST", 0.0)
    with pytest.raises(ThingworxUnavailable):
        read_models(FakePlatform(SpotlightSearchV2=busy))


@pytest.mark.parametrize(
    ("templates", "covered"),
    [
        (["Big"], True),
        (["RemoteThing", "GenericThing"], True),
        (["Hidden"], False),
        (["Small"], False),
        ([], True),
    ],
)
def test_a_template_counts_as_seen_with_all_it_is_derived_from(templates: list[str], covered: bool) -> None:  # noqa: FBT001 - a case
    models = Models({}, {"Big": "Pump", "Pump": "RemoteThing", "Small": "Hidden"})
    assert models.cover(templates) is covered


def test_times_that_the_list_does_not_tell_are_searched_for() -> None:
    found = [{"type": "Thing", "name": "a", "lastModifiedDate": 5, "parentName": "Pump"}]
    platform = FakePlatform(SpotlightSearchV2=answer(*found))
    listed = {"a": Row(), "b": Row(None, "Fan"), "c": Row(7, "Fan")}
    assert stamps_of_things(platform, TAG, listed) == {
        "a": Row(5, "Pump"),
        "b": Row(None, "Fan"),
        "c": Row(7, "Fan"),
    }


def test_nothing_is_searched_for_when_the_list_tells_all() -> None:
    listed = {"a": Row(1, "Pump")}
    assert stamps_of_things(FakePlatform(), TAG, listed) == listed
