"""DynamoDB: the conditional writes, reads and limits that the control table and held store rest on."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.aws import Aws, unique

Item = dict[str, Any]


class Table:
    """A table with the keys pk and sk and an index on g."""

    def __init__(self, aws: Aws) -> None:
        self.client = aws("dynamodb")
        self.name = unique("table")
        key = {"pk": "HASH", "sk": "RANGE"}
        self.client.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in key.items()],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "g")
            ],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-g",
                    "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )

    def put(self, pk: str, **values: Item) -> None:
        """Put an item."""
        self.client.put_item(TableName=self.name, Item={**key(pk), **values})

    def next_epoch(self, expected: int) -> Item:
        """The conditional update that fences: epoch -> epoch + 1 if it is what is expected."""
        answer: Item = self.client.update_item(
            TableName=self.name,
            Key=key("slot"),
            UpdateExpression="SET epoch = if_not_exists(epoch, :zero) + :one",
            ConditionExpression="attribute_not_exists(epoch) OR epoch = :expected",
            ExpressionAttributeValues={
                ":zero": {"N": "0"},
                ":one": {"N": "1"},
                ":expected": {"N": str(expected)},
            },
            ReturnValues="ALL_NEW",
        )["Attributes"]
        return answer


def key(pk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": "0"}}


@pytest.fixture(scope="module")
def table(aws: Aws) -> Table:
    return Table(aws)


def test_a_conditional_update_returns_all_new_or_fails_by_name(table: Table) -> None:
    assert table.next_epoch(0)["epoch"] == {"N": "1"}
    assert table.next_epoch(1)["epoch"] == {"N": "2"}
    with pytest.raises(table.client.exceptions.ConditionalCheckFailedException):
        table.next_epoch(1)


def test_a_transaction_is_all_or_nothing_and_tells_why(table: Table) -> None:
    table.put("taken")
    condition = {"TableName": table.name, "ConditionExpression": "attribute_not_exists(pk)"}
    puts = [{"Put": {**condition, "Item": key(pk)}} for pk in ("free", "taken")]
    with pytest.raises(table.client.exceptions.TransactionCanceledException) as caught:
        table.client.transact_write_items(TransactItems=puts)
    reasons = [reason["Code"] for reason in caught.value.response["CancellationReasons"]]
    assert reasons == ["None", "ConditionalCheckFailed"]
    assert "Item" not in table.client.get_item(TableName=table.name, Key=key("free"), ConsistentRead=True)


def test_an_index_is_queried_and_refuses_consistent_reads(table: Table) -> None:
    table.put("indexed", g={"S": "group"})
    query = {
        "TableName": table.name,
        "IndexName": "by-g",
        "KeyConditionExpression": "g = :g",
        "ExpressionAttributeValues": {":g": {"S": "group"}},
    }
    assert [item["pk"] for item in table.client.query(**query)["Items"]] == [{"S": "indexed"}]
    with pytest.raises(ClientError, match="Consistent reads are not supported on global secondary indexes"):
        table.client.query(**query, ConsistentRead=True)


def test_batches_of_25_are_written_and_segments_of_a_scan_cover_the_table_once(aws: Aws) -> None:
    table = Table(aws)
    writes = [{"PutRequest": {"Item": key(str(number))}} for number in range(25)]
    assert table.client.batch_write_item(RequestItems={table.name: writes})["UnprocessedItems"] == {}
    found = [
        item["pk"]["S"]
        for segment in range(4)
        for item in table.client.scan(TableName=table.name, Segment=segment, TotalSegments=4)["Items"]
    ]
    assert sorted(found) == sorted(str(number) for number in range(25))
    with pytest.raises(ClientError) as caught:
        table.client.batch_write_item(
            RequestItems={table.name: [*writes, {"PutRequest": {"Item": key("25")}}]}
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_time_to_live_attribute_is_accepted_and_told(table: Table) -> None:
    specification = {"Enabled": True, "AttributeName": "expires"}
    table.client.update_time_to_live(TableName=table.name, TimeToLiveSpecification=specification)
    described = table.client.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    assert described["AttributeName"] == "expires"


def test_an_item_has_at_most_400_kb(table: Table) -> None:
    table.put("large", b={"B": b"x" * 409_000})
    with pytest.raises(ClientError, match="Item size has exceeded the maximum allowed size"):
        table.put("larger", b={"B": b"x" * 409_700})


def test_a_page_ends_at_1_mb(table: Table) -> None:
    for number in range(5):
        item = {"pk": {"S": "pages"}, "sk": {"S": str(number)}, "b": {"B": b"x" * 300_000}}
        table.client.put_item(TableName=table.name, Item=item)
    page = table.client.query(
        TableName=table.name,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": "pages"}},
    )
    assert len(page["Items"]) < 5
    assert "LastEvaluatedKey" in page
