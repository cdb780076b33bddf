"""Presence of a slot's Things in the control table, so that a successor binds the same set right away."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from lambdas.connector.presence_record import Record
from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["PresenceStore"]

_VERSION = 1
#: The most that BatchWriteItem takes.
_BATCH = 25
_TRIES = 5


class PresenceStore:
    """Items `presence#{slot}` / thing. Methods block.

    Args:
        client: boto3 DynamoDB client.
        table: control table.
        slot: slot id.
        owns: whether the slot is still ours; asked before each write, since none of them is conditional.
    """

    def __init__(self, client: DynamoDBClient, table: str, slot: str, owns: Callable[[], bool]) -> None:
        self._client = client
        self._table = table
        self._pk = f"presence#{slot}"
        self._owns = owns

    def load(self) -> list[Record]:
        """All records of the slot."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": to_item({":pk": self._pk}),
        }
        records: list[Record] = []
        while True:
            page = self._client.query(**request)
            records += [_record(from_item(item)) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return records
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def save(self, records: Sequence[Record], forgotten: Sequence[str]) -> None:
        """Write records, and remove those of Things that have left the slot.

        Raises:
            ConnectorError: the slot isn't ours any more; or DynamoDB kept leaving some unwritten.
            ClientError: as boto3's.
        """
        writes: list[Any] = [{"PutRequest": {"Item": self._item(record)}} for record in records]
        writes += [{"DeleteRequest": {"Key": to_item({"pk": self._pk, "sk": name})}} for name in forgotten]
        for batch in chunks(writes, _BATCH):
            self._write(batch)

    def _write(self, batch: Sequence[Any]) -> None:
        left: Mapping[str, Sequence[Any]] = {self._table: batch}
        for number in range(_TRIES):
            if not self._owns():
                raise ConnectorError("presence is not stored: the slot isn't ours any more")
            left = self._client.batch_write_item(RequestItems=left).get("UnprocessedItems", {})
            if not left:
                return
            time.sleep(random.uniform(0, 0.05 * 2**number))
        raise ConnectorError(f"{len(left[self._table])} presence records left unwritten by DynamoDB")

    def _item(self, record: Record) -> dict[str, Any]:
        fields = record._asdict()
        return to_item({"pk": self._pk, "sk": fields.pop("thing"), "v": _VERSION} | fields)


def _record(item: dict[str, Any]) -> Record:
    known = {name: item[name] for name in Record._fields if name in item}
    return Record(item["sk"], **known)
