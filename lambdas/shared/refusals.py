"""Things whose bind ThingWorx refuses: told by the connector of their slot, read for a run's report.

One item a slot, replaced as a whole, so that nothing has to be taken back one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.dynamo import from_item, to_item

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Refusals"]

_PK = "refused"
_VERSION = 1
#: Bounds of an item, far below DynamoDB's 400 KB; so many show the trouble.
_THINGS, _LETTERS = 200, 300


class Refusals:
    """Items `refused` / slot id of the control table.

    Args:
        table: name of the control table.
        client: boto3 DynamoDB client.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table = table
        self._client = client

    def tell(self, slot_id: str, refused: Mapping[str, str]) -> None:
        """Replace what is told of a slot: Thing name -> reason; the first 200 by name."""
        things = {name: refused[name][:_LETTERS] for name in sorted(refused)[:_THINGS]}
        self._client.update_item(
            TableName=self._table,
            Key=to_item({"pk": _PK, "sk": slot_id}),
            UpdateExpression="SET v = :v, things = :things",
            ExpressionAttributeValues=to_item({":v": _VERSION, ":things": things}),
        )

    def of(self, slot_ids: Collection[str]) -> dict[str, str]:
        """Refused Things of these slots: name -> reason, by name."""
        found: dict[str, str] = {}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": _PK}),
        )
        for page in pages:
            for item in map(from_item, page["Items"]):
                if item["sk"] in slot_ids:
                    found.update(item["things"])
        return dict(sorted(found.items()))
