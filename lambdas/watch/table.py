"""What the watch function keeps on the slots' items, beside what everybody reads of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.control_table import Slot, slot_from_item
from lambdas.shared.dynamo import conditional, from_item, to_item

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["WatchTable", "WatchedSlot"]

#: Partitions of a slot's own, by Thing: they go with it.
_OF_A_SLOT = ("presence", "values", "backlog")


class WatchedSlot(NamedTuple):
    """A slot as the watch function sees it; times in milliseconds since 1970 UTC, 0 when not so.

    Attributes:
        slot: what everybody reads.
        empty_since: when it was first seen without Things.
        draining_since: when it began to drain.
        unrouted_since: when what is published was first seen not to name it.
        quiet_readings: how often in a row its queue was read empty.
        read_at: when it was last read so.
        unserved_since: when it was first seen without a live lease.
        restarts: how often in a row its connector was started again.
    """

    slot: Slot
    empty_since: int = 0
    draining_since: int = 0
    unrouted_since: int = 0
    quiet_readings: int = 0
    read_at: int = 0
    unserved_since: int = 0
    restarts: int = 0


class WatchTable:
    """Reads and conditional writes of the control table; usable from many threads.

    Args:
        table: table name.
        client: boto3 DynamoDB client.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table = table
        self._client = client

    def slots(self) -> list[WatchedSlot]:
        """All slots in the order of their ids."""
        query = self._query("pk = :pk", {":pk": "slots"}, ConsistentRead=True)
        found = [_watched(item) for item in self._items(query)]
        return sorted(found, key=lambda watched: int(watched.slot.id))

    def has_things(self, slot_id: str) -> bool:
        """Whether any Thing's record names the slot; an index answers, about a second behind the writes."""
        query = self._query("slot = :slot", {":slot": slot_id}, IndexName="by_slot", Limit=1)
        return bool(self._client.query(**query)["Items"])

    def backlogs(self, slot_id: str) -> int:
        """How many Things of the slot have parked readings that wait."""
        query = self._query("pk = :pk", {":pk": f"backlog#{slot_id}"}, Select="COUNT")
        return sum(page["Count"] for page in self._client.get_paginator("query").paginate(**query))

    def change(self, slot_id: str, was: str, /, **values: Any) -> None:
        """Write values to a slot whose state is still `was`; None takes one away.

        Raises:
            Conflict: it is in another state, or gone.
        """
        kept = {name: value for name, value in values.items() if value is not None}
        gone = [f"#{name}" for name in values if name not in kept]
        parts = ["SET " + ", ".join(f"#{name} = :{name}" for name in kept)] if kept else []
        parts += ["REMOVE " + ", ".join(gone)] if gone else []
        with conditional(f"change slot {slot_id}"):
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": "slots", "sk": slot_id}),
                UpdateExpression=" ".join(parts),
                ConditionExpression="#state = :was",
                ExpressionAttributeNames={f"#{name}": name for name in {*values, "state"}},
                ExpressionAttributeValues=to_item(
                    {":was": was} | {f":{name}": value for name, value in kept.items()}
                ),
            )

    def delete(self, slot_id: str) -> None:
        """Delete a stopping slot: the items of its own first, so that a lost try is made up for.

        Raises:
            Conflict: it isn't stopping any more.
        """
        for kind in _OF_A_SLOT:
            query = self._query("pk = :pk", {":pk": f"{kind}#{slot_id}"}, ProjectionExpression="pk, sk")
            for item in self._items(query):
                self._client.delete_item(TableName=self._table, Key=to_item(item))
        with conditional(f"delete slot {slot_id}"):
            self._client.delete_item(
                TableName=self._table,
                Key=to_item({"pk": "slots", "sk": slot_id}),
                ConditionExpression="attribute_not_exists(pk) OR #state = :stopping",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=to_item({":stopping": "stopping"}),
            )

    def _query(self, condition: str, values: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": to_item(values),
            **options,
        }

    def _items(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator("query").paginate(**query):
            yield from map(from_item, page["Items"])


def _watched(item: Mapping[str, Any]) -> WatchedSlot:
    own = {name: item[name] for name in WatchedSlot._fields[1:] if name in item}
    return WatchedSlot(slot_from_item(item), **own)
