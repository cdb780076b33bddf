"""What was held arrives in ThingWorx: when its Thing becomes known, and when somebody sends it again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lambdas.connector.backlog_store import BacklogStore
from lambdas.shared.held_store import HeldReading, HeldStore
from ops.__main__ import main
from ops.stack import Stack as OperatorsStack
from sandbox.certificates import Certificates, make_certificates
from sandbox.thingworx.basetypes import parse_tags
from tests.aws_mock import CONTROL_TABLE
from tests.integration.whole_stack import HELD, Stack, wait_until, whole_stack
from tests.unit.router.kinesis import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr("lambdas.assigner.held._IN_FLIGHT_SECONDS", 0.0)
    monkeypatch.setattr("lambdas.assigner.held._THREADS", 1)  # the store in memory isn't thread-safe
    bounds = {
        "HELD_DAYS": "14",
        "HELD_PER_THING_PER_DAY": "1000",
        "HELD_PER_DAY": "1000000",
        "THING_RETRY_SECONDS": "1",
    }
    with whole_stack(certificates, monkeypatch, **bounds) as made:
        functions = SimpleNamespace(
            get_function_configuration=lambda **_: {
                "Environment": {"Variables": made.environ},
                "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:demo-connector",
            }
        )
        monkeypatch.setattr(OperatorsStack, "functions", functions)
        yield made


def ops(*arguments: str) -> int:
    command, *options = arguments
    return main([command, "--stack", "demo", "--region", "us-east-1", *options])


def writes(stack: Stack, thing: str) -> list[tuple[str, Any]]:
    return [(write.property, write.value) for write in stack.platform.log.since(0, thing=thing)]


def times(stack: Stack, thing: str) -> list[int]:
    return [write.time for write in stack.platform.log.since(0, thing=thing)]


def test_readings_held_before_their_thing_was_known_arrive_in_order_before_newer_ones(stack: Stack) -> None:
    stack.add_thing("Fan")
    stack.discover("run-1")
    stack.route(*(telemetry({"temp": number}, "Pump1", number) for number in range(5)))
    assert {pk for pk, _ in stack.held()} == {"unrouted#Pump1"}
    stack.add_thing("Pump1")
    stack.discover("run-2")
    assert stack.held() == []
    stack.route(*(telemetry({"temp": number}, "Pump1", number) for number in range(5, 8)))
    stack.serve("1", until=lambda: len(writes(stack, "Pump1")) == 8)
    assert writes(stack, "Pump1") == [("temp", number) for number in range(8)]
    assert times(stack, "Pump1") == sorted(times(stack, "Pump1"))


@pytest.mark.parametrize("gone", ["slot", "place"], ids=["to another slot", "to the same slot"])
def test_what_was_parked_of_a_thing_that_was_forgotten_arrives_in_order_when_it_returns(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr("lambdas.assigner.plan.TOMBSTONE", -1)
    stack.add_thing("Fan")
    stack.add_thing("Pump1")
    stack.discover("run-1")
    pump = stack.platform.thing("Pump1")
    pump.enabled = False
    stack.route(*(telemetry({"temp": number}, "Pump1", number) for number in range(3)))
    with stack.serving("1"):
        wait_until(lambda: [pk for pk, _ in stack.held()] == ["parked#Pump1"] * 3)
        stack.platform.set_tags(pump, parse_tags(()))
        for run in ("run-2", "run-3"):
            stack.discover(run)  # removed, then forgotten
        pump.enabled = True
        stack.route(*(telemetry({"temp": number}, "Pump1", number) for number in range(3, 5)))
        assert {pk for pk, _ in stack.held()} == {"parked#Pump1", "unrouted#Pump1"}
        if gone == "slot":
            for name in ("Fan2", "Fan3"):
                stack.add_thing(name)  # one of them takes its place
        stack.platform.set_tags(pump, parse_tags(("AWS_CONNECTED_THING:AWS_CONNECTED_THING",)))
        if gone == "place":
            stack.discover("run-4")
            stack.route(telemetry({"temp": 5}, "Pump1", 5))
            wait_until(lambda: len(writes(stack, "Pump1")) == 6)
    if gone == "slot":
        stack.dynamodb.update_item(
            TableName=CONTROL_TABLE,
            Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
            UpdateExpression="SET #state = :active",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":active": {"S": "active"}},
        )
        stack.discover("run-4")
        assert stack.dynamodb.get_item(
            TableName=CONTROL_TABLE, Key={"pk": {"S": "thing#Pump1"}, "sk": {"S": "thing"}}
        )["Item"]["slot"] == {"S": "2"}
        stack.route(telemetry({"temp": 5}, "Pump1", 5))
        stack.serve("2", until=lambda: len(writes(stack, "Pump1")) == 6)
    assert writes(stack, "Pump1") == [("temp", number) for number in range(6)]
    assert stack.held() == []


def test_an_operator_sends_readings_again_once_their_thing_takes_them(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.add_thing("Pump1")
    stack.discover("run-1")
    stack.route(
        telemetry({"unheard": 1}, "Pump1", 0), telemetry({"temp": 2}, "Pump1", 1), telemetry(b"{", "Pump1", 2)
    )
    assert [reason for _, reason in stack.held()] == ["no_known_property", "not_json"]
    held = stack.dynamodb.scan(TableName=HELD)["Items"]
    (entry,) = (item for item in held if item.get("reason", {}).get("S") == "no_known_property")
    stack.dynamodb.put_item(TableName=HELD, Item=entry | {"payload": {"B": b'{"temp": 1}'}})

    assert ops("replay", "--reason", "no_known_property", "--dry-run") == 0
    assert "would send 1 readings of 1 Things" in capsys.readouterr().out
    assert len(stack.held()) == 2

    assert ops("replay", "--thing", "Pump1") == 0
    shown = capsys.readouterr().out
    assert "sent 1 readings" in shown
    assert "1  stay rejected, for the reason they had" in shown
    assert stack.held() == [("rejected#Pump1", "not_json")]
    stack.serve("1", until=lambda: len(writes(stack, "Pump1")) == 2)
    assert sorted(times(stack, "Pump1")) == [int(entry["time"]["N"]), max(times(stack, "Pump1"))]


def test_parked_readings_of_a_thing_that_catches_up_by_itself_are_left_to_its_connector(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.add_thing("Pump1")
    stack.discover("run-1")
    client = boto3.client("dynamodb")
    store = HeldStore(HELD, client, days=14, per_thing_per_day=1000, per_day=1000, threads=1)
    store.hold(
        [
            HeldReading(
                "parked", "Pump1", at, f"0:{at}:0", "not_bound", "", "", values='{"temp":1}', shape="{}"
            )
            for at in (1, 2)
        ]
    )
    backlog = BacklogStore(client, control_table=CONTROL_TABLE, held_table=HELD, slot="1", owner="somebody")
    backlog.mark("Pump1", "not_bound")
    assert ops("replay", "--all") == 0
    assert "2  left alone: its connector sends it" in capsys.readouterr().out
    assert len(stack.held()) == 2

    backlog.unmark("Pump1")
    assert ops("replay", "--state", "parked") == 0
    assert "sent 2 readings" in capsys.readouterr().out
    assert stack.held() == []


def test_status_shows_what_a_stack_is_made_of(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    boto3.client("stepfunctions").create_state_machine(
        name="demo-discovery",
        definition='{"StartAt": "End", "States": {"End": {"Type": "Pass", "End": true}}}',
        roleArn="arn:aws:iam::123456789012:role/demo",
    )
    for name in ("Pump1", "Pump2", "Pump3"):
        stack.add_thing(name)
    stack.discover("run-1")
    stack.route(telemetry({"temp": 1}, "Pump1", 0), telemetry({"temp": 1}, "Stranger", 1))
    assert ops("status") == 0
    shown = capsys.readouterr().out
    assert "Things: 3 assigned, 0 removed" in shown
    assert "1  unrouted unknown_thing" in shown
    assert "discovery has not run yet" in shown
    assert [line.split()[:3] for line in shown.splitlines() if " active " in line] == [
        ["1", "active", "2"],
        ["2", "active", "1"],
    ]
    wait_until(lambda: stack.held() != [])
