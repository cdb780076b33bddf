"""The scaler on SQS, DynamoDB and Step Functions: every slot has one queue and one start an epoch."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import boto3
import pytest

from lambdas.scaler import handler
from lambdas.scaler.handler import SlotsNotOpened
from lambdas.shared.connectors import MIN_AGE, start_connector
from lambdas.shared.control_table import ControlTable, Slot
from lambdas.shared.dynamo import to_item
from lambdas.shared.errors import RunLost
from lambdas.shared.run_lock import RunLock
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

NOW = 1_700_000_000_000
LEASE = 60_000
CONTEXT = cast("LambdaContext", SimpleNamespace(get_remaining_time_in_millis=lambda: 300_000))
DEFINITION = json.dumps(
    {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
)
WANTED = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "true",
    "VisibilityTimeout": "60",
    "MessageRetentionPeriod": "1209600",
    "MaximumMessageSize": "262144",
    "SqsManagedSseEnabled": "true",
}


@pytest.fixture
def machine() -> Iterator[str]:
    with aws():
        create_control_table()
        arn = boto3.client("stepfunctions").create_state_machine(
            name="demo-connector", definition=DEFINITION, roleArn="arn:aws:iam::123456789012:role/any"
        )["stateMachineArn"]
        variables = {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "QUEUE_NAME_PREFIX": "demo-slot-",
            "CONNECTOR_STATE_MACHINE_ARN": arn,
        }
        with mock.patch.dict(os.environ, variables):
            handler._parts.cache_clear()
            handler._parts().lock.begin("run-1", LEASE, handler._now())
            yield arn
            handler._parts.cache_clear()


@pytest.fixture
def control(machine: str) -> ControlTable:
    return ControlTable(CONTROL_TABLE, boto3.client("dynamodb"), threads=1)


@pytest.fixture
def sqs(machine: str) -> SQSClient:
    return boto3.client("sqs")


@pytest.fixture
def sfn(machine: str) -> SFNClient:
    return boto3.client("stepfunctions")


def open_slots(*slots: str) -> dict[str, int]:
    answer: dict[str, int] = handler.handle({"action": "open", "run": "run-1", "slots": list(slots)}, CONTEXT)
    return answer


def executions(sfn: SFNClient, machine: str) -> dict[str, Any]:
    found = sfn.list_executions(stateMachineArn=machine)["executions"]
    return {
        entry["name"]: json.loads(sfn.describe_execution(executionArn=entry["executionArn"])["input"])
        for entry in found
    }


def attributes(sqs: SQSClient, slot: Slot | None) -> dict[str, str]:
    assert slot is not None
    assert slot.queue_url is not None
    found = sqs.get_queue_attributes(QueueUrl=slot.queue_url, AttributeNames=["All"])["Attributes"]
    return {str(name): value for name, value in found.items()}


def change_slot(slot: str, **values: Any) -> None:
    boto3.client("dynamodb").update_item(
        TableName=CONTROL_TABLE,
        Key=to_item({"pk": "slots", "sk": slot}),
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues=to_item({f":{name}": value for name, value in values.items()}),
    )


def current(control: ControlTable, slot_id: str) -> Slot:
    slot = control.slot(slot_id)
    assert slot is not None
    return slot


def test_a_new_slot_gets_its_queue_and_its_connector(
    control: ControlTable, sqs: SQSClient, sfn: SFNClient, machine: str
) -> None:
    control.create_slots(["1", "2"], lanes=8)
    assert open_slots("1", "2") == {"queues_created": 2, "connectors_started": 2}
    slot = current(control, "1")
    assert (slot.queue_url or "").endswith("/demo-slot-1.fifo")
    assert attributes(sqs, slot).items() >= WANTED.items()
    assert "RedrivePolicy" not in attributes(sqs, slot)
    assert executions(sfn, machine) == {
        "1-1-0": {"slot": "1", "epoch": 1, "n": 0},
        "2-1-0": {"slot": "2", "epoch": 1, "n": 0},
    }


def test_opening_an_open_slot_changes_nothing(control: ControlTable, sfn: SFNClient, machine: str) -> None:
    control.create_slots(["1"], lanes=8)
    open_slots("1")
    change_slot("1", owner="1-1-0", until=2**42)
    before = current(control, "1")
    assert open_slots("1") == {"queues_created": 0, "connectors_started": 0}
    assert current(control, "1") == before
    assert list(executions(sfn, machine)) == ["1-1-0"]


def test_a_queue_of_an_earlier_release_gets_todays_attributes(control: ControlTable, sqs: SQSClient) -> None:
    control.create_slots(["1"], lanes=8)
    dead = sqs.create_queue(QueueName="dead.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    sqs.create_queue(
        QueueName="demo-slot-1.fifo",
        Attributes={"FifoQueue": "true", "VisibilityTimeout": "5", "RedrivePolicy": policy},
    )
    assert open_slots("1")["queues_created"] == 0
    assert attributes(sqs, control.slot("1")).items() >= WANTED.items()
    assert not attributes(sqs, control.slot("1")).get("RedrivePolicy")


def test_attributes_are_set_only_where_they_differ(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    open_slots("1")
    parts = handler._parts()
    with mock.patch.object(parts.sqs, "set_queue_attributes") as write:
        open_slots("1")
    write.assert_not_called()


def test_a_slot_nobody_serves_gets_a_new_epoch(control: ControlTable, sfn: SFNClient, machine: str) -> None:
    control.create_slots(["1"], lanes=8)
    open_slots("1")
    change_slot("1", owner="1-1-0", until=1, last_start=1)
    assert open_slots("1")["connectors_started"] == 1
    assert set(executions(sfn, machine)) == {"1-1-0", "1-2-0"}


def test_a_start_that_got_lost_is_repeated_with_the_same_epoch(
    control: ControlTable, sfn: SFNClient, machine: str
) -> None:
    control.create_slots(["1"], lanes=8)
    error = sfn.exceptions.ClientError({"Error": {"Code": "ThrottlingException"}}, "StartExecution")
    with (
        mock.patch.object(handler._parts().sfn, "start_execution", side_effect=error),
        pytest.raises(SlotsNotOpened, match="slot 1: ClientError"),
    ):
        open_slots("1")
    assert open_slots("1")["connectors_started"] == 1
    assert list(executions(sfn, machine)) == ["1-1-0"]
    assert current(control, "1").epoch == 1


def test_an_execution_that_has_ended_is_not_started_again_lately(
    control: ControlTable, sfn: SFNClient, machine: str
) -> None:
    control.create_slots(["1"], lanes=8)
    open_slots("1")
    (execution,) = sfn.list_executions(stateMachineArn=machine)["executions"]
    sfn.stop_execution(executionArn=execution["executionArn"])
    assert open_slots("1")["connectors_started"] == 0
    assert list(executions(sfn, machine)) == ["1-1-0"]


def test_each_packet_of_slots_keeps_the_run_lock(
    control: ControlTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.create_slots(["1"], lanes=8)
    later = time.time_ns() // 1_000_000 + LEASE
    monkeypatch.setattr(handler, "_now", lambda: later)
    open_slots("1")
    lock = RunLock(CONTROL_TABLE, boto3.client("dynamodb"))
    assert not lock.begin("run-2", LEASE, later + LEASE).acquired


def test_a_run_that_lost_the_lock_opens_nothing(control: ControlTable, sfn: SFNClient, machine: str) -> None:
    control.create_slots(["1"], lanes=8)
    with pytest.raises(RunLost):
        handler.handle({"action": "open", "run": "run-0", "slots": ["1"]}, CONTEXT)
    assert executions(sfn, machine) == {}


def test_a_repair_opens_slots_whoever_has_the_lock(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    answer = handler.handle({"action": "open", "run": "repair-1", "repair": True, "slots": ["1"]}, CONTEXT)
    assert answer == {"queues_created": 1, "connectors_started": 1}


def test_two_callers_at_once_start_one_connector(control: ControlTable, sfn: SFNClient, machine: str) -> None:
    control.create_slots(["1"], lanes=8)
    slot = current(control, "1")
    assert [start_connector(control, sfn, machine, slot, NOW) for _ in range(2)] == [True, False]
    assert list(executions(sfn, machine)) == ["1-1-0"]


@pytest.mark.parametrize("age", [0, MIN_AGE])
def test_a_slot_started_lately_keeps_its_epoch(
    control: ControlTable, sfn: SFNClient, machine: str, age: int
) -> None:
    control.create_slots(["1"], lanes=8)
    start_connector(control, sfn, machine, current(control, "1"), NOW)
    start_connector(control, sfn, machine, current(control, "1"), NOW + age)
    assert current(control, "1").epoch == 1
    start_connector(control, sfn, machine, current(control, "1"), NOW + MIN_AGE + 1)
    assert current(control, "1").epoch == 2


def test_a_draining_slot_that_nobody_serves_gets_a_connector_and_its_queue_is_left_alone(
    control: ControlTable, sfn: SFNClient, machine: str
) -> None:
    control.create_slots(["1", "2"], lanes=8)
    open_slots("1")
    url = current(control, "1").queue_url
    change_slot("1", state="draining", last_start=0)
    change_slot("2", state="draining")
    assert open_slots("1", "2") == {"queues_created": 0, "connectors_started": 1}
    assert set(executions(sfn, machine)) == {"1-1-0", "1-2-0"}
    assert current(control, "1").queue_url == url
    assert current(control, "2").queue_url is None, "a draining slot gets no queue"


def test_a_slot_that_stops_is_left_alone(control: ControlTable, sfn: SFNClient, machine: str) -> None:
    control.create_slots(["1"], lanes=8)
    change_slot("1", state="stopping")
    assert open_slots("1", "unknown") == {"queues_created": 0, "connectors_started": 0}
    assert not start_connector(control, sfn, machine, current(control, "1"), time.time_ns() // 1_000_000)
    assert executions(sfn, machine) == {}


def test_one_slot_that_cannot_be_opened_stops_no_other(
    control: ControlTable, sqs: SQSClient, sfn: SFNClient, machine: str
) -> None:
    control.create_slots(["1", "2", "3"], lanes=8)
    parts = handler._parts()
    create = parts.sqs.create_queue

    def refuse_two(**request: Any) -> Any:
        if request["QueueName"] == "demo-slot-2.fifo":
            raise sqs.exceptions.QueueDeletedRecently(
                {"Error": {"Code": "QueueDeletedRecently"}}, "CreateQueue"
            )
        return create(**request)

    # The classes of a client's exceptions are its own: the handler catches those of its client.
    sqs = parts.sqs
    with (
        mock.patch.object(parts.sqs, "create_queue", side_effect=refuse_two),
        pytest.raises(SlotsNotOpened, match=r"slot 2: QueueBlocked.*60 seconds") as caught,
    ):
        open_slots("1", "2", "3")
    assert "slot 1" not in str(caught.value)
    assert set(executions(sfn, machine)) == {"1-1-0", "3-1-0"}
    assert open_slots("1", "2", "3")["queues_created"] == 1


def test_an_unknown_action_is_refused_in_words(machine: str) -> None:
    with pytest.raises(ValueError, match="it must be open or close"):
        handler.handle({"action": "retire"}, CONTEXT)
