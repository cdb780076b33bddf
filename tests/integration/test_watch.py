"""The watch function on DynamoDB, SQS and Step Functions in memory, a minute a look."""

from __future__ import annotations

import itertools
import json
import os
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pytest
from botocore.exceptions import ClientError

from lambdas.shared.control_table import ASSIGNED, ControlTable, ThingChange, ThingRecord
from lambdas.shared.dynamo import to_item
from lambdas.shared.publishing import Publishing
from lambdas.shared.run_lock import RunLock
from lambdas.shared.wanted import WantedRuns
from lambdas.watch import handler
from lambdas.watch.queues import Depth, depth
from lambdas.watch.retire import Times
from lambdas.watch.table import WatchTable
from lambdas.watch.tick import Watch, WatchFailed
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.control_table import Slot

MINUTE = 60_000
DEFINITION = json.dumps(
    {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
)
SHAPE = "s"
FAILURES = "demo-failures"


class World:
    """A stack whose clock goes a minute with each look."""

    def __init__(self) -> None:
        self.dynamodb = create_control_table()
        self.sqs = boto3.client("sqs")
        self.sfn = boto3.client("stepfunctions")
        self.control = ControlTable(CONTROL_TABLE, self.dynamodb, threads=1)
        self.wanted = WantedRuns(CONTROL_TABLE, self.dynamodb)
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=FAILURES)
        self.errors_url = self.sqs.create_queue(QueueName="demo-ingest-errors")["QueueUrl"]
        self.now = time.time_ns() // 1_000_000
        self.publishing = Publishing(CONTROL_TABLE, self.dynamodb, lambda: self.now)
        self.machines = {
            name: self.sfn.create_state_machine(
                name=f"demo-{name}", definition=DEFINITION, roleArn="arn:aws:iam::123456789012:role/any"
            )["stateMachineArn"]
            for name in ("discovery", "connector")
        }

    def environment(self) -> dict[str, str]:
        """Of the function."""
        return {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "DISCOVERY_STATE_MACHINE_ARN": self.machines["discovery"],
            "CONNECTOR_STATE_MACHINE_ARN": self.machines["connector"],
            "INGEST_ERRORS_QUEUE_URL": self.errors_url,
            "FAILURES_BUCKET": FAILURES,
            "RETIRE_AFTER_SECONDS": "180",
            "RETIRE_DRAIN_SECONDS": "120",
        }

    def add_slot(self, slot_id: str, *, queue: bool = True) -> None:
        """As discovery does."""
        self.control.create_slots([slot_id], lanes=8)
        if queue:
            self.control.set_queue_url(slot_id, self.create_queue(slot_id))

    def create_queue(self, slot_id: str) -> str:
        """As the scaler does."""
        return self.sqs.create_queue(
            QueueName=f"demo-slot-{slot_id}.fifo",
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )["QueueUrl"]

    def assign(self, thing: str, slot_id: str, before: ThingRecord | None = None) -> ThingRecord:
        """As discovery does."""
        record = ThingRecord(thing, slot_id, SHAPE, ASSIGNED, 1)
        self.control.assign([ThingChange(before, record)])
        return record

    def forget(self, record: ThingRecord) -> None:
        """As discovery does a day after a Thing was removed."""
        self.control.assign([ThingChange(record, None)])

    def serve(self, slot_id: str, *, minutes: float = 10) -> None:
        """As a connector does."""
        self.change(slot_id, owner="connector", until=self.now + int(minutes * MINUTE))

    def change(self, slot_id: str, **values: Any) -> None:
        """Write to a slot."""
        self.dynamodb.update_item(
            TableName=CONTROL_TABLE,
            Key=to_item({"pk": "slots", "sk": slot_id}),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues=to_item({f":{name}": value for name, value in values.items()}),
        )

    def put(self, pk: str, sk: str) -> None:
        """An item of a slot's own."""
        self.dynamodb.put_item(TableName=CONTROL_TABLE, Item=to_item({"pk": pk, "sk": sk, "v": 1}))

    def publish(self) -> None:
        """As a repair does."""
        with self.publishing.hold("repair", 0):
            self.wanted.clear_repair()

    def send(self, slot_id: str) -> None:
        """A late reading."""
        self.sqs.send_message(
            QueueUrl=self.url(slot_id), MessageBody=str(time.time_ns()), MessageGroupId="lane-0"
        )

    def deliver(self, slot_id: str) -> int:
        """What a connector takes from the queue."""
        taken = 0
        while messages := self.sqs.receive_message(QueueUrl=self.url(slot_id)).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.url(slot_id), ReceiptHandle=message["ReceiptHandle"])
                taken += 1
        return taken

    def url(self, slot_id: str) -> str:
        """Of a slot's queue."""
        return self.sqs.get_queue_url(QueueName=f"demo-slot-{slot_id}.fifo")["QueueUrl"]

    def queues(self) -> list[str]:
        """Names of the slots' queues."""
        found = self.sqs.list_queues(QueueNamePrefix="demo-slot-").get("QueueUrls", [])
        return [url.rpartition("/")[2] for url in found]

    def look(self, *, minutes: float = 1) -> dict[str, int]:
        """One look, a minute after the last."""
        self.now += int(minutes * MINUTE)
        return Watch(handler._parts(), self.now).run()

    def slot(self, slot_id: str) -> Slot:
        """As it is now."""
        slot = self.control.slot(slot_id)
        assert slot is not None
        return slot

    def executions(self, machine: str) -> dict[str, Any]:
        """Input by name."""
        found = self.sfn.list_executions(stateMachineArn=self.machines[machine])["executions"]
        return {
            entry["name"]: json.loads(
                self.sfn.describe_execution(executionArn=entry["executionArn"])["input"]
            )
            for entry in found
        }

    def stop(self, name: str) -> None:
        """As an operator does."""
        arn = self.machines["connector"].replace(":stateMachine:", ":execution:")
        self.sfn.stop_execution(executionArn=f"{arn}:{name}")

    def looks_until(self, slot_id: str, state: str, most: int = 20) -> int:
        """Look and publish when asked to until the slot is in a state; how many looks that took."""
        for number in range(1, most + 1):
            self.serve(slot_id)
            self.look()
            if self.wanted.read().repair:
                self.publish()
            if self.slot(slot_id).state == state:
                return number
        raise AssertionError(f"slot {slot_id} is {self.slot(slot_id).state}")


@pytest.fixture
def world() -> Iterator[World]:
    with aws():
        found = World()
        with mock.patch.dict(os.environ, found.environment()):
            handler._parts.cache_clear()
            yield found
            handler._parts.cache_clear()


def test_a_stack_without_slots_is_looked_at_too(world: World) -> None:
    assert world.look() == {
        "slots_active": 0,
        "slots_unserved": 0,
        "queue_messages": 0,
        "queue_messages_max": 0,
        "things_with_backlog": 0,
        "oldest_message_seconds": 0,
        "ingest_errors": 0,
        "failed_batches": 0,
    }


# Discovery runs


def test_what_is_wanted_starts_one_run_a_minute(world: World) -> None:
    world.now -= world.now % MINUTE
    for _ in range(10):
        world.wanted.ask("unknown", now=world.now)
        world.look(minutes=0.2)
    assert len(world.executions("discovery")) == 3, "two minutes and the beginning of a third"
    assert set(map(json.dumps, world.executions("discovery").values())) == {'{"wanted": true}'}


def test_nothing_wanted_starts_nothing(world: World) -> None:
    world.look()
    assert world.executions("discovery") == {}


def test_a_lost_registry_is_repaired_within_a_minute_even_while_a_run_waits_for_thingworx(
    world: World,
) -> None:
    world.add_slot("1")
    RunLock(CONTROL_TABLE, world.dynamodb).begin("slow", 10**9, world.now)
    world.wanted.ask("repair", "unknown", now=world.now)
    world.look()
    (name,) = world.executions("discovery")
    assert name.startswith("repair-")
    assert world.executions("discovery")[name] == {"repair": True}


def test_without_slots_a_lost_registry_is_filled_by_asking_thingworx(world: World) -> None:
    world.wanted.ask("repair", now=world.now)
    world.look()
    assert list(world.executions("discovery").values()) == [{"wanted": True}]
    assert not world.wanted.read().repair


def test_wishes_of_a_run_that_died_are_tried_again_later(world: World) -> None:
    world.wanted.ask_things(["pump"], world.now)
    lock = RunLock(CONTROL_TABLE, world.dynamodb)
    lock.begin("dead", MINUTE, world.now)
    world.wanted.take_next("dead", world.now)
    world.look(minutes=0.5)
    assert world.wanted.read().taken_by == "dead", "it may live"
    world.look()
    assert world.wanted.read().wishes.things == {"pump"}
    assert world.executions("discovery") == {}
    world.look(minutes=1.5)
    assert list(world.executions("discovery").values()) == [{"wanted": True}]


def test_wishes_of_a_run_that_died_are_open_again_while_another_holds_the_lock(world: World) -> None:
    world.wanted.ask("unknown", now=world.now)
    world.wanted.take_next("dead", world.now)
    RunLock(CONTROL_TABLE, world.dynamodb).begin("dry-run", 100 * MINUTE, world.now)
    world.look()
    assert world.wanted.read().wishes.unknown
    assert world.executions("discovery") == {}


# Connectors


def test_a_dead_connector_is_started_again_with_a_new_epoch(world: World) -> None:
    world.add_slot("1")
    world.change("1", epoch=4, last_start=1, owner="gone", until=1)
    world.look()
    assert world.executions("connector") == {}, "it may be between two connectors"
    world.look(minutes=2)
    assert world.executions("connector") == {"1-5-0": {"slot": "1", "epoch": 5, "n": 0}}


def test_a_draining_slot_is_kept_served(world: World) -> None:
    world.add_slot("1")
    world.change("1", state="draining", draining_since=world.now, epoch=1)
    world.look()
    world.look(minutes=2)
    assert list(world.executions("connector")) == ["1-2-0"]


def test_a_machine_that_waits_out_its_back_off_is_left_alone(world: World) -> None:
    world.add_slot("1")
    world.change("1", epoch=4, last_start=1)
    world.sfn.start_execution(stateMachineArn=world.machines["connector"], name="1-4-17")
    for _ in range(5):
        world.look(minutes=60)
    assert list(world.executions("connector")) == ["1-4-17"]


def test_a_connector_that_somebody_stopped_stays_stopped(world: World) -> None:
    world.add_slot("1")
    world.change("1", epoch=4, last_start=1)
    world.sfn.start_execution(stateMachineArn=world.machines["connector"], name="1-4-17")
    world.stop("1-4-17")
    for _ in range(5):
        world.look(minutes=60)
    assert list(world.executions("connector")) == ["1-4-17"]


def test_a_connector_that_dies_again_and_again_is_started_later_and_later(world: World) -> None:
    world.add_slot("1")
    starts: list[int] = []
    with mock.patch.object(handler._parts().sfn, "get_paginator") as pages:
        pages.return_value.paginate.return_value = [{"executions": []}]
        for minute in range(130):
            before = world.slot("1").epoch
            world.look()
            if world.slot("1").epoch > before:
                starts.append(minute)
    assert [later - sooner for sooner, later in itertools.pairwise(starts)] == [4, 8, 16, 32, 60]


def test_a_start_that_got_lost_is_repeated_at_the_next_look(world: World) -> None:
    world.add_slot("1")
    world.change("1", epoch=4, last_start=1, unserved_since=1)
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slower"}}, "StartExecution")
    with (
        mock.patch.object(handler._parts().sfn, "start_execution", side_effect=throttled),
        pytest.raises(WatchFailed, match="slower"),
    ):
        world.look()
    assert world.slot("1").epoch == 5
    world.look()
    assert list(world.executions("connector")) == ["1-5-0"]
    world.look()
    assert list(world.executions("connector")) == ["1-5-0"]


def test_a_slot_that_is_served_again_is_well_again(world: World) -> None:
    world.add_slot("1")
    world.assign("pump", "1")
    world.change("1", epoch=1, last_start=world.now, unserved_since=1, restarts=3)
    world.serve("1", minutes=60)
    assert world.look()["slots_unserved"] == 0
    world.look(minutes=15)
    item = world.dynamodb.get_item(TableName=CONTROL_TABLE, Key=to_item({"pk": "slots", "sk": "1"}))["Item"]
    assert not {"unserved_since", "restarts"} & item.keys()


def test_an_active_slot_that_lost_its_queue_is_opened_by_a_repair(world: World) -> None:
    world.add_slot("1")
    world.serve("1")
    world.look()
    assert not world.wanted.read().repair
    world.sqs.delete_queue(QueueUrl=world.url("1"))
    world.look()
    assert world.wanted.read().repair


def test_a_slot_that_a_dead_run_left_without_queue_is_opened_by_a_repair(world: World) -> None:
    world.add_slot("1", queue=False)
    world.assign("pump", "1")
    world.look()
    assert not world.wanted.read().repair, "a run may be about to make it"
    world.look(minutes=2)
    assert world.wanted.read().repair


# Retirement


def test_an_empty_slot_goes_with_all_that_was_its_own(world: World) -> None:
    world.add_slot("1")
    world.add_slot("2")
    world.assign("fan", "2")
    world.serve("2", minutes=100)
    record = world.assign("pump", "1")
    for kind in ("presence", "values", "backlog"):
        world.put(f"{kind}#1", "pump")
        world.put(f"{kind}#2", "fan")
    world.serve("1")
    world.look()
    world.forget(record)
    assert world.looks_until("1", "draining") == 4
    assert world.looks_until("1", "stopping") == 1 + 2 + 3, (
        "published, forgotten by routers, read three times"
    )
    world.look()
    assert world.slot("1").state == "stopping", "somebody still serves it"
    world.serve("1", minutes=0)
    world.look()
    assert [slot.id for slot in world.control.slots()] == ["2"]
    assert world.queues() == ["demo-slot-2.fifo"]
    items = world.dynamodb.scan(TableName=CONTROL_TABLE)["Items"]
    left = {item["pk"]["S"] for item in items}
    assert {"presence#2", "values#2", "backlog#2"} <= left
    assert not {name for name in left if name.endswith("#1")}
    world.look()
    assert world.control.next_slot_id() == 1, "ids are allotted by discovery alone"


def test_a_slot_waits_for_the_publishing_without_it(world: World) -> None:
    world.add_slot("1")
    world.publish()
    for _ in range(20):
        world.serve("1")
        world.look()
    assert world.slot("1").state == "draining"
    assert world.wanted.read().repair


def test_a_publishing_that_read_the_slot_before_it_drained_is_not_one_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_slot("1")
    world.serve("1", minutes=1000)
    world.look()
    passed = itertools.count(0.0)
    monkeypatch.setattr("lambdas.watch.tick.time.monotonic", lambda: next(passed))
    change = WatchTable.change

    def slow(table: WatchTable, slot_id: str, was: str, /, **values: Any) -> None:
        if was == "active":
            world.now += 500
            world.publish()
        change(table, slot_id, was, **values)

    monkeypatch.setattr(WatchTable, "change", slow)
    world.look(minutes=3)
    assert world.slot("1").state == "draining"
    table = WatchTable(CONTROL_TABLE, world.dynamodb)
    world.look()
    assert not table.slots()[0].unrouted_since
    world.publish()
    world.look()
    assert table.slots()[0].unrouted_since


def test_a_repair_that_was_just_started_is_not_asked_for_again(world: World) -> None:
    world.add_slot("1")
    world.looks_until("1", "draining")
    world.wanted.ask("repair", now=world.now)
    world.look()
    world.wanted.clear_repair()  # as the repair does when it begins
    assert any(name.startswith("repair-") for name in world.executions("discovery"))
    repaired = world.wanted.read().seq
    with mock.patch.object(handler._parts().runs, "start_wanted", return_value=["repair-now"]):
        world.look()
    assert world.wanted.read().seq == repaired


def test_a_place_that_is_kept_for_a_removed_thing_keeps_its_slot(world: World) -> None:
    world.add_slot("1")
    record = world.assign("pump", "1")
    world.control.assign([ThingChange(record, record._replace(state="removed", changed=2))])
    for _ in range(10):
        world.serve("1")
        world.look()
    assert world.slot("1").state == "active"


def test_a_thing_that_comes_back_before_it_drains_keeps_the_slot(world: World) -> None:
    world.add_slot("1")
    for _ in range(3):
        world.serve("1")
        world.look()
    world.assign("pump", "1")
    for _ in range(5):
        world.serve("1")
        world.look()
    assert world.slot("1").state == "active"


def test_a_late_message_at_every_step_is_delivered_before_the_slot_goes(world: World) -> None:
    world.add_slot("1")
    delivered = sent = 0
    for _ in range(60):
        if not world.control.slots():
            break
        slot = world.slot("1")
        late = slot.state != "active" and sent < 12
        if late:
            world.send("1")
            sent += 1
        world.serve("1", minutes=0 if slot.state == "stopping" else 10)
        world.look()
        if world.wanted.read().repair:
            world.publish()
        if world.control.slots() and world.slot("1").state != "stopping" and sent % 3 == 0:
            delivered += world.deliver("1")  # a connector is busy with others at times
    assert (delivered, world.control.slots(), world.queues()) == (sent, [], [])
    assert sent == 12


def test_a_message_that_comes_when_the_connector_has_gone_has_the_slot_served_again(world: World) -> None:
    world.add_slot("1")
    world.looks_until("1", "draining")
    world.looks_until("1", "stopping")
    world.serve("1", minutes=0)
    world.send("1")
    world.look()
    assert world.slot("1").state == "draining"
    world.change("1", until=0)
    world.look()
    world.look(minutes=2)
    assert list(world.executions("connector")) == ["1-1-0"]
    assert world.deliver("1") == 1
    world.looks_until("1", "stopping")
    world.serve("1", minutes=0)
    world.look()
    assert (world.control.slots(), world.queues()) == ([], [])


def test_a_deletion_that_was_cut_off_is_carried_on(world: World) -> None:
    world.add_slot("1")
    world.looks_until("1", "draining")
    world.looks_until("1", "stopping")
    world.serve("1", minutes=0)
    error = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "DeleteItem")
    parts = handler._parts()
    with (
        mock.patch.object(parts.table._client, "delete_item", side_effect=error),
        pytest.raises(WatchFailed, match="slot 1: ClientError"),
    ):
        world.look()
    assert world.queues() == []
    world.look()
    assert world.control.slots() == []


def test_a_slot_that_an_interrupted_destroy_left_is_drained_before_it_goes(world: World) -> None:
    world.add_slot("1")
    world.control.stop_slot("1")
    world.send("1")
    world.look()
    assert world.slot("1").state == "draining"
    for _ in range(10):
        world.serve("1")
        world.look()
        if world.wanted.read().repair:
            world.publish()
    assert world.slot("1").state == "draining"
    world.deliver("1")
    world.looks_until("1", "stopping")


# The whole look


def test_one_slot_that_cannot_be_looked_at_keeps_no_other_from_it(world: World) -> None:
    for slot_id in ("1", "2"):
        world.add_slot(slot_id)
        world.change(slot_id, epoch=1, last_start=1, unserved_since=1)
    parts = handler._parts()
    read = parts.sqs.get_queue_attributes

    def fail_for_one(**request: Any) -> Any:
        if request["QueueUrl"].endswith("slot-1.fifo"):
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "GetQueueAttributes")
        return read(**request)

    with (
        mock.patch.object(parts.sqs, "get_queue_attributes", fail_for_one),
        pytest.raises(WatchFailed, match="slot 1: ClientError") as failure,
    ):
        world.look()
    assert "slot 2" not in str(failure.value)
    assert set(world.executions("connector")) == {"1-2-0", "2-2-0"}


def test_runs_start_even_when_nothing_else_works(world: World) -> None:
    world.add_slot("1")
    world.wanted.ask("unknown", now=world.now)
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetQueueAttributes")
    with (
        mock.patch.object(handler._parts().sqs, "get_queue_attributes", side_effect=error),
        pytest.raises(WatchFailed),
    ):
        world.look()
    assert len(world.executions("discovery")) == 1


def test_a_message_that_a_connector_works_on_is_still_in_the_queue(world: World) -> None:
    world.add_slot("1")
    world.send("1")
    world.sqs.receive_message(QueueUrl=world.url("1"), VisibilityTimeout=600)
    assert depth(world.sqs, world.url("1")) == Depth(waiting=0, all=1)


def test_the_figures_are_of_the_whole_stack(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for slot_id in ("1", "2", "3"):
        world.add_slot(slot_id)
        world.assign(f"pump-{slot_id}", slot_id)
    world.serve("1")
    for _ in range(2):
        world.send("2")
    world.send("3")
    world.put("backlog#2", "pump-2")
    for _ in range(2):
        world.sqs.send_message(QueueUrl=world.errors_url, MessageBody="{}")
    world.sqs.receive_message(QueueUrl=world.errors_url, VisibilityTimeout=600)
    for number in range(3):
        world.s3.put_object(Bucket=FAILURES, Key=f"aws/lambda/{number}", Body=b"{}")
    answer = {"MetricDataResults": [{"Id": "q0", "Values": [7.0, 99.0]}, {"Id": "q1", "Values": []}]}
    with mock.patch.object(handler._parts().cloudwatch, "get_metric_data", return_value=answer) as asked:
        figures = world.look()
    assert figures == {
        "slots_active": 3,
        "slots_unserved": 2,
        "queue_messages": 3,
        "queue_messages_max": 2,
        "things_with_backlog": 1,
        "oldest_message_seconds": 7,
        "ingest_errors": 2,
        "failed_batches": 3,
    }
    queries = asked.call_args.kwargs["MetricDataQueries"]
    names = [query["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for query in queries]
    assert names == ["demo-slot-2.fifo", "demo-slot-3.fifo"], "each queue asked for is billed"
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert record["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["stack"]]
    assert {name: record[name] for name in figures} == figures


def test_a_silent_cloudwatch_costs_one_figure(world: World) -> None:
    error = ClientError({"Error": {"Code": "Throttling", "Message": ""}}, "GetMetricData")
    world.add_slot("1")
    world.send("1")
    with mock.patch.object(handler._parts().cloudwatch, "get_metric_data", side_effect=error):
        assert "oldest_message_seconds" not in world.look()


def test_of_a_full_bucket_as_much_is_counted_as_one_listing_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.watch.strays.MOST_COUNTED", 2)
    for number in range(3):
        world.s3.put_object(Bucket=FAILURES, Key=str(number), Body=b"{}")
    assert world.look()["failed_batches"] == 2


def test_what_can_not_be_counted_is_left_out_told_and_keeps_nothing_from_its_work(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.sqs.delete_queue(QueueUrl=world.errors_url)
    world.s3.delete_bucket(Bucket=FAILURES)
    with pytest.raises(
        WatchFailed, match=r"ingest_errors: StraysUnknown: there is no queue .*; failed_batches"
    ):
        world.look()
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert "slots_active" in record
    assert not {"ingest_errors", "failed_batches"} & set(record)


def test_the_calls_of_a_look_grow_by_a_few_a_slot(world: World) -> None:
    calls: list[str] = []
    parts = handler._parts()
    clients: list[Any] = [parts.table._client, parts.sqs, parts.sfn, parts.cloudwatch, parts.strays._s3]
    for client in clients:
        client.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    for number in range(100):
        world.add_slot(str(number + 1))
        world.assign(f"pump-{number}", str(number + 1))
        world.serve(str(number + 1), minutes=60)
    world.look()
    assert len(calls) <= 3 * 100 + 10


def test_the_settings_reach_the_look(world: World) -> None:
    with mock.patch.dict(os.environ, {"RETIRE_PAUSE_SECONDS": "1", "RESTART_AFTER_SECONDS": "7"}):
        handler._parts.cache_clear()
        assert handler._parts().times == Times(180_000, 120_000, 1000)
        assert handler._parts().grace == 7000
        assert handler.handle({}, None)["slots_active"] == 0
