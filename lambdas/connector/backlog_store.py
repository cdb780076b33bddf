"""Where a connector's backlog is kept: markers in the control table, readings in the held table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lambdas.shared.backlog_markers import marked_things, marker_key
from lambdas.shared.control_table import ControlTable
from lambdas.shared.dynamo import conditional, to_item
from lambdas.shared.held_items import HeldItems, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from lambdas.shared.held_items import HeldItem

__all__ = ["BacklogStore"]

_VERSION = 1


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
        self._control = ControlTable(control_table, client)
        self._items = HeldItems(held_table, client)

    def things(self) -> dict[str, str]:
        """See `Store.things`."""
        return marked_things(self._client, self._table, self._slot)

    def ours(self, thing: str) -> bool:
        """See `Store.ours`."""
        record = self._control.thing(thing)
        return record is not None and record.slot == self._slot

    def mark(self, thing: str, reason: str) -> None:
        """See `Store.mark`."""
        self._client.update_item(
            TableName=self._table,
            Key=marker_key(self._slot, thing),
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
                Key=marker_key(self._slot, thing),
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
