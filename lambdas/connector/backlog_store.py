"""Where a connector's backlog is kept: markers in the control table, readings in the held table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.held_items import HeldItems, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from lambdas.shared.held_items import HeldItem

__all__ = ["BacklogStore", "marked_things"]

_VERSION = 1


def marked_things(client: DynamoDBClient, table: str, slot: str) -> dict[str, str]:
    """Things of a slot that have parked readings, and why they were parked; a consistent read."""
    request: dict[str, Any] = {
        "TableName": table,
        "ConsistentRead": True,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": to_item({":pk": _pk(slot)}),
    }
    marked: dict[str, str] = {}
    while True:
        answer = client.query(**request)
        items = map(from_item, answer["Items"])
        marked.update((item["sk"], item["reason"]) for item in items)
        if "LastEvaluatedKey" not in answer:
            return marked
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


class BacklogStore:
    """See `lambdas.connector.backlog.Store`.

    Args:
        client: boto3 DynamoDB client.
        control_table: its name.
        held_table: its name.
        slot: slot id.
        owner: name of this invocation, unique for ever.
    """

    def __init__(
        self, client: DynamoDBClient, *, control_table: str, held_table: str, slot: str, owner: str
    ) -> None:
        self._client = client
        self._table = control_table
        self._slot = slot
        self._owner = owner
        self._items = HeldItems(held_table, client)

    def things(self) -> dict[str, str]:
        """See `Store.things`."""
        return marked_things(self._client, self._table, self._slot)

    def mark(self, thing: str, reason: str) -> None:
        """See `Store.mark`."""
        self._client.update_item(
            TableName=self._table,
            Key=self._key(thing),
            UpdateExpression="SET #v = :v, #owner = :me, #reason = :reason,"
            " #since = if_not_exists(#since, :now)",
            ExpressionAttributeNames={"#v": "v", "#owner": "owner", "#reason": "reason", "#since": "since"},
            ExpressionAttributeValues=to_item(
                {":v": _VERSION, ":me": self._owner, ":reason": reason, ":now": time.time_ns() // 1_000_000}
            ),
        )

    def unmark(self, thing: str) -> None:
        """See `Store.unmark`."""
        with conditional(f"remove the marker of {thing}"):
            self._client.delete_item(
                TableName=self._table,
                Key=self._key(thing),
                ConditionExpression="attribute_not_exists(pk) OR #owner = :me",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues=to_item({":me": self._owner}),
            )

    def oldest(self, thing: str, limit: int) -> Page:
        """See `Store.oldest`."""
        return self._items.page("parked", thing, limit)

    def delete(self, items: Sequence[HeldItem]) -> None:
        """See `Store.delete`."""
        self._items.delete(items)

    def _key(self, thing: str) -> dict[str, dict[str, Any]]:
        return to_item({"pk": _pk(self._slot), "sk": thing})


def _pk(slot: str) -> str:
    return f"backlog#{slot}"
