"""Presence in the control table: what one connector stores the next one loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector.presence_record import Record
from lambdas.connector.presence_store import PresenceStore
from lambdas.shared.errors import ConnectorError
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def dynamodb() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_control_table()


def store(client: Any, slot: str = "1", *, owned: bool = True) -> PresenceStore:
    return PresenceStore(client, CONTROL_TABLE, slot, lambda: owned)


def records(count: int) -> list[Record]:
    return [
        Record(f"pump-{number:04d}", connected=bool(number % 2), version=number) for number in range(count)
    ]


def test_what_is_saved_is_loaded(dynamodb: DynamoDBClient) -> None:
    saved = [
        Record("unknown"),
        Record("pump", True, 7, 1_800_000_000_000, "gateway", 5, 6, 7, True, False),  # noqa: FBT003 - in order
        Record("fan", False, None, 1, "fan"),  # noqa: FBT003 - in order
    ]
    store(dynamodb).save(saved, [])
    assert sorted(store(dynamodb).load()) == sorted(saved)


def test_a_whole_slot_is_saved_and_loaded_and_others_are_left_alone(dynamodb: DynamoDBClient) -> None:
    store(dynamodb, "2").save(records(3), [])
    store(dynamodb).save(records(1000), [])
    assert sorted(store(dynamodb).load()) == records(1000)
    assert sorted(store(dynamodb, "2").load()) == records(3)


def test_a_successor_reads_every_page_as_it_was_last_written(dynamodb: DynamoDBClient) -> None:
    consistent = []

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        consistent.append(params.get("ConsistentRead"))
        params["Limit"] = 10

    store(dynamodb).save(records(25), [])
    dynamodb.meta.events.register("provide-client-params.dynamodb.Query", small_pages)
    assert sorted(store(dynamodb).load()) == records(25)
    assert consistent == [True] * 3


def test_a_thing_that_left_the_slot_is_removed(dynamodb: DynamoDBClient) -> None:
    store(dynamodb).save(records(3), [])
    store(dynamodb).save([], ["pump-0001", "never-there"])
    assert {record.thing for record in store(dynamodb).load()} == {"pump-0000", "pump-0002"}


def test_who_lost_the_slot_writes_nothing(dynamodb: DynamoDBClient) -> None:
    with pytest.raises(ConnectorError, match="isn't ours"):  # or the events' messages would be deleted
        store(dynamodb, owned=False).save(records(3), [])
    assert store(dynamodb).load() == []


class Throttled:
    """A table that leaves the last item of each write unwritten, as often as it is told to."""

    def __init__(self, client: DynamoDBClient, times: int) -> None:
        self._client = client
        self._times = times

    def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """As boto3's."""
        [(table, writes)] = RequestItems.items()
        if not self._times:
            self._client.batch_write_item(RequestItems=RequestItems)
            return {}
        self._times -= 1
        if writes[:-1]:
            self._client.batch_write_item(RequestItems={table: writes[:-1]})
        return {"UnprocessedItems": {table: writes[-1:]}}


def test_what_dynamodb_leaves_unwritten_is_written_again(dynamodb: DynamoDBClient) -> None:
    store(Throttled(dynamodb, 2)).save(records(30), [])
    assert sorted(store(dynamodb).load()) == records(30)


def test_a_write_that_never_succeeds_is_told(dynamodb: DynamoDBClient) -> None:
    with pytest.raises(ConnectorError):
        store(Throttled(dynamodb, 99)).save(records(30), [])


class Page:
    """A table with one item."""

    def __init__(self, item: dict[str, Any]) -> None:
        self._item = item

    def query(self, **_: Any) -> dict[str, Any]:
        """As boto3's."""
        return {"Items": [self._item]}


@given(
    st.builds(
        Record,
        thing=st.text(min_size=1),
        connected=st.none() | st.booleans(),
        version=st.none() | st.integers(0, 2**53),
        time=st.integers(0, 2**53),
        client=st.text(),
        spoke=st.integers(0, 2**53),
        bound=st.booleans(),
        told=st.none() | st.booleans(),
    )
)
def test_every_record_comes_back_as_it_was(record: Record) -> None:
    item = store(None)._item(record)
    assert store(Page(item)).load() == [record]
    later = item | {"something_new": {"S": "of a later release"}}
    assert store(Page(later)).load() == [record]
