"""What is held can be read page by page, oldest first, and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldReading, HeldStore, HeldStoreUnavailable
from tests.aws_mock import HELD_TABLE, aws, create_held_table
from tests.unit.shared.test_held_store import Unwilling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_held_table()


def reading(time: int, thing: str = "pump", **changes: object) -> HeldReading:
    base = HeldReading(
        "parked", thing, time, f"0:{time}#x:0", "not_bound", "refused", "", values="{}", shape="{}"
    )
    return base._replace(**changes)  # type: ignore[arg-type] # fields of it


def held(client: DynamoDBClient, *readings: HeldReading) -> HeldItems:
    HeldStore(HELD_TABLE, client, days=14, per_thing_per_day=10**6, per_day=10**9, threads=1).hold(readings)
    return HeldItems(HELD_TABLE, client, threads=1, sleep=lambda _: None)


def times(items: HeldItems, **options: int) -> list[int]:
    return [item.reading.time for page in items.pages("parked", "pump", 3, **options) for item in page]


def test_a_reading_comes_back_as_it_was_held(client: DynamoDBClient) -> None:
    given = [
        reading(5),
        reading(7, state="unrouted", payload=b"\x00{", values=None, shape=None, topic="dt/pump"),
        reading(9, "", state="rejected", payload=b"", values=None, shape=None),
    ]
    items = held(client, *given)
    found = [items.page(entry.state, entry.thing, 10).items for entry in given]
    assert [[item.reading for item in page] for page in found] == [[entry] for entry in given]


def test_pages_are_in_time_order_and_say_whether_more_follows(client: DynamoDBClient) -> None:
    items = held(client, *(reading(at) for at in (30, 10, 20)), reading(1, "fan"))
    page = items.page("parked", "pump", 2)
    assert ([item.reading.time for item in page.items], page.more) == ([10, 20], True)
    page = items.page("parked", "pump", 2, after=page.items[-1].sk)
    assert ([item.reading.time for item in page.items], page.more) == ([30], False)


def test_a_time_range_includes_both_its_ends(client: DynamoDBClient) -> None:
    items = held(client, *(reading(at) for at in range(10)))
    assert times(items) == list(range(10))
    assert times(items, since=2, until=7) == [2, 3, 4, 5, 6, 7]
    assert times(items, since=9) == [9]
    assert times(items, until=0) == [0]


def test_pages_go_on_where_they_were_though_what_was_read_is_deleted(client: DynamoDBClient) -> None:
    items = held(client, *(reading(at) for at in range(10)))
    found = []
    for page in items.pages("parked", "pump", 3):
        found += [item.reading.time for item in page]
        items.delete(page)
    assert found == list(range(10))
    assert times(items) == []


def test_every_held_reading_is_named_with_its_state_and_thing_but_no_allowance(
    client: DynamoDBClient,
) -> None:
    items = held(client, reading(1), reading(2), reading(3, "a#b", state="unrouted"), reading(4, ""))
    assert sorted(items.partitions()) == [
        ("parked", ""),
        ("parked", "pump"),
        ("parked", "pump"),
        ("unrouted", "a#b"),
    ]


def test_deleting_goes_on_until_all_are_deleted_and_says_when_it_can_not(client: DynamoDBClient) -> None:
    page = held(client, *(reading(at) for at in range(30))).page("parked", "pump", 30).items
    items = HeldItems(HELD_TABLE, Unwilling(client, 10**9, HELD_TABLE), threads=1, sleep=lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(HeldStoreUnavailable):
        items.delete(page)
    items = HeldItems(HELD_TABLE, Unwilling(client, 2, HELD_TABLE), threads=1, sleep=lambda _: None)  # type: ignore[arg-type]
    items.delete(page)
    assert times(items) == []
    items.delete([])
