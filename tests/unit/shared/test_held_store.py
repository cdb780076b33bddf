"""What the held store keeps, what it drops, and how it takes DynamoDB's refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from lambdas.shared.held_store import PAYLOAD_BYTES, HeldReading, HeldStore, HeldStoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "held"
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
DAY = 86_400


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    with mock_aws():
        client = boto3.client(
            "dynamodb", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        yield client


class Clock:
    """A clock that stands at noon until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


class Unwilling:
    """A client that leaves the second half of each batch unprocessed, so many times."""

    def __init__(self, client: DynamoDBClient, times: int, table: str = TABLE) -> None:
        self._client = client
        self._table = table
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Write the first half, or all of them once it is willing."""
        if not self.times:
            self._client.batch_write_item(RequestItems=RequestItems)
            return {"UnprocessedItems": {}}
        self.times -= 1
        entries = RequestItems[self._table]
        done = entries[: len(entries) // 2]
        if done:
            self._client.batch_write_item(RequestItems={self._table: done})
        return {"UnprocessedItems": {self._table: entries[len(done) :]}}


def make_store(client: Any, **changes: Any) -> HeldStore:
    options: dict[str, Any] = {
        "days": 14,
        "per_thing_per_day": 1000,
        "per_day": 1_000_000,
        "threads": 1,  # the store in memory isn't thread-safe
        "clock": Clock(),
        "sleep": lambda _seconds: None,
    }
    return HeldStore(TABLE, client, **(options | changes))


def reading(number: int, thing: str = "pump-1", **changes: Any) -> HeldReading:
    base = HeldReading(
        state="unrouted",
        thing=thing,
        time=1_700_000_000_000 + number,
        id=f"0:{number}:0",
        reason="unknown_thing",
        detail="no Thing of this name is registered",
        topic=f"dt/{thing}",
        payload=b'{"temp": 1}',
    )
    return base._replace(**changes)


def stored(client: DynamoDBClient, prefix: str = "") -> list[dict[str, Any]]:
    pages = client.get_paginator("scan").paginate(TableName=TABLE)
    items = [item for page in pages for item in page["Items"]]
    return [
        item
        for item in items
        if item["pk"]["S"].startswith(prefix) and (prefix or not item["pk"]["S"].startswith("allowance#"))
    ]


def test_an_item_holds_what_is_documented(client: DynamoDBClient) -> None:
    assert make_store(client).hold([reading(7)]) == {}
    assert stored(client) == [
        {
            "pk": {"S": "unrouted#pump-1"},
            "sk": {"S": "1700000000007#0:7:0#unknown_thing"},
            "v": {"N": "1"},
            "thing": {"S": "pump-1"},
            "reason": {"S": "unknown_thing"},
            "detail": {"S": "no Thing of this name is registered"},
            "topic": {"S": "dt/pump-1"},
            "time": {"N": "1700000000007"},
            "payload": {"B": b'{"temp": 1}'},
            "expires": {"N": str(int(NOON) + 14 * DAY)},
        }
    ]


def test_a_reading_without_a_thing_is_filed_under_a_dash(client: DynamoDBClient) -> None:
    make_store(client).hold([reading(1, thing="", state="rejected", topic="")])
    (item,) = stored(client)
    assert item["pk"]["S"] == "rejected#-"
    assert "thing" not in item
    assert "topic" not in item


def test_times_sort_as_text(client: DynamoDBClient) -> None:
    make_store(client).hold([reading(1), reading(2, time=5)])
    answer = client.query(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "unrouted#pump-1"}},
    )
    assert [item["time"]["N"] for item in answer["Items"]] == ["5", "1700000000001"]


def test_parked_values_are_kept_as_json(client: DynamoDBClient) -> None:
    make_store(client).hold([reading(1, state="parked", payload=None, values='{"temp":1.0}')])
    (item,) = stored(client)
    assert item["values"] == {"S": '{"temp":1.0}'}
    assert "payload" not in item


def test_many_readings_take_many_batches_and_none_is_missing(client: DynamoDBClient) -> None:
    items = [reading(number, thing=f"pump-{number % 7}") for number in range(130)]
    assert make_store(client).hold(items) == {}
    assert {item["sk"]["S"] for item in stored(client)} == {
        f"{1_700_000_000_000 + n}#0:{n}:0#unknown_thing" for n in range(130)
    }


def test_holding_a_reading_twice_leaves_one_item(client: DynamoDBClient) -> None:
    store = make_store(client)
    store.hold([reading(1), reading(1)])
    store.hold([reading(1)])
    assert len(stored(client)) == 1


def test_what_the_router_and_the_platform_refused_of_one_reading_stand_side_by_side(
    client: DynamoDBClient,
) -> None:
    store = make_store(client)
    store.hold([reading(1, state="rejected", reason="value_refused")])
    store.hold([reading(1, state="rejected", reason="refused_as_malformed", payload=None, values="{}")])
    assert sorted(item["reason"]["S"] for item in stored(client)) == ["refused_as_malformed", "value_refused"]


def test_items_left_unprocessed_are_written_again(client: DynamoDBClient) -> None:
    pauses: list[float] = []
    store = make_store(Unwilling(client, times=3), sleep=pauses.append)
    store.hold([reading(number) for number in range(20)])
    assert len(stored(client)) == 20
    assert len(pauses) == 3


def test_a_table_that_never_takes_all_is_an_error_and_not_a_loss(client: DynamoDBClient) -> None:
    store = make_store(Unwilling(client, times=1000))
    with pytest.raises(HeldStoreUnavailable, match="unwritten"):
        store.hold([reading(number) for number in range(3)])


def test_a_thing_beyond_its_allowance_keeps_its_first_readings_and_the_rest_is_counted(
    client: DynamoDBClient,
) -> None:
    store = make_store(client, per_thing_per_day=5)
    assert store.hold([reading(number) for number in range(3)]) == {}
    late = [reading(number, reason="later") for number in range(3, 9)]
    assert store.hold([*late, reading(100, thing="pump-2")]) == {"later": 4}
    assert sorted(item["time"]["N"] for item in stored(client, "unrouted#pump-1")) == [
        str(1_700_000_000_000 + number) for number in range(5)
    ]
    assert len(stored(client, "unrouted#pump-2")) == 1


def test_each_state_of_a_thing_has_its_own_allowance(client: DynamoDBClient) -> None:
    store = make_store(client, per_thing_per_day=1)
    assert store.hold([reading(1), reading(2, state="rejected")]) == {}
    assert len(stored(client)) == 2


def test_all_things_share_the_total_allowance(client: DynamoDBClient) -> None:
    store = make_store(client, per_day=4)
    assert store.hold([reading(number, thing=f"pump-{number}") for number in range(6)]) == {
        "unknown_thing": 2
    }
    assert len(stored(client)) == 4
    assert store.hold([reading(7, thing="pump-7")]) == {"unknown_thing": 1}


def test_several_stores_share_the_allowances_of_the_table(client: DynamoDBClient) -> None:
    assert make_store(client, per_thing_per_day=3).hold([reading(1), reading(2)]) == {}
    assert make_store(client, per_thing_per_day=3).hold([reading(3), reading(4)]) == {"unknown_thing": 1}


def test_a_new_day_brings_new_allowances(client: DynamoDBClient) -> None:
    clock = Clock()
    store = make_store(client, per_thing_per_day=1, clock=clock)
    assert store.hold([reading(1), reading(2)]) == {"unknown_thing": 1}
    clock.now += DAY
    assert store.hold([reading(3)]) == {}


def test_allowances_expire_too_that_of_the_stack_after_everything_it_counted(client: DynamoDBClient) -> None:
    make_store(client).hold([reading(1)])
    allowances = stored(client, "allowance#")
    assert {(item["pk"]["S"], item["sk"]["S"]): item["expires"]["N"] for item in allowances} == {
        ("allowance#unrouted#pump-1", "2026-01-01"): str(int(NOON) + 2 * DAY),
        ("allowance#total", "2026-01-01#unrouted"): str(int(NOON) + 16 * DAY),
    }


def test_copies_of_delivered_readings_take_no_room_from_those_that_wait(client: DynamoDBClient) -> None:
    """One property of the wrong type on a template: every reading goes on, and its value is held."""
    store = make_store(client, per_day=20)
    refused = [reading(n, f"pump-{n}", state="rejected", reason="value_refused") for n in range(30)]
    assert store.hold(refused) == {"value_refused": 10}
    assert store.hold([reading(1, "fan", state="parked", reason="not_bound")]) == {}
    assert store.hold([reading(1, "stranger")]) == {}


def test_tries_that_failed_use_up_nothing(client: DynamoDBClient) -> None:
    store = make_store(Unwilling(client, times=10**6), per_thing_per_day=20, per_day=20)
    batch = [reading(number) for number in range(20)]
    for _ in range(5):
        with pytest.raises(HeldStoreUnavailable):
            store.hold(batch)
    store = make_store(client, per_thing_per_day=20, per_day=20)
    assert store.hold(batch) == {}
    assert len(stored(client)) == 20


def test_a_store_whose_tries_failed_knows_that_there_is_room_again(client: DynamoDBClient) -> None:
    unwilling = Unwilling(client, times=6)
    store = make_store(unwilling, per_thing_per_day=20, per_day=20)
    batch = [reading(number) for number in range(20)]
    with pytest.raises(HeldStoreUnavailable):
        store.hold(batch)
    assert store.hold(batch) == {}


def test_what_is_held_already_is_not_dropped_when_it_comes_again(client: DynamoDBClient) -> None:
    """A connector parks readings and dies before it deletes their message: its successor parks them again."""
    batch = [reading(number, state="parked", reason="not_bound") for number in range(150)]
    assert make_store(client, per_thing_per_day=150).hold(batch) == {}
    more = [*batch, reading(200, state="parked", reason="later")]
    assert make_store(client, per_thing_per_day=150).hold(more) == {"later": 1}
    assert len(stored(client)) == 150


def test_keys_left_unread_are_read_again_and_otherwise_nothing_counts_as_dropped(
    client: DynamoDBClient,
) -> None:
    class Forgetful:
        """Leaves all keys unprocessed, so many times."""

        times = 2

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's
            if self.times:
                self.times -= 1
                return {"Responses": {}, "UnprocessedKeys": RequestItems}
            return dict(client.batch_get_item(RequestItems=RequestItems))

    forgetful = Forgetful()
    assert make_store(client, per_thing_per_day=1).hold([reading(1)]) == {}
    assert make_store(forgetful, per_thing_per_day=1).hold([reading(1), reading(2)]) == {"unknown_thing": 1}
    forgetful.times = 10**6
    with pytest.raises(HeldStoreUnavailable, match="unread"):
        make_store(forgetful, per_thing_per_day=1).hold([reading(1)])


def test_a_store_is_empty_until_something_is_held(client: DynamoDBClient) -> None:
    store = make_store(client)
    assert store.is_empty()
    store.hold([reading(1)])
    assert not store.is_empty()


def test_what_has_no_things_name_has_a_tenth_of_the_stacks_allowance(client: DynamoDBClient) -> None:
    store = make_store(client, per_thing_per_day=2, per_day=50)
    nameless = [reading(number, "", state="rejected", reason="no_thing") for number in range(7)]
    assert store.hold(nameless) == {"no_thing": 2}
    named = [reading(number, "pump-1", state="rejected", reason="not_json") for number in range(7)]
    assert store.hold(named) == {"not_json": 5}


def test_the_allowance_of_what_has_no_name_is_never_below_that_of_a_thing(client: DynamoDBClient) -> None:
    store = make_store(client, per_thing_per_day=5, per_day=10)
    nameless = [reading(number, "", state="rejected", reason="no_thing") for number in range(7)]
    assert store.hold(nameless) == {"no_thing": 2}


def test_it_is_told_of_each_reading_whether_it_is_stored(client: DynamoDBClient) -> None:
    store = make_store(client, per_thing_per_day=2)
    assert store.hold_each([reading(1), reading(2), reading(3), reading(1)]) == [True, True, False, True]
    assert make_store(client, per_thing_per_day=2).hold_each([reading(4), reading(2)]) == [False, True]
    assert store.hold_each([]) == []


def test_a_used_up_allowance_costs_no_further_write(client: DynamoDBClient) -> None:
    store = make_store(client, per_thing_per_day=1)
    store.hold([reading(1), reading(2)])
    used = stored(client, "allowance#unrouted#")
    store.hold([reading(3)])
    assert stored(client, "allowance#unrouted#") == used


def test_a_huge_payload_is_cut_and_the_detail_says_so(client: DynamoDBClient) -> None:
    make_store(client).hold([reading(1, payload=b"x" * (PAYLOAD_BYTES + 1), detail="d" * 5000)])
    (item,) = stored(client)
    assert len(item["payload"]["B"]) == PAYLOAD_BYTES
    assert f"of {PAYLOAD_BYTES + 1} bytes are stored" in item["detail"]["S"]
    assert len(item["detail"]["S"]) < 1100


def test_nothing_to_hold_asks_nothing_of_dynamodb() -> None:
    assert make_store(object()).hold([]) == {}
