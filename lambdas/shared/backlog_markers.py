"""Markers of Things that have parked readings, by slot: one item a Thing in the control table.

A marker is written before the first reading is parked, and removed when none is left; so whoever reads parked
readings first and their marker afterwards knows whether a connector is about to send them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lambdas.shared.dynamo import from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["is_marked", "marked_things", "marker_key"]


def marker_key(slot: str, thing: str) -> dict[str, dict[str, Any]]:
    """Key of a Thing's marker, in DynamoDB's form."""
    return to_item({"pk": _pk(slot), "sk": thing})


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


def is_marked(client: DynamoDBClient, table: str, slot: str, thing: str) -> bool:
    """Whether a slot's connector has parked readings of a Thing to send; a consistent read."""
    answer = client.get_item(
        TableName=table, Key=marker_key(slot, thing), ConsistentRead=True, ProjectionExpression="pk"
    )
    return "Item" in answer


def _pk(slot: str) -> str:
    return f"backlog#{slot}"
