"""Closing a stack on SQS, DynamoDB and Step Functions: what was made at run time is gone afterwards."""

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
from lambdas.scaler.close import NotClosed, Stack, close_stack
from lambdas.shared.control_table import ControlTable
from lambdas.shared.dynamo import to_item
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

DEFINITION = json.dumps(
    {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
)
FAR_AWAY = 2**42


@pytest.fixture
def stack() -> Iterator[Stack]:
    with aws():
        create_control_table()
        control = ControlTable(CONTROL_TABLE, boto3.client("dynamodb"), threads=1)
        sqs, sfn = boto3.client("sqs"), boto3.client("stepfunctions")
        machines = [
            sfn.create_state_machine(
                name=name, definition=DEFINITION, roleArn="arn:aws:iam::123456789012:role/any"
            )["stateMachineArn"]
            for name in ("demo-discovery", "demo-connector")
        ]
        control.create_slots(["1", "2"], lanes=8)
        for slot in ("1", "2"):
            create_queue(sqs, f"demo-slot-{slot}.fifo")
            sfn.start_execution(stateMachineArn=machines[1], name=f"{slot}-1-0")
        sfn.start_execution(stateMachineArn=machines[0], name="hourly")
        yield Stack(control, sqs, sfn, machines, "demo-slot-")


def create_queue(sqs: Any, name: str) -> None:
    sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})


def queues(stack: Stack) -> set[str]:
    return {url.rsplit("/", 1)[1] for url in stack.sqs.list_queues().get("QueueUrls", [])}


def running(stack: Stack) -> set[str]:
    return {
        entry["name"]
        for machine in stack.machines
        for entry in stack.sfn.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]
    }


def set_lease(slot: str, until: int) -> None:
    boto3.client("dynamodb").update_item(
        TableName=CONTROL_TABLE,
        Key=to_item({"pk": "slots", "sk": slot}),
        UpdateExpression="SET #until = :until, #owner = :owner",
        ExpressionAttributeNames={"#until": "until", "#owner": "owner"},
        ExpressionAttributeValues=to_item({":until": until, ":owner": f"{slot}-1-0/0/abc"}),
    )


def pauses(*actions: Callable[[], None]) -> Callable[[float], None]:
    """A pause in which the next of `actions` happens, and nothing once they are used up."""
    left = list(actions)
    return lambda _: left.pop(0)() if left else None


def test_nothing_that_was_made_at_run_time_is_left(stack: Stack) -> None:
    assert close_stack(stack, 60, pauses()) == {"executions": 3, "slots": 2, "queues": 2}
    assert running(stack) == set()
    assert queues(stack) == set()
    assert [slot.state for slot in stack.control.slots()] == ["stopping", "stopping"]


def test_closing_a_closed_stack_does_nothing(stack: Stack) -> None:
    close_stack(stack, 60, pauses())
    assert close_stack(stack, 60, pauses()) == {"executions": 0, "slots": 0, "queues": 0}


def test_queues_stay_until_the_last_connector_has_ended(stack: Stack) -> None:
    set_lease("2", FAR_AWAY)
    seen: list[set[str]] = []

    def end_of_the_lease() -> None:
        seen.append(queues(stack))
        set_lease("2", 1)

    close_stack(stack, 60, pauses(end_of_the_lease))
    assert seen == [{"demo-slot-1.fifo", "demo-slot-2.fifo"}]
    assert queues(stack) == set()


def test_what_a_function_still_at_work_makes_meanwhile_goes_too(stack: Stack) -> None:
    def a_late_run() -> None:
        stack.control.create_slots(["3"], lanes=8)
        create_queue(stack.sqs, "demo-slot-3.fifo")
        stack.sfn.start_execution(stateMachineArn=stack.machines[1], name="3-1-0")

    nothing = pauses(lambda: None, a_late_run)
    assert close_stack(stack, 60, nothing) == {"executions": 4, "slots": 3, "queues": 3}
    assert (running(stack), queues(stack)) == (set(), set())


def test_slots_that_were_on_their_way_out_go_too(stack: Stack) -> None:
    client = boto3.client("dynamodb")
    for slot, state in (("1", "draining"), ("2", "stopping")):
        client.update_item(
            TableName=CONTROL_TABLE,
            Key=to_item({"pk": "slots", "sk": slot}),
            UpdateExpression="SET #state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=to_item({":state": state}),
        )

    def the_watch_function_was_still_at_work() -> None:
        stack.sqs.delete_queue(QueueUrl=stack.sqs.get_queue_url(QueueName="demo-slot-2.fifo")["QueueUrl"])
        client.delete_item(TableName=CONTROL_TABLE, Key=to_item({"pk": "slots", "sk": "2"}))

    set_lease("1", FAR_AWAY)
    gone = pauses(the_watch_function_was_still_at_work, lambda: set_lease("1", 1))
    assert close_stack(stack, 60, gone)["slots"] == 1
    assert (running(stack), queues(stack)) == (set(), set())
    assert [(slot.id, slot.state) for slot in stack.control.slots()] == [("1", "stopping")]


def test_queues_of_other_stacks_are_left_alone(stack: Stack) -> None:
    others = {"demo-slot-x-slot-1.fifo", "demo-slot-1-old.fifo", "other-slot-1.fifo"}
    for name in others:
        create_queue(stack.sqs, name)
    close_stack(stack, 60, pauses())
    assert queues(stack) == others


def test_a_connector_that_never_ends_is_named_and_its_queue_kept(stack: Stack) -> None:
    set_lease("1", FAR_AWAY)
    with pytest.raises(NotClosed, match="slot 1, served by 1-1-0/0/abc"):
        close_stack(stack, 0, pauses())
    assert "demo-slot-1.fifo" in queues(stack)


@pytest.mark.parametrize(("action", "closed"), [("create", False), ("update", False), ("delete", True)])
def test_terraform_closes_at_destroy_only(stack: Stack, action: str, *, closed: bool) -> None:
    variables = {
        "STACK": "demo",
        "CONTROL_TABLE": CONTROL_TABLE,
        "QUEUE_NAME_PREFIX": "demo-slot-",
        "CONNECTOR_STATE_MACHINE_ARN": stack.machines[1],
    }
    event = {
        "action": "close",
        "discovery_state_machine_arn": stack.machines[0],
        "tf": {"action": action, "prev_input": None},
    }
    context = cast("LambdaContext", SimpleNamespace(get_remaining_time_in_millis=lambda: 300_000))
    handler._parts.cache_clear()
    with mock.patch.dict(os.environ, variables), mock.patch.object(time, "sleep"):
        answer = handler.handle(event, context)
    handler._parts.cache_clear()
    assert answer["closed"] is closed
    assert (queues(stack) == set()) is closed
