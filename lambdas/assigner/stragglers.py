"""Things of which readings may have been held just while they were published."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.held_store import BATCH, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Stragglers"]

_VERSION = 1
_PK = "stragglers"
#: A large fleet becomes known all at once.
_THREADS = 8


class Stragglers:
    """A list of Things that outlives a run.

    Args:
        table: name of the control table.
        client: boto3 DynamoDB client.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table = table
        self._client = client

    def since(self) -> dict[str, int]:
        """The Things, and when each was added, milliseconds since 1970."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": to_item({":pk": _PK}),
        }
        found: dict[str, int] = {}
        while True:
            answer = self._client.query(**request)
            found.update((item["sk"], item["since"]) for item in map(from_item, answer["Items"]))
            if "LastEvaluatedKey" not in answer:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def add(self, things: Iterable[str]) -> None:
        """Add Things; one that is there counts as added now."""
        now = time.time_ns() // 1_000_000
        self._write(
            [
                {"PutRequest": {"Item": to_item({"pk": _PK, "sk": thing, "v": _VERSION, "since": now})}}
                for thing in sorted(things)
            ]
        )

    def remove(self, things: Iterable[str]) -> None:
        """Forget Things."""
        self._write(
            [{"DeleteRequest": {"Key": to_item({"pk": _PK, "sk": thing})}} for thing in sorted(things)]
        )

    def _write(self, requests: list[Any]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda part: write_batch(self._client, self._table, part), chunks(requests, BATCH)))
