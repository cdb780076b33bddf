"""What a connector leaves to its successor: only what ThingWorx can't tell it, and only what changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from botocore.exceptions import ClientError

from lambdas.connector.kept_values import Kept, KeptValues, ValuesTable
from lambdas.connector.push_times import LastTime
from lambdas.shared.dynamo import to_item
from lambdas.thingworx.infotable import ValueRow
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

Rows = dict[str, dict[str, ValueRow]]


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_control_table()


def table(client: DynamoDBClient, slot: str = "1") -> ValuesTable:
    return ValuesTable(client, CONTROL_TABLE, slot)


def row(name: str, value: Any = 1.5, at: int = 10, base_type: str = "NUMBER") -> ValueRow:
    return ValueRow(name, base_type, value, at)


def leave(
    values: KeptValues,
    unseen: Rows,
    newest: Rows | None = None,
    *,
    ahead: Mapping[str, Any] | None = None,
    lags: Mapping[str, int] | None = None,
    last: Mapping[str, Mapping[str, LastTime]] | None = None,
) -> None:
    known = newest if newest is not None else unseen
    asyncio.run(values.leave(unseen, lambda thing: known.get(thing, {}), ahead or {}, lags or {}, last or {}))


class Counting(ValuesTable):
    """Remembers what is written."""

    def __init__(self, client: DynamoDBClient) -> None:
        super().__init__(client, CONTROL_TABLE, "1")
        self.written: list[dict[str, Kept]] = []
        self.last: list[Mapping[str, Mapping[str, LastTime]]] = []

    def write(self, things: Mapping[str, Kept]) -> None:
        """As the table's."""
        self.written.append(dict(things))
        super().write(things)

    def write_last(self, last: Mapping[str, Mapping[str, LastTime]]) -> None:
        """As the table's."""
        self.last.append(last)
        super().write_last(last)


def test_a_successor_reads_what_was_left_for_its_slot(client: DynamoDBClient) -> None:
    unseen = {"pump": {"a": row("a"), "b": row("b", {"x": [1, None]}, base_type="JSON")}}
    leave(KeptValues(table(client)), unseen, ahead={"fan": {"c": 99}}, lags={"fan": 5000, "tank": 60_000})
    successor = KeptValues(table(client))
    assert asyncio.run(successor.of("pump")) == Kept(unseen["pump"], {})
    assert asyncio.run(KeptValues(table(client)).of("fan")) == Kept({}, {"c": 99}, 5000)
    assert asyncio.run(KeptValues(table(client)).of("tank")) == Kept({}, {}, 60_000)
    assert not asyncio.run(KeptValues(table(client)).of("stranger"))
    assert not asyncio.run(KeptValues(table(client, "11")).all())


def test_values_of_which_nothing_newer_came_stay_for_the_next_successor(client: DynamoDBClient) -> None:
    leave(KeptValues(table(client)), {"pump": {"a": row("a"), "b": row("b")}, "fan": {"a": row("a")}})
    leave(KeptValues(table(client)), {}, {"pump": {"b": row("b", 2.0, 20)}})
    left = asyncio.run(KeptValues(table(client)).all())
    assert left == {"pump": Kept({"a": row("a")}, {}), "fan": Kept({"a": row("a")}, {})}


def test_what_was_read_before_the_slot_was_ours_is_read_again(client: DynamoDBClient) -> None:
    async def scenario() -> None:
        waiting = KeptValues(table(client))
        assert not await waiting.of("pump")
        unseen = {"pump": {"a": row("a")}}
        await KeptValues(table(client)).leave(unseen, unseen.__getitem__, {}, {}, {})
        waiting.forget()
        assert await waiting.of("pump") == Kept(unseen["pump"], {})

    asyncio.run(scenario())


def test_a_slot_is_read_as_it_was_last_written(client: DynamoDBClient) -> None:
    consistent = []

    def note(params: dict[str, Any], **_: Any) -> None:
        consistent.append(params.get("ConsistentRead"))

    client.meta.events.register("provide-client-params.dynamodb.Query", note)
    assert table(client).read() == {}
    assert consistent == [True]


def test_what_dynamodb_leaves_unwritten_is_written_again(client: DynamoDBClient) -> None:
    class Throttled:
        """Leaves the first item of the first write unwritten."""

        times = 1

        def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's
            [(name, requests)] = RequestItems.items()
            if self.times:
                self.times -= 1
                client.batch_write_item(RequestItems={name: requests[1:]})
                return {"UnprocessedItems": {name: requests[:1]}}
            client.batch_write_item(RequestItems=RequestItems)
            return {}

    stand_in: Any = Throttled()
    kept = {name: Kept({}, {"c": 99}) for name in ("fan", "pump", "tank")}
    ValuesTable(stand_in, CONTROL_TABLE, "1").write(kept)
    assert table(client).read() == kept


def test_a_successor_reads_the_last_times_and_no_item_stays_for_those_that_are_over(
    client: DynamoDBClient,
) -> None:
    last = {"pump": {"a": LastTime(1000, 1002, 1.5), "b": LastTime(1000, 1000, "on")}, "fan": {}}
    last["fan"]["a"] = LastTime(2000, 2001)
    leave(KeptValues(table(client)), {"pump": {"a": row("a")}}, last=last)
    counting = Counting(client)
    assert asyncio.run(KeptValues(counting).all()) == {
        "pump": Kept({"a": row("a")}, {}, 0, last["pump"]),
        "fan": Kept({}, {}, 0, last["fan"]),
    }
    values = KeptValues(counting)
    for left in (last, {"pump": last["pump"]}, {"pump": last["pump"]}):
        leave(values, {}, last=left)
    assert not counting.written
    assert counting.last == [{"pump": last["pump"]}]
    assert set(table(client).read()) == {"pump"}
    leave(KeptValues(counting), {}, last={})
    assert table(client).read() == {"pump": Kept({"a": row("a")}, {})}
    assert len(client.scan(TableName=CONTROL_TABLE)["Items"]) == 1


def test_an_item_of_a_release_without_last_times_is_read(client: DynamoDBClient) -> None:
    item = {"pk": "values#1", "sk": "pump", "v": 1, "properties": '{"values":{},"times":{"c":99},"lag":5000}'}
    client.put_item(TableName=CONTROL_TABLE, Item=to_item(item))
    assert table(client).read() == {"pump": Kept({}, {"c": 99}, 5000)}


def test_a_release_without_last_times_finds_all_it_knows(client: DynamoDBClient) -> None:
    leave(KeptValues(table(client)), {}, ahead={"pump": {"c": 99}}, last={"fan": {"a": LastTime(1000, 1001)}})
    for item in client.scan(TableName=CONTROL_TABLE)["Items"]:
        document = orjson.loads(item["properties"]["S"])
        assert item["v"] == {"N": "1"}
        assert document["values"] == {}
        assert document["times"] == ({"c": 99} if item["sk"]["S"] == "pump" else {})
        assert document.get("lag", 0) == 0


def test_an_item_of_a_release_without_lags_is_read(client: DynamoDBClient) -> None:
    item = {"pk": "values#1", "sk": "pump", "v": 1, "properties": '{"values":{},"times":{"c":99}}'}
    client.put_item(TableName=CONTROL_TABLE, Item=to_item(item))
    assert table(client).read() == {"pump": Kept({}, {"c": 99})}


def test_what_holds_no_more_is_deleted(client: DynamoDBClient) -> None:
    leave(KeptValues(table(client)), {"pump": {"a": row("a")}}, ahead={"fan": {"c": 99}})
    leave(KeptValues(table(client)), {}, {"pump": {"a": row("a", 2.0, 20)}})
    assert not asyncio.run(KeptValues(table(client)).all())
    assert not client.scan(TableName=CONTROL_TABLE)["Items"]


def test_only_what_changed_since_is_written(client: DynamoDBClient) -> None:
    counting = Counting(client)

    async def scenario() -> None:
        values = KeptValues(counting)
        unseen = {f"pump-{number}": {"a": row("a")} for number in range(60)}
        await values.leave(unseen, unseen.__getitem__, {}, {}, {})
        unseen["pump-7"] = {"a": row("a", 2.0, 20)}
        await values.leave(unseen, unseen.__getitem__, {}, {}, {})
        await values.leave(unseen, unseen.__getitem__, {}, {}, {})

    asyncio.run(scenario())
    assert [len(things) for things in counting.written] == [60, 1]
    assert len(table(client).read()) == 60


def test_too_many_values_for_an_item_lose_the_oldest(client: DynamoDBClient) -> None:
    big = "x" * 100_000
    rows = {name: row(name, big, at, "STRING") for at, name in enumerate("abcde")}
    leave(KeptValues(table(client)), {"pump": rows})
    assert sorted(asyncio.run(KeptValues(table(client)).of("pump")).values) == ["c", "d", "e"]


def test_last_times_of_many_properties_are_in_few_items(client: DynamoDBClient) -> None:
    def many(number: int) -> dict[str, dict[str, LastTime]]:
        return {
            f"pump-{thing}": {f"{edge:0100}": LastTime(edge * 1000, edge * 1000) for edge in range(number)}
            for thing in range(3)
        }

    for number in (2500, 100):  # the surplus of before counts no more
        leave(KeptValues(table(client)), {}, last=many(number))
        assert {thing: kept.last for thing, kept in table(client).read().items()} == many(number)
        assert len(client.scan(TableName=CONTROL_TABLE)["Items"]) == 4


def test_a_read_that_failed_is_tried_again(client: DynamoDBClient) -> None:
    class Failing(ValuesTable):
        failures = 1

        def read(self) -> dict[str, Kept]:
            """As the table's."""
            if self.failures:
                self.failures -= 1
                raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Query")
            return super().read()

    async def scenario() -> None:
        values = KeptValues(Failing(client, CONTROL_TABLE, "1"))
        with pytest.raises(ClientError):
            await values.of("pump")
        assert not await values.of("pump")

    asyncio.run(scenario())
