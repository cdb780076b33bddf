"""Kinesis event source mappings: batches, retries, bisection, failure destinations."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.aws import Aws, eventually, unique

if TYPE_CHECKING:
    from pathlib import Path

# Prints each batch as `batch [..]`, then does what the records ask for.
READER = """
import base64, json, os, pathlib, time
def handle(event, context):
    numbers = [json.loads(base64.b64decode(record["kinesis"]["data"])) for record in event["Records"]]
    print("batch", json.dumps(numbers))
    gate = os.environ.get("GATE")
    while gate and not pathlib.Path(gate).exists():
        time.sleep(0.02)
    poison = int(os.environ.get("POISON", "-1"))
    if poison in numbers:
        if os.environ.get("REPORT"):
            failed = event["Records"][numbers.index(poison)]["kinesis"]["sequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": failed}]}
        raise ValueError("poison")
"""


def batches(aws: Aws, function: str) -> list[list[int]]:
    lines = aws.log_lines(function)
    return [json.loads(line.removeprefix("batch ")) for line in lines if line.startswith("batch ")]


def put(aws: Aws, stream: str, numbers: range | list[int]) -> None:
    aws("kinesis").put_records(
        StreamName=stream,
        Records=[{"Data": json.dumps(number).encode(), "PartitionKey": "k"} for number in numbers],
    )


def mapped(
    aws: Aws, source: str, environment: dict[str, str] | None = None, **mapping: Any
) -> tuple[str, str]:
    function = aws.function(READER, environment=environment)
    settings: dict[str, Any] = {"StartingPosition": "TRIM_HORIZON", **mapping}
    answer = aws("lambda").create_event_source_mapping(
        EventSourceArn=source, FunctionName=function, **settings
    )
    return function, answer["UUID"]


def test_trim_horizon_reads_what_was_there_and_an_event_has_the_documented_fields(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, [7])
    function = aws.function("import json\ndef handle(event, context): print(json.dumps(event))\n")
    aws("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, StartingPosition="TRIM_HORIZON"
    )
    line = eventually(lambda: next((line for line in aws.log_lines(function) if line.startswith("{")), None))
    (record,) = json.loads(line)["Records"]
    sequence_number = record["kinesis"]["sequenceNumber"]
    assert record["eventID"] == f"shardId-000000000000:{sequence_number}"
    assert base64.b64decode(record["kinesis"]["data"]) == b"7"
    assert record["kinesis"]["partitionKey"] == "k"
    assert isinstance(record["kinesis"]["approximateArrivalTimestamp"], float)
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:kinesis", arn)


def test_latest_leaves_out_what_was_there_before(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, [1])
    function, _ = mapped(aws, arn, StartingPosition="LATEST")
    put(aws, stream, [2])
    assert eventually(lambda: batches(aws, function)) == [[2]]


def test_a_batching_window_gathers_records_up_to_the_batch_size(aws: Aws) -> None:
    stream, arn = aws.stream()
    function, _ = mapped(aws, arn, BatchSize=4, MaximumBatchingWindowInSeconds=60)
    put(aws, stream, [0, 1])
    put(aws, stream, [2, 3])
    assert eventually(lambda: batches(aws, function)) == [[0, 1, 2, 3]]


def test_a_batch_holds_at_most_six_megabytes(aws: Aws) -> None:
    stream, arn = aws.stream()
    function = aws.function("def handle(event, context): print('size', len(event['Records']))\n")
    for _ in range(8):
        aws("kinesis").put_record(StreamName=stream, PartitionKey="k", Data=b"x" * 1_000_000)
    aws("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName=function, StartingPosition="TRIM_HORIZON"
    )

    def sizes() -> list[int]:
        lines = aws.log_lines(function)
        return [int(line.split()[1]) for line in lines if line.startswith("size")]

    assert eventually(lambda: found if sum(found := sizes()) == 8 else None) == [4, 4]


def test_a_reported_failure_restarts_the_batch_at_the_earliest_failed_record(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, range(5))
    function, mapping = mapped(
        aws, arn, {"POISON": "2", "REPORT": "1"}, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    found = eventually(lambda: found if len(found := batches(aws, function)) >= 3 else None)
    assert found[:3] == [[0, 1, 2, 3, 4], [2, 3, 4], [2, 3, 4]]
    aws("lambda").delete_event_source_mapping(UUID=mapping)


def test_bisect_isolates_a_poisoned_record_at_no_cost_of_attempts(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, range(4))
    function, _ = mapped(aws, arn, {"POISON": "1"}, BisectBatchOnFunctionError=True, MaximumRetryAttempts=1)
    found = eventually(lambda: found if [2, 3] in (found := batches(aws, function)) else None)
    assert found == [[0, 1, 2, 3], [0, 1], [0], [1], [1], [2, 3]]


def test_an_s3_failure_destination_gets_the_whole_invocation_record(aws: Aws) -> None:
    bucket = unique("failed")
    aws("s3").create_bucket(Bucket=bucket)
    stream, arn = aws.stream()
    put(aws, stream, [0, 1])
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}}
    function, mapping = mapped(
        aws, arn, {"POISON": "0"}, MaximumRetryAttempts=1, DestinationConfig=destination
    )
    (found,) = eventually(lambda: aws("s3").list_objects_v2(Bucket=bucket).get("Contents"))
    assert found["Key"].startswith(f"aws/lambda/{mapping}/shardId-000000000000/20")
    record = json.loads(aws("s3").get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["KinesisBatchInfo"]["batchSize"] == 2
    records = json.loads(record["payload"])["Records"]
    assert [base64.b64decode(entry["kinesis"]["data"]) for entry in records] == [b"0", b"1"]
    assert batches(aws, function) == [[0, 1], [0, 1]]


def test_an_sqs_failure_destination_gets_metadata_only(aws: Aws) -> None:
    url, queue = aws.queue()
    stream, arn = aws.stream()
    put(aws, stream, [0])
    destination = {"OnFailure": {"Destination": queue}}
    mapped(aws, arn, {"POISON": "0"}, MaximumRetryAttempts=0, DestinationConfig=destination)
    (record,) = eventually(lambda: aws.messages(url))
    assert record["KinesisBatchInfo"]["streamArn"] == arn
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert "payload" not in record


def test_records_beyond_the_maximum_age_go_to_the_destination(aws: Aws) -> None:
    url, queue = aws.queue()
    stream, arn = aws.stream()
    put(aws, stream, [0])
    destination = {"OnFailure": {"Destination": queue}}
    mapped(aws, arn, {"POISON": "0"}, MaximumRecordAgeInSeconds=1, DestinationConfig=destination)
    (record,) = eventually(lambda: aws.messages(url))
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert record["KinesisBatchInfo"]["batchSize"] == 1


def test_retries_do_not_end_by_default_and_stop_with_a_fix(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, [0])
    function, _ = mapped(aws, arn, {"POISON": "0"})
    eventually(lambda: len(batches(aws, function)) > 4)
    aws("lambda").update_function_configuration(FunctionName=function, Environment={"Variables": {}})
    put(aws, stream, [1])
    assert eventually(lambda: [1] in batches(aws, function) or None)


def test_mappings_and_shards_do_not_block_each_other(aws: Aws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    stuck_stream, stuck_arn = aws.stream()
    stuck, _ = mapped(aws, stuck_arn, {"GATE": str(gate)})
    put(aws, stuck_stream, [0])
    eventually(lambda: batches(aws, stuck))
    stream, arn = aws.stream()
    function, _ = mapped(aws, arn)
    put(aws, stream, [1])
    assert eventually(lambda: batches(aws, function)) == [[1]]
    gate.touch()


def test_a_closed_shard_comes_before_its_children(aws: Aws) -> None:
    stream, arn = aws.stream()
    put(aws, stream, [0, 1])
    client = aws("kinesis")
    client.split_shard(StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    put(aws, stream, [2])
    first, *children = client.list_shards(StreamName=stream)["Shards"]
    assert first["SequenceNumberRange"]["EndingSequenceNumber"]
    assert {child["ParentShardId"] for child in children} == {first["ShardId"]}
    assert len({shard["ShardId"] for shard in [first, *children]}) == 3
    summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 2
    function, _ = mapped(aws, arn)
    found = eventually(lambda: found if [2] in (found := batches(aws, function)) else None)
    assert found == [[0, 1], [2]]


def test_a_new_shard_count_closes_every_shard_and_loses_no_record(aws: Aws) -> None:
    stream, arn = aws.stream(shards=2)
    function, _ = mapped(aws, arn, BatchSize=1)
    put(aws, stream, [0])
    aws("kinesis").update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    put(aws, stream, [1])
    aws("kinesis").update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    put(aws, stream, [2])
    found = eventually(lambda: found if len(found := batches(aws, function)) == 3 else None)
    assert found == [[0], [1], [2]]


@pytest.mark.parametrize(("key", "size"), [("k" * 257, 1), ("k", 1_048_577)])
def test_a_key_has_at_most_256_characters_and_a_record_1_mib(aws: Aws, key: str, size: int) -> None:
    stream, _ = aws.stream()
    with pytest.raises(ClientError) as caught:
        aws("kinesis").put_record(StreamName=stream, PartitionKey=key, Data=b"x" * size)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
