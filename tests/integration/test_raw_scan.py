"""Raw scans: the items that boto3 gives, whatever else its client is used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lambdas.shared.raw_scan import raw_scan
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

ITEMS: list[dict[str, Any]] = [
    {"pk": {"S": f"thing#{number}"}, "sk": {"S": "thing"}, "n": {"N": "1"}, "m": {"M": {"b": {"BOOL": True}}}}
    for number in range(7)
]


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    with aws():
        create_control_table()
        made = boto3.client("dynamodb")
        for item in ITEMS:
            made.put_item(TableName=CONTROL_TABLE, Item=item)
        yield made


def test_all_pages_are_given_as_boto3_gives_them(client: DynamoDBClient) -> None:
    found = raw_scan(client, {"TableName": CONTROL_TABLE, "Limit": 2})
    assert sorted(found, key=str) == sorted(ITEMS, key=str)


def test_other_scans_of_the_client_are_parsed_as_ever(client: DynamoDBClient) -> None:
    client.put_item(
        TableName=CONTROL_TABLE, Item={"pk": {"S": "x"}, "sk": {"S": "x"}, "b": {"B": b"\x00\xff"}}
    )
    next(raw_scan(client, {"TableName": CONTROL_TABLE}))
    values = [item["b"]["B"] for item in client.scan(TableName=CONTROL_TABLE)["Items"] if "b" in item]
    assert values == [b"\x00\xff"]


def test_a_refusal_is_boto3s_own(client: DynamoDBClient) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        list(raw_scan(client, {"TableName": "other"}))
