"""The breaker's record in the control table: one item that all connectors of a stack share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lambdas.thingworx.breaker import Tripped

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["ControlTableBreaker"]

_KEY = {"pk": {"S": "breaker"}, "sk": {"S": "breaker"}}


class ControlTableBreaker:
    """A `BreakerStore`: item `breaker`/`breaker` with `until` and `version`; no `until`, no record.

    Args:
        client: boto3 DynamoDB client.
        table: control table.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def read(self) -> Tripped | None:
        """See `BreakerStore.read`."""
        item = self._client.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True).get("Item", {})
        if "until" not in item:
            return None
        return Tripped(int(item["until"]["N"]), item["version"]["S"])

    def replace(self, before: Tripped | None, after: Tripped | None) -> bool:
        """See `BreakerStore.replace`."""
        names = {"#until": "until", "#version": "version"}
        values: dict[str, Any] = {}
        if before is None:
            condition = "attribute_not_exists(#until)"
        else:
            condition = "#until = :was_until AND #version = :was_version"
            values |= {":was_until": {"N": str(before.until)}, ":was_version": {"S": before.version}}
        if after is None:
            update = "REMOVE #until, #version"
        else:
            update = "SET #until = :until, #version = :version"
            values |= {":until": {"N": str(after.until)}, ":version": {"S": after.version}}
        request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                **request,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True
