"""What is remembered of parcels that may have ended a connector: items `trial#{slot}` of the held table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.held_store import write_batch

if TYPE_CHECKING:
    from collections.abc import Collection

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Trial", "Trials"]

_VERSION = 1
#: Longer than SQS keeps a message.
_KEPT_SECONDS = 15 * 86_400


class Trial(NamedTuple):
    """A suspicious parcel.

    Attributes:
        tries: how often it was begun and not ended, this time included.
        at: id of the reading that was alone at work when it was last heard of; None when none was.
        convicted: ids of readings that were held as the ones that crash a connector.
    """

    tries: int
    at: str | None
    convicted: frozenset[str]


class Trials:
    """Begins and ends trials; every method blocks.

    Args:
        client: boto3 DynamoDB client.
        table: name of the held table, which forgets items by itself.
        slot: slot id.
    """

    def __init__(self, client: DynamoDBClient, table: str, slot: str) -> None:
        self._client = client
        self._table = table
        self._pk = f"trial#{slot}"

    def begin(self, message_id: str) -> Trial:
        """Count a try; what is known from those before."""
        answer = self._update(
            message_id,
            "ADD #tries :one SET #v = :v, #expires = :expires",
            {":one": 1, ":v": _VERSION, ":expires": int(time.time()) + _KEPT_SECONDS},
        )
        item = from_item(answer)
        return Trial(item["tries"], item.get("at"), frozenset(orjson.loads(item.get("convicted", "[]"))))

    def at(self, message_id: str, reading_id: str | None) -> None:
        """Note the reading that is alone at work from now on; None: none is."""
        if reading_id is None:
            self._update(message_id, "REMOVE #at", {})
        else:
            self._update(message_id, "SET #at = :at", {":at": reading_id})

    def convict(self, message_id: str, convicted: Collection[str]) -> None:
        """Note all readings of a parcel that are left out from now on."""
        text = orjson.dumps(sorted(convicted)).decode()
        self._update(message_id, "SET #convicted = :convicted REMOVE #at", {":convicted": text})

    def end(self, message_id: str) -> None:
        """Forget a parcel: it was settled, or put back in good order."""
        key = {"DeleteRequest": {"Key": to_item({"pk": self._pk, "sk": message_id})}}
        write_batch(self._client, self._table, [key])

    def _update(self, message_id: str, update: str, values: dict[str, Any]) -> dict[str, Any]:
        names = ("tries", "v", "expires", "at", "convicted")
        request: dict[str, Any] = {"ExpressionAttributeValues": to_item(values)} if values else {}
        answer = self._client.update_item(
            TableName=self._table,
            Key=to_item({"pk": self._pk, "sk": message_id}),
            UpdateExpression=update,
            # DynamoDB refuses names that the expression doesn't use.
            ExpressionAttributeNames={f"#{name}": name for name in names if f"#{name} " in f"{update} "},
            ReturnValues="ALL_NEW",
            **request,
        )
        return answer["Attributes"]
