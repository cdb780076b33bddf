"""AWS in memory (moto): clients, and the tables, buckets and names the functions expect."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
from moto import mock_aws
from moto.dynamodb.responses import DynamoHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["CONTROL_TABLE", "HELD_TABLE", "REGION", "aws", "create_control_table", "create_held_table"]

REGION = "us-east-1"
CONTROL_TABLE = "demo-control"
HELD_TABLE = "demo-held"

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}


@contextlib.contextmanager
def aws() -> Iterator[None]:
    """An empty AWS account in memory, for the boto3 clients made inside.

    DynamoDB serves one call at a time: a conditional write of moto's is not atomic beside other threads.
    """
    alone, serve = threading.Lock(), DynamoHandler.call_action

    def call_action(handler: DynamoHandler) -> Any:
        with alone:
            return serve(handler)

    with (
        mock.patch.dict(os.environ, _CREDENTIALS),
        mock.patch.object(DynamoHandler, "call_action", call_action),
        mock_aws(),
    ):
        yield


def create_control_table() -> DynamoDBClient:
    """The control table as Terraform makes it."""
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=CONTROL_TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "slot")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_slot",
                "KeySchema": [
                    {"AttributeName": "slot", "KeyType": "HASH"},
                    {"AttributeName": "pk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


def create_held_table() -> DynamoDBClient:
    """The held table as Terraform makes it."""
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=HELD_TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    return client
