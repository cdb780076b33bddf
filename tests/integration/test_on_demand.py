"""Discovery when it is needed: new devices, edited Things, a lost Redis, runs that died half-way."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lambdas.assigner import handler as assigner
from lambdas.connector import handler as connector
from lambdas.scaler import handler as scaler
from lambdas.shared.control_table import ControlTable
from lambdas.shared.run_lock import RunLock
from lambdas.shared.wanted import WantedRuns
from lambdas.watch import handler as watch
from sandbox.certificates import Certificates, make_certificates
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.discovery_machine import DiedError, DiscoveryMachine
from tests.integration.whole_stack import Stack, wait_until, whole_stack
from tests.unit.router.kinesis import telemetry
from tests.unit.statemachine.interpreter import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
SETTLED: dict[str, Any] = {"batchItemFailures": []}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class World:
    """A stack, its discovery machine and its watch function."""

    def __init__(self, stack: Stack, discovery_arn: str) -> None:
        self.stack = stack
        self.machine = DiscoveryMachine()
        self.control = ControlTable(CONTROL_TABLE, stack.dynamodb, threads=1)
        self.wanted = WantedRuns(CONTROL_TABLE, stack.dynamodb)
        self._arn = discovery_arn
        self._seen: set[str] = set()

    def look(self) -> list[tuple[str, Any]]:
        """The watch function looks; name and input of the discovery runs that it started."""
        watch.handle({}, None)
        sfn = boto3.client("stepfunctions")
        found = sfn.list_executions(stateMachineArn=self._arn)["executions"]
        new = [entry for entry in found if entry["name"] not in self._seen]
        self._seen |= {entry["name"] for entry in new}
        return [
            (
                entry["name"],
                json.loads(sfn.describe_execution(executionArn=entry["executionArn"])["input"]),
            )
            for entry in new
        ]

    def places(self) -> dict[str, str]:
        """Thing -> slot."""
        return {record.name: record.slot for record in self.control.things()}

    def queues(self) -> set[str]:
        """Names of the slots' queues."""
        urls = boto3.client("sqs").list_queues(QueueNamePrefix="demo-slot-").get("QueueUrls", [])
        return {url.rpartition("/")[2] for url in urls}

    def connectors(self) -> set[str]:
        """Names of the connectors' executions."""
        machine = self.stack.environ["CONNECTOR_STATE_MACHINE_ARN"]
        found = boto3.client("stepfunctions").list_executions(stateMachineArn=machine)["executions"]
        return {entry["name"] for entry in found}


@pytest.fixture
def world(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with whole_stack(certificates, monkeypatch, RUN_LEASE_SECONDS="2") as stack:
        arn = boto3.client("stepfunctions").create_state_machine(
            name="demo-discovery",
            definition='{"StartAt": "End", "States": {"End": {"Type": "Pass", "End": true}}}',
            roleArn="arn:aws:iam::123456789012:role/demo",
        )["stateMachineArn"]
        monkeypatch.setenv("DISCOVERY_STATE_MACHINE_ARN", arn)
        watch._parts.cache_clear()
        yield World(stack, arn)
        watch._parts.cache_clear()


def test_an_unknown_devices_first_message_is_delivered_after_the_run_that_it_starts(world: World) -> None:
    world.stack.add_thing("Pump1")
    world.machine.run("run-1", {})
    world.stack.add_thing("Pump2")
    assert world.stack.route(telemetry({"temp": 7.5}, "Pump2", 0)) == SETTLED
    assert world.stack.held() == [("unrouted#Pump2", "unknown_thing")]
    [(name, given)] = world.look()
    assert world.machine.run(name, given)["outcome"] == "Published"
    assert world.look() == []
    slot = world.places()["Pump2"]
    world.stack.serve(slot, until=lambda: world.stack.values("Pump2") == {"temp": 7.5})
    assert world.stack.held() == []


def test_unknown_devices_while_thingworx_refuses_us_start_runs_later_and_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stack.add_thing("Pump1")
    world.machine.run("run-1", {})
    world.stack.server.faults.add(status=401)
    world.stack.route(telemetry({"temp": 1}, "Stranger", 0))
    [(name, given)] = world.look()
    with pytest.raises(TaskError):
        world.machine.run(name, given)
    assert world.wanted.read().failures == 1
    assert world.look() == [], "the next one is a minute away"
    world.stack.server.faults.clear()
    later = time.time_ns() // 1_000_000 + 60_000
    monkeypatch.setattr(assigner, "_now", lambda: later)
    assert world.machine.run("wanted-again", {"wanted": True})["outcome"] == "Published"
    assert world.wanted.read().failures == 0


def test_a_lost_redis_is_rebuilt_within_a_minute_while_thingworx_is_away(world: World) -> None:
    for name in ("Pump1", "Pump2", "Pump3"):
        world.stack.add_thing(name)
    world.machine.run("run-1", {})
    before = (world.control.things(), world.control.slots(), world.connectors())
    assigner._registry()._client.flushall()
    world.stack.server.faults.add(status=503)
    RunLock(CONTROL_TABLE, world.stack.dynamodb).begin("slow", 10**9, time.time_ns() // 1_000_000)
    assert world.stack.route(telemetry({"temp": 1}, "Pump3", 0)) != SETTLED
    [(name, given)] = world.look()
    assert (name.partition("-")[0], given) == ("repair", {"repair": True})
    assert world.machine.run(name, given)["outcome"] == "Published"
    assert world.stack.route(telemetry({"temp": 1}, "Pump3", 0)) == SETTLED
    assert (world.control.things(), world.control.slots(), world.connectors()) == before
    assert world.look() == []


def test_a_changed_thing_is_read_again_and_no_other(world: World) -> None:
    for name in ("Pump1", "Pump2"):
        world.stack.add_thing(name)
    world.machine.run("run-1", {})
    shapes = {record.name: record.shape for record in world.control.things()}
    for name in ("Pump1", "Pump2"):
        world.stack.platform.define(world.stack.platform.thing(name), remote_property("new", "NUMBER"))
    world.wanted.ask_things(["Pump2"], 1)
    assert world.machine.run("model-1", {"wanted": True})["plan"]["changed"] == 1
    now = {record.name: record.shape for record in world.control.things()}
    assert now["Pump1"] == shapes["Pump1"]
    assert now["Pump2"] != shapes["Pump2"]
    assert world.machine.run("model-2", {"wanted": True})["outcome"] == "NothingWanted"


def test_a_run_that_finds_another_under_way_is_made_up_for_with_what_it_was_for(world: World) -> None:
    for name in ("Pump1", "Pump2"):
        world.stack.add_thing(name)
    refused: list[Any] = []

    def another_run(action: str) -> None:
        if action == "assign" and not refused:
            refused.append(world.machine.run("by-hand", {"things": ["Pump2"]}))

    world.machine.before = another_run
    assert world.machine.run("run-1", {})["again"] is True
    assert refused == [{"outcome": "AnotherRunIsUnderWay", "holder": "run-1"}]
    [follower] = world.machine.started
    world.machine.actions.clear()
    assert world.machine.run("follower", follower["Input"])["outcome"] == "Published"
    assert world.wanted.read().taken_by is None
    assert world.machine.run("nothing", {"wanted": True})["outcome"] == "NothingWanted"


def test_a_slot_retires_while_late_readings_come_and_its_thing_returns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: clock[0])
    for name in ("Pump1", "Pump2", "Pump3"):
        world.stack.add_thing(name)
    world.machine.run("run-1", {})
    assert world.places()["Pump3"] == "2"
    world.stack.platform.delete_thing("Pump3")
    world.machine.run("run-2", {"allow_removals": True})
    clock[0] += 25 * HOUR
    world.machine.run("run-3", {})
    assert "Pump3" not in world.places()
    sqs = boto3.client("sqs")
    old = sqs.get_queue_url(QueueName="demo-slot-2.fifo")["QueueUrl"]
    taken = sent = 0
    states: list[str] = []
    for _ in range(200):
        clock[0] += MINUTE
        for name, given in world.look():
            world.machine.run(name, given)
        slot = world.control.slot("2")
        if slot is None:
            break
        if states[-1:] != [slot.state]:
            states.append(slot.state)
            if len(states) < 5:
                sqs.send_message(QueueUrl=old, MessageBody=f"late-{sent}", MessageGroupId="lane-0")
                sent += 1
        if slot.state == "draining":
            if "Pump3" not in world.places():
                world.stack.add_thing("Pump3")
                assert world.stack.route(telemetry({"temp": 3}, "Pump3", 0)) == SETTLED
            for message in sqs.receive_message(QueueUrl=old).get("Messages", []):
                sqs.delete_message(QueueUrl=old, ReceiptHandle=message["ReceiptHandle"])
                taken += 1
    assert states == ["active", "draining", "stopping", "draining", "stopping"]
    assert world.control.slot("2") is None
    assert "demo-slot-2.fifo" not in world.queues()
    assert taken == sent == 4
    assert world.places()["Pump3"] == "3", "ids are never used again"
    world.stack.serve("3", until=lambda: world.stack.values("Pump3") == {"temp": 3.0})
    assert world.stack.held() == []


# Runs that died


def die_at(world: World, action: str) -> None:
    """The first run ends dead before its action."""

    def die(found: str) -> None:
        if found == action:
            raise DiedError

    world.stack.add_thing("Pump1")
    world.machine.before = die
    with pytest.raises(DiedError):
        world.machine.run("dead", {})
    world.machine.before = lambda _: None


def next_run(world: World) -> Any:
    """The first one that gets the lock."""
    outcomes: list[Any] = []

    def ended() -> bool:
        outcomes.append(world.machine.run(f"run-{len(outcomes)}", {}))
        return bool(outcomes[-1]["outcome"] == "Published")

    wait_until(ended)
    return outcomes[-1]


@pytest.mark.parametrize("action", ["list", "fetch", "assign", "open", "publish", "end"])
def test_a_dead_run_keeps_others_out_for_its_lease_only_and_the_next_does_all_of_it(
    world: World, action: str
) -> None:
    die_at(world, action)
    assert world.machine.run("early", {})["holder"] == "dead"
    next_run(world)
    assert world.places() == {"Pump1": "1"}
    assert world.queues() == {"demo-slot-1.fifo"}
    assert world.connectors() == {"1-1-0"}
    assert world.stack.route(telemetry({"temp": 1}, "Pump1", 0)) == SETTLED
    assert world.stack.held() == []


def test_an_entry_without_queue_gets_its_queue(world: World) -> None:
    die_at(world, "open")
    assert world.places() == {"Pump1": "1"}
    assert world.queues() == set()
    next_run(world)
    assert world.queues() == {"demo-slot-1.fifo"}


def test_a_queue_without_connector_gets_its_connector(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> bool:
        raise DiedError

    world.stack.add_thing("Pump1")
    with monkeypatch.context() as patch:
        patch.setattr(scaler, "start_connector", die)
        with pytest.raises(DiedError):
            world.machine.run("dead", {})
    assert (world.queues(), world.connectors()) == ({"demo-slot-1.fifo"}, set())
    next_run(world)
    assert world.connectors() == {"1-1-0"}


def test_a_published_thing_whose_queue_was_deleted_gets_another(world: World) -> None:
    world.stack.add_thing("Pump1")
    world.machine.run("run-1", {})
    sqs = boto3.client("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName="demo-slot-1.fifo")["QueueUrl"])
    assert world.stack.route(telemetry({"temp": 1}, "Pump1", 0)) != SETTLED
    [(name, given)] = world.look()
    world.machine.run(name, given)
    assert world.stack.route(telemetry({"temp": 1}, "Pump1", 0)) == SETTLED


def test_a_connector_without_slot_ends_its_chain(world: World) -> None:
    event = {"v": 1, "slot": "9", "epoch": 1, "token": "token", "execution": "9-1-0", "turn": 0}
    context: Any = type(
        "Context", (), {"aws_request_id": "r", "get_remaining_time_in_millis": lambda _: 60_000}
    )()
    connector.handle(event, context)
    (answer,) = world.stack.token.answers
    assert json.loads(answer)["next"] == "stop"
    assert world.control.slots() == []
