"""Listing: every Thing once, on platforms old and new, however the list moves meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.fetcher import listing
from lambdas.fetcher.listing import Listing, Row, find_things, list_things, packets_of
from lambdas.shared.errors import ThingworxCallFailed, ThingworxError
from lambdas.thingworx.infotable import InfoTable
from tests.unit.fetcher.fake_platform import FakePlatform, rows_of

TAG = "Plant:Line1"


def paged(names: list[str]) -> Any:
    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        start = parameters["offset"]
        return rows_of(*sorted(names)[start : start + parameters["maxItems"]])

    return answer


def missing(status: int = 404, reason: str = "Not Found") -> Any:
    def answer(*_: object) -> InfoTable:
        raise ThingworxCallFailed(status, reason)

    return answer


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 1950, 3217])
def test_every_thing_is_listed_once_and_sorted(count: int) -> None:
    names = [f"Thing {number}" for number in range(count)]
    platform = FakePlatform(QueryImplementingThingsOptimized=paged(names))
    assert list(list_things(platform, TAG).things) == sorted(names)


def test_no_page_relies_on_the_platforms_defaults() -> None:
    platform = FakePlatform(QueryImplementingThingsOptimized=paged(["a"]))
    list_things(platform, TAG)
    _, entity, _, parameters = platform.calls[0]
    assert entity == "GenericThing"
    assert (parameters["tags"], parameters["maxItems"], parameters["offset"]) == (TAG, 1000, 0)
    assert [row["name"] for row in parameters["basicPropertyNames"]["rows"]] == [
        "name",
        "lastModifiedDate",
        "thingTemplate",
    ]
    assert parameters["propertyNames"]["rows"] == []
    assert parameters["query"] == {"sorts": [{"fieldName": "name", "isAscending": True}]}


def test_things_deleted_while_paging_hide_no_other() -> None:
    names = [f"Thing {number:04}" for number in range(2500)]
    left = list(names)
    page = paged(left)

    def answer(entity: str, parameters: dict[str, Any]) -> InfoTable:
        rows: InfoTable = page(entity, parameters)
        del left[: listing.OVERLAP // 2]
        return rows

    found = list_things(FakePlatform(QueryImplementingThingsOptimized=answer), TAG).things
    assert set(left) <= set(found)


@pytest.mark.parametrize("deleted", [51, 300, 1000])
def test_many_things_deleted_between_two_pages_hide_no_other(deleted: int) -> None:
    left = [f"Thing {number:04}" for number in range(2200)]
    page = paged(left)

    def answer(entity: str, parameters: dict[str, Any]) -> InfoTable:
        rows: InfoTable = page(entity, parameters)
        if len(left) == 2200:
            del left[:deleted]
        return rows

    found = list_things(FakePlatform(QueryImplementingThingsOptimized=answer), TAG).things
    assert set(left) <= set(found)


@pytest.mark.parametrize(
    "absent",
    [missing(), missing(500, "No service handler defined for service X on thing GenericThing")],
)
def test_a_platform_without_pages_is_asked_for_the_whole_list(absent: Any) -> None:
    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        assert parameters == {"tags": TAG, "types": {"items": ["Thing"]}, "maxItems": listing.WHOLE}
        return InfoTable(
            {},
            [{"name": "b", "type": "Thing"}, {"name": "M", "type": "Mashup"}, {"name": "a", "type": "Thing"}],
        )

    platform = FakePlatform(QueryImplementingThingsOptimized=absent, SearchModelTags=answer)
    assert list(list_things(platform, TAG).things) == ["a", "b"]


def test_the_oldest_platform_lists_by_type() -> None:
    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        assert parameters == {"type": "Thing", "tags": TAG, "maxItems": listing.WHOLE}
        return rows_of("b", "a")

    platform = FakePlatform(
        QueryImplementingThingsOptimized=missing(), SearchModelTags=missing(), GetEntityList=answer
    )
    assert list(list_things(platform, TAG).things) == ["a", "b"]


def test_a_list_as_long_as_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WHOLE", 2)
    platform = FakePlatform(
        QueryImplementingThingsOptimized=missing(), SearchModelTags=lambda *_: rows_of("a", "b")
    )
    with pytest.raises(ThingworxError, match="there may be more"):
        list_things(platform, TAG)


def test_a_call_that_fails_for_another_reason_is_not_worked_round() -> None:
    platform = FakePlatform(QueryImplementingThingsOptimized=missing(403, "no permission"))
    with pytest.raises(ThingworxCallFailed, match="no permission"):
        list_things(platform, TAG)


def test_the_list_tells_when_a_thing_was_changed_and_its_template() -> None:
    row = {"name": "a", "lastModifiedDate": 7, "thingTemplate": "Pump"}
    platform = FakePlatform(QueryImplementingThingsOptimized=lambda *_: InfoTable({}, [row]))
    assert list_things(platform, TAG).things == {"a": Row(7, "Pump")}


def test_a_platform_that_knows_no_times_is_listed_without_them() -> None:
    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        if len(parameters["basicPropertyNames"]["rows"]) > 1:
            raise ThingworxCallFailed(500, "no such field [lastModifiedDate]")
        return rows_of("a")

    assert list_things(FakePlatform(QueryImplementingThingsOptimized=answer), TAG) == Listing(
        {"a": Row()}, "pages"
    )


def test_the_way_that_worked_last_is_taken_first() -> None:
    platform = FakePlatform(
        QueryImplementingThingsOptimized=missing(), SearchModelTags=missing(), GetEntityList=lambda *_: None
    )
    way = list_things(platform, TAG).way
    asked = len(platform.calls)
    assert list_things(platform, TAG, way).way == way == "by_type"
    assert len(platform.calls) == asked + 1


def test_only_the_named_things_are_looked_for() -> None:
    names = [f"Thing {number}" for number in range(250)]

    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        assert parameters["tags"] == TAG
        values = parameters["query"]["filters"]["values"]
        return rows_of(*(name for name in values if name != "Thing 7"))

    platform = FakePlatform(QueryImplementingThingsOptimized=answer)
    assert set(find_things(platform, TAG, names)) == set(names) - {"Thing 7"}
    assert len(platform.calls) == 3


def test_an_old_platform_is_asked_for_each_name_and_a_wildcard_in_it_finds_no_other() -> None:
    def answer(_: str, parameters: dict[str, Any]) -> InfoTable:
        return rows_of("a%", "ab") if parameters["nameMask"] == "a%" else rows_of()

    platform = FakePlatform(QueryImplementingThingsOptimized=missing(), GetEntityList=answer)
    assert list(find_things(platform, TAG, ["a%", "x"])) == ["a%"]


@given(st.integers(0, 250_000))
def test_packets_cover_all_things_and_are_few(count: int) -> None:
    names = [str(number) for number in range(count)]
    packets = packets_of(names)
    assert 1 <= len(packets) <= 200
    assert all(len(packet) >= 500 for packet in packets[:-1])
    assert [name for packet in packets for name in packet] == names
