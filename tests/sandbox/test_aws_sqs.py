"""SQS: names, limits, FIFO receipt handles and deduplication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.aws import Aws, eventually, unique

if TYPE_CHECKING:
    from collections.abc import Callable

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


def error_code(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"]).rpartition(".")[2]


def receive(aws: Aws, url: str, **options: Any) -> list[dict[str, Any]]:
    answer = aws("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, **options)
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def send(aws: Aws, url: str, body: str = "x", **options: Any) -> None:
    aws("sqs").send_message(QueueUrl=url, MessageBody=body, MessageGroupId="lane-0", **options)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [("x" * 81, {}), ("a b", {}), ("a.fifo", {}), ("a", {"FifoQueue": "true"}), ("x" * 76 + ".fifo", FIFO)],
)
def test_a_queues_name_has_at_most_80_permitted_characters_and_tells_its_kind(
    aws: Aws, name: str, attributes: dict[str, str]
) -> None:
    assert (
        error_code(aws("sqs").create_queue, QueueName=name, Attributes=attributes) == "InvalidParameterValue"
    )


def test_creating_a_queue_again_is_idempotent_only_with_equal_attributes(aws: Aws) -> None:
    name = unique("queue")
    create = aws("sqs").create_queue
    url = create(QueueName=name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    assert create(QueueName=name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"] == url
    for other in ({"VisibilityTimeout": "61"}, {"KmsMasterKeyId": "alias/any"}):
        assert error_code(create, QueueName=name, Attributes=other) in {
            "QueueNameExists",
            "QueueAlreadyExists",
        }


def test_the_name_of_a_deleted_queue_is_free_only_after_a_while(aws: Aws) -> None:
    name = unique("queue")
    create = aws("sqs").create_queue
    aws("sqs").delete_queue(QueueUrl=create(QueueName=name)["QueueUrl"])
    assert error_code(create, QueueName=name) == "QueueDeletedRecently"

    def created() -> bool:
        try:
            create(QueueName=name)
        except ClientError:
            return False
        return True

    assert eventually(created)


@pytest.mark.parametrize("field", ["MessageDeduplicationId", "MessageGroupId"])
def test_fifo_ids_have_at_most_128_characters(aws: Aws, field: str) -> None:
    url, _ = aws.queue(**FIFO)
    ids = {"MessageGroupId": "g", "MessageDeduplicationId": "d"}
    aws("sqs").send_message(QueueUrl=url, MessageBody="x", **{**ids, field: "x" * 128})
    too_long = {**ids, field: "x" * 129}
    assert (
        error_code(aws("sqs").send_message, QueueUrl=url, MessageBody="x", **too_long)
        == "InvalidParameterValue"
    )


def test_equal_bodies_are_one_message_in_a_queue_with_content_based_deduplication(aws: Aws) -> None:
    url, _ = aws.queue(**FIFO)
    for body in ("a", "a", "b"):
        send(aws, url, body)
    assert [message["Body"] for message in receive(aws, url)] == ["a", "b"]


def test_messages_and_batches_have_a_maximum_size(aws: Aws) -> None:
    url, _ = aws.queue(MaximumMessageSize="262144")
    client = aws("sqs")
    client.send_message(QueueUrl=url, MessageBody="x" * 262_144)
    assert error_code(client.send_message, QueueUrl=url, MessageBody="x" * 262_145) == "InvalidParameterValue"
    entries = [{"Id": str(n), "MessageBody": "x" * 220_000} for n in range(5)]
    assert error_code(client.send_message_batch, QueueUrl=url, Entries=entries) == "BatchRequestTooLong"


def test_a_lane_waits_while_one_of_its_messages_is_in_flight(aws: Aws) -> None:
    url, _ = aws.queue(**FIFO)
    send(aws, url, "1")
    (first,) = receive(aws, url)
    send(aws, url, "2")
    assert receive(aws, url) == []
    aws("sqs").delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert [message["Body"] for message in receive(aws, url)] == ["2"]


def test_a_fifo_receipt_handle_dies_with_its_visibility_timeout(aws: Aws) -> None:
    url, _ = aws.queue(**FIFO)
    client = aws("sqs")
    send(aws, url)
    (held,) = receive(aws, url)
    handle = held["ReceiptHandle"]
    client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert error_code(client.delete_message, QueueUrl=url, ReceiptHandle=handle) == "InvalidParameterValue"
    (again,) = receive(aws, url)
    assert again["MessageId"] == held["MessageId"]
    answer = client.delete_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "old", "ReceiptHandle": handle},
            {"Id": "new", "ReceiptHandle": again["ReceiptHandle"]},
        ],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["new"]
    assert [entry["Code"] for entry in answer["Failed"]] == ["InvalidParameterValue"]


def test_deleting_a_deleted_message_is_no_error_and_extending_it_is(aws: Aws) -> None:
    url, _ = aws.queue(**FIFO)
    client = aws("sqs")
    send(aws, url)
    (held,) = receive(aws, url)
    for _ in range(2):
        client.delete_message(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"])
    entries = [{"Id": "0", "ReceiptHandle": held["ReceiptHandle"], "VisibilityTimeout": 60}]
    answer = client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    assert answer["Failed"][0]["Code"] == "MessageNotInflight"


def test_a_repeated_receive_attempt_is_given_the_same_messages(aws: Aws) -> None:
    url, _ = aws.queue(**FIFO)
    send(aws, url, "1")
    first = receive(aws, url, ReceiveRequestAttemptId="attempt")
    again = receive(aws, url, ReceiveRequestAttemptId="attempt")
    assert [message["ReceiptHandle"] for message in first] == [message["ReceiptHandle"] for message in again]
    assert receive(aws, url, ReceiveRequestAttemptId="another") == []
