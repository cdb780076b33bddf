"""What never went through the stream goes back into it, on AWS in memory, and from there to ThingWorx."""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from ops.__main__ import main
from ops.stack import Stack as OperatorsStack
from sandbox.certificates import Certificates, make_certificates
from sandbox.thingworx.writes import current
from tests.aws_mock import aws
from tests.integration.whole_stack import wait_until, whole_stack
from tests.unit.ops.test_failed_batches import batch
from tests.unit.ops.test_rule_errors import report
from tests.unit.router.kinesis import NOW, envelope, record, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FAILURES = "demo-failures"
RULE = "demo_telemetry_0a1b2c3d"
MAPPING = "aws/lambda/0d0e"


def records_of_the_stream() -> list[Any]:
    """All records of its one shard."""
    kinesis = boto3.client("kinesis")
    (shard,) = kinesis.list_shards(StreamName="demo-ingest")["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName="demo-ingest", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return list(kinesis.get_records(ShardIterator=iterator)["Records"])


class World:
    """What Terraform made of it: the stream, the queue, the bucket, and one topic rule."""

    def __init__(self) -> None:
        self.kinesis = boto3.client("kinesis")
        self.sqs = boto3.client("sqs")
        self.s3 = boto3.client("s3")
        self.iot = boto3.client("iot")
        self.kinesis.create_stream(StreamName="demo-ingest", ShardCount=1)
        self.url = self.sqs.create_queue(QueueName="demo-ingest-errors")["QueueUrl"]
        self.s3.create_bucket(Bucket=FAILURES)
        self.iot.create_topic_rule(
            ruleName=RULE,
            topicRulePayload={
                "sql": "SELECT encode(*, 'base64') AS d, topic(2) AS n FROM 'dt/+/data'",
                "actions": [
                    {"kinesis": {"roleArn": "r", "streamName": "demo-ingest", "partitionKey": "${topic(2)}"}}
                ],
            },
        )

    def fail_rule(self, thing: str, value: int, **changes: Any) -> None:
        """A message that the rule couldn't put into the stream."""
        error = report(json.dumps({"temp": value}).encode(), topic=f"dt/{thing}/data")
        self.say(json.dumps(error | changes))

    def say(self, body: str) -> None:
        """Anything in the queue."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def give_up(self, name: str, *records: dict[str, Any]) -> None:
        """A batch that the router never got through."""
        self.s3.put_object(Bucket=FAILURES, Key=f"{MAPPING}/{name}", Body=batch(*records))

    def stream(self) -> list[tuple[str, Any]]:
        """Partition key and envelope of all that is in the stream."""
        return [(entry["PartitionKey"], json.loads(entry["Data"])) for entry in records_of_the_stream()]

    def values(self) -> list[tuple[str, int]]:
        """Thing and value of all that is in the stream."""
        return [(key, json.loads(base64.b64decode(found["d"]))["temp"]) for key, found in self.stream()]

    def waiting(self) -> int:
        """Messages in the queue that anybody can receive now."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def objects(self) -> list[str]:
        """Names in the bucket."""
        found = self.s3.list_objects_v2(Bucket=FAILURES).get("Contents", [])
        return [entry["Key"].removeprefix(f"{MAPPING}/") for entry in found]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("ops.rule_error_queue._WAIT_SECONDS", 0)
    with aws():
        made = World()
        settings = {"INGEST_ERRORS_QUEUE_URL": made.url, "FAILURES_BUCKET": FAILURES}
        functions = SimpleNamespace(
            get_function_configuration=lambda **_: {"Environment": {"Variables": settings}}
        )
        monkeypatch.setattr(OperatorsStack, "functions", functions)
        yield made


def reingest(*options: str) -> int:
    return main(["reingest", "--stack", "demo", "--region", "us-east-1", "--per-second", "1000000", *options])


def temperature(thing: str, value: int, number: int, *, shard: int = 0) -> dict[str, Any]:
    data = envelope(json.dumps({"temp": value}).encode(), thing, t=NOW + number)
    return record(json.dumps(data).encode(), number, shard, thing)


def test_what_a_rule_could_not_put_into_the_stream_is_put_there_as_the_rule_would_have(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.time() * 1000
    world.fail_rule("pump", 1)
    world.fail_rule("fan", 2, clientId="N/A")
    assert reingest() == 0
    pump, fan = world.stream()
    assert began - 1 <= pump[1].pop("t") <= time.time() * 1000
    payload = base64.b64encode(b'{"temp": 1}').decode()
    assert pump == ("pump", {"d": payload, "n": "pump", "c": "gateway-1", "s": "dt/pump/data"})
    assert (fan[0], fan[1]["c"]) == ("fan", "n/a")
    assert world.waiting() == 0
    assert "demo-ingest-errors: put 2 records of 2 messages into demo-ingest\n" in capsys.readouterr().out


def test_batches_that_the_router_gave_up_return_as_they_were_and_oldest_first(world: World) -> None:
    shard = "shardId-000000000000/2026/03/01"
    world.give_up(f"{shard}/2026-03-01T12.30.59-aaaa", temperature("pump", 5, 5))
    world.give_up(f"{shard}/2026-03-01T12.30.58-aaaa", temperature("pump", 3, 3), temperature("fan", 4, 4))
    world.give_up(f"{shard}/2026-03-01T12.30.58-bbbb", temperature("pump", 1, 1), temperature("pump", 2, 2))
    assert reingest() == 0
    assert world.objects() == []
    assert [value for thing, value in world.values() if thing == "pump"] == [1, 2, 3, 5]
    assert ("fan", 4) in world.values()
    assert {found["t"] - NOW for _, found in world.stream()} == {1, 2, 3, 4, 5}


def test_a_source_may_be_left_out(world: World) -> None:
    world.fail_rule("pump", 2)
    world.give_up("one", temperature("pump", 1, 1))
    assert reingest("--source", "failures") == 0
    assert (world.values(), world.waiting(), world.objects()) == ([("pump", 1)], 1, [])
    assert reingest("--source", "errors") == 0
    assert (world.values(), world.waiting()) == ([("pump", 1), ("pump", 2)], 0)


class Throttled:
    """A stream that refuses two records of three.

    Args:
        client: the real one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._asked = 0

    def put_records(self, *, StreamName: str, Records: Sequence[Any]) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """As boto3's."""
        answers: list[dict[str, Any]] = []
        for entry in Records:
            self._asked += 1
            if self._asked % 3:
                code = "ProvisionedThroughputExceededException"
                answers.append({"ErrorCode": code, "ErrorMessage": "Rate exceeded for shard"})
            else:
                answers += self._client.put_records(StreamName=StreamName, Records=[entry])["Records"]
        return {"FailedRecordCount": sum("ErrorCode" in answer for answer in answers), "Records": answers}


def test_a_throttled_stream_loses_and_reorders_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stream_writer._FIRST_PAUSE", 0.0)
    monkeypatch.setattr("ops.stream_writer._LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(OperatorsStack, "kinesis", Throttled(world.kinesis))
    for value in range(1, 13):
        world.give_up(
            f"2026-03-01T12.30.{value:02}-a",
            *(temperature(thing, value, value) for thing in ("pump", "fan", "valve")),
        )
        world.fail_rule("pump", 100 + value)
    assert reingest() == 0
    found = world.values()
    assert len(found) == 48
    for thing in ("pump", "fan", "valve"):
        of_thing = [value for name, value in found if name == thing]
        assert of_thing == sorted(of_thing)
    assert (world.waiting(), world.objects()) == (0, [])


def test_a_run_that_dies_between_stream_and_deletion_leaves_all_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (1, 2):
        world.fail_rule("pump", value)
        world.give_up(f"2026-03-01T12.30.{value:02}-a", temperature("fan", value, value))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for source, left in (("failures", (2, 2)), ("errors", (2, 0))):
        with monkeypatch.context() as patched:
            patched.setattr("ops.failure_bucket.FailureBucket.delete", die)
            patched.setattr("ops.rule_error_queue.RuleErrorQueue.delete", die)
            assert reingest("--source", source) == 130
        assert "put 0 records of 0" in capsys.readouterr().out
        assert (world.waiting(), len(world.objects())) == left, "seen at once by whoever comes next"
        assert reingest("--source", source) == 0
    assert [value for thing, value in world.values() if thing == "fan"] == [1, 1, 2]
    assert [value for thing, value in world.values() if thing == "pump"] == [1, 1, 2]
    repeated = [found for key, found in world.stream() if key == "pump"]
    assert repeated[0] == repeated[1], "the same Thing, time and value: nothing new to ThingWorx"
    assert (world.waiting(), world.objects()) == (0, [])


def test_what_can_not_be_read_stays_where_it_is_with_a_sentence(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.say("hello")
    world.fail_rule("pump", 1)
    world.fail_rule("fan", 2, ruleName="demo_telemetry_of_before")
    world.give_up("broken", temperature("pump", 1, 1), {"kinesis": {}})
    world.give_up("whole", temperature("pump", 0, 0))
    assert reingest() == 1
    assert world.values() == [("pump", 0), ("pump", 1)]
    assert (world.waiting(), world.objects()) == (2, ["broken"])
    shown = capsys.readouterr().err
    assert "error: demo-ingest-errors: 1 messages left there: it is not JSON, so no report" in shown
    assert "the topic rule demo_telemetry_of_before is gone" in shown
    assert "error: demo-failures: 1 objects left there: one of its records has no partitionKey" in shown
    assert f"(the first: {MAPPING}/broken)" in shown


def test_a_message_without_a_name_goes_to_the_router_which_holds_it(world: World) -> None:
    world.fail_rule("", 1)
    world.fail_rule("fan", 2, topic="dt")
    assert reingest() == 0
    assert [(key, found["n"]) for key, found in world.stream()] == [("n/a", "")] * 2
    assert world.waiting() == 0


def test_of_a_rule_that_is_gone_the_operator_says_what_named_its_things(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fail_rule("pump", 1)
    world.iot.delete_topic_rule(ruleName=RULE)
    assert reingest() == 1
    assert f"the topic rule {RULE} is gone" in capsys.readouterr().err
    assert (world.values(), world.waiting()) == ([], 1)
    assert reingest("--named-by", "payload.name") == 1
    assert "--named-by 'payload.name' names no Thing" in capsys.readouterr().err
    assert reingest("--named-by", "topic(2)") == 0
    assert world.values() == [("pump", 1)]


def test_a_dry_run_says_what_would_go_and_changes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in range(3):
        world.fail_rule("pump", value)
    world.say("hello")
    world.give_up("one", temperature("fan", 1, 1), temperature("pump", 2, 2))
    assert reingest("--dry-run") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "demo-failures: would put 2 records of 1 objects into demo-ingest",
        "          1  fan",
        "          1  pump",
        "demo-ingest-errors: would put 3 records of 3 messages into demo-ingest",
        "          3  pump",
    ]
    assert "1 messages left there: it is not JSON" in shown.err
    assert (world.stream(), world.waiting(), world.objects()) == ([], 4, ["one"])


def test_a_stream_that_is_not_there_costs_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.kinesis.delete_stream(StreamName="demo-ingest")
    world.fail_rule("pump", 1)
    world.give_up("one", temperature("pump", 1, 1))
    for source in ("errors", "failures"):
        assert reingest("--source", source) == 1
        assert "error: AWS: " in capsys.readouterr().err
    assert (world.waiting(), world.objects()) == (1, ["one"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_a_reading_that_the_stream_refused_arrives_in_thingworx_with_the_time_when_it_was_refused(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.rule_error_queue._WAIT_SECONDS", 0)
    with whole_stack(certificates, monkeypatch) as stack:
        functions = SimpleNamespace(
            get_function_configuration=lambda **_: {"Environment": {"Variables": stack.environ}}
        )
        monkeypatch.setattr(OperatorsStack, "functions", functions)
        stack.add_thing("pump")
        stack.discover("run-1")
        boto3.client("kinesis").create_stream(StreamName="demo-ingest", ShardCount=1)
        boto3.client("sqs").send_message(
            QueueUrl=stack.environ["INGEST_ERRORS_QUEUE_URL"],
            MessageBody=json.dumps(report(b'{"temp": 7}', topic="dt/pump/data")),
        )
        time.sleep(0.01)
        now = time.time_ns() // 1_000_000
        with stack.serving("1"):
            stack.route(telemetry({"temp": 8}, "pump", 0, t=now))  # the next one, which the stream took
            wait_until(lambda: stack.values("pump") == {"temp": 8})
            assert reingest("--named-by", "topic(2)") == 0
            (returned,) = records_of_the_stream()
            stack.route(record(returned["Data"], 1, key=returned["PartitionKey"]))
            wait_until(lambda: len(stack.platform.log.since(0, thing="pump")) == 2)
        first, second = stack.platform.log.since(0, thing="pump")
        assert [first.value, second.value] == [8, 7]
        assert second.time == json.loads(returned["Data"])["t"] < first.time
        pump = stack.platform.thing("pump")
        shown = current(stack.platform, pump, pump.definition("temp"))
        assert shown.value == 8, "a late value never becomes the current one"
