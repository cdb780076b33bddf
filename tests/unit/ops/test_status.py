"""What `status` tells, as JSON and to a person."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from ops.__main__ import main
from ops.stack import Stack
from tests.aws_mock import CONTROL_TABLE
from tests.unit.ops.test_replay import FAILURES, World, world

__all__ = ["world"]  # a fixture


@pytest.fixture
def aws_says(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What CloudWatch and Step Functions answer."""
    answers: dict[str, Any] = {"MetricDataResults": [], "executions": []}
    monkeypatch.setattr(Stack, "metrics", SimpleNamespace(get_metric_data=lambda **_: answers))
    monkeypatch.setattr(Stack, "states", SimpleNamespace(list_executions=lambda **_: answers))
    monkeypatch.setattr(Stack, "state_machine_arn", lambda _self, machine: f"arn:{machine}")
    return answers


def status(capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    assert main(["status", "--stack", "demo", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def serve(world: World, seconds: float) -> None:
    """As a connector that took the lease."""
    world.dynamodb.update_item(
        TableName=CONTROL_TABLE,
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="SET #owner = :owner, #until = :until, epoch = :epoch",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
        ExpressionAttributeValues={
            ":owner": {"S": "1-4-0/0"},
            ":until": {"N": str(int((time.time() + seconds) * 1000))},
            ":epoch": {"N": "4"},
        },
    )


def test_a_slot_is_told_with_its_owner_lease_queue_and_parked_things(
    world: World, aws_says: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(world, 20)
    world.sqs.send_message(QueueUrl=world.url, MessageBody="{}", MessageGroupId="lane-1")
    world.dynamodb.put_item(
        TableName=CONTROL_TABLE,
        Item={
            "pk": {"S": "backlog#1"},
            "sk": {"S": "pump"},
            "reason": {"S": "not_bound"},
            "owner": {"S": "x"},
        },
    )
    aws_says["MetricDataResults"] = [{"Id": "slot1", "Values": [42.0, 10.0]}]
    found = status(capsys)
    (slot,) = found["slots"]
    assert 15 < slot.pop("lease_seconds_left") <= 20
    assert slot == {
        "slot": "1",
        "state": "active",
        "things": 2,
        "epoch": 4,
        "owner": "1-4-0/0",
        "successor": None,
        "messages_waiting": 1,
        "messages_in_flight": 0,
        "oldest_message_seconds": 42,
        "parked": {"pump": "not_bound"},
    }
    assert found["things"] == {"assigned": 2, "removed": 1}


def test_a_lease_that_is_over_and_a_queue_that_is_gone_are_told(
    world: World, aws_says: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(world, -100)
    world.sqs.delete_queue(QueueUrl=world.url)
    assert main(["status", "--stack", "demo"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"over since 1\d\d s", shown)
    assert status(capsys)["slots"][0]["messages_waiting"] is None


def test_held_readings_are_counted_by_state_and_reason_and_it_says_when_it_stopped_counting(
    world: World, aws_says: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for minute in range(3):
        world.hold("pump", minute)
    world.hold("fan", 1, "rejected", "not_json")
    held = status(capsys)["held"]
    assert held["complete"]
    assert held["counts"] == {
        "unrouted": {"unknown_thing": 3},
        "rejected": {"not_json": 1},
        "parked": {},
    }
    held = status(capsys, "--most-held", "2")["held"]
    assert not held["complete"]
    assert held["items_read"] == 2
    assert main(["status", "--stack", "demo", "--most-held", "2"]) == 0
    assert "the first 2 items only" in capsys.readouterr().out


def test_what_never_went_through_the_stream_is_counted_and_it_says_when_it_stopped_counting(
    world: World,
    aws_says: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(3):
        world.sqs.send_message(QueueUrl=world.errors_url, MessageBody="{}")
    world.sqs.receive_message(QueueUrl=world.errors_url, VisibilityTimeout=600)
    for number in range(2):
        world.s3.put_object(Bucket=FAILURES, Key=str(number), Body=b"{}")
    assert status(capsys)["beside_the_stream"] == {
        "ingest_errors": 3,
        "failed_batches": 2,
        "failed_batches_complete": True,
    }
    monkeypatch.setattr("ops.status._MOST_BATCHES", 1)
    assert main(["status", "--stack", "demo"]) == 0
    shown = capsys.readouterr().out
    assert "        3  messages that topic rules couldn't put into it\n" in shown
    assert "        1 or more  batches that the router gave up\n" in shown


def test_the_last_discovery_run_is_told(
    world: World, aws_says: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(capsys)["discovery"] is None
    started = datetime(2026, 3, 1, tzinfo=UTC)
    aws_says["executions"] = [{"name": "run-7", "status": "RUNNING", "startDate": started}]
    assert status(capsys)["discovery"] == {
        "run": "run-7",
        "status": "RUNNING",
        "started": "2026-03-01T00:00:00+00:00",
        "stopped": None,
    }
