"""What Step Functions says about a task token, and what is made of it."""

# ruff: noqa: D102 - same as in fakes.py: stand-ins
from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import boto3
import orjson
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambdas.connector.token import TaskToken, TokenClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED = ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"]
OPERATIONS = ["send_task_heartbeat", "send_task_success", "send_task_failure"]


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client(
        "stepfunctions", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(client) as stub:
        yield stub


def token_of(stub: Stubber) -> TaskToken:
    return TaskToken(stub.client, "t")  # type: ignore[arg-type] # the stub types it as any client


def call(token: TaskToken, operation: str) -> None:
    match operation:
        case "send_task_heartbeat":
            token.beat()
        case "send_task_success":
            token.answer("again", "because")
        case _:
            token.fail(ValueError("broken"))


@pytest.mark.parametrize("code", CLOSED)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_waiting_is_told_apart_from_failures(stub: Stubber, operation: str, code: str) -> None:
    stub.add_client_error(operation, code)
    token = token_of(stub)
    with pytest.raises(TokenClosed):
        call(token, operation)
    assert not token.answered


@pytest.mark.parametrize("code", CLOSED)
def test_an_answer_that_got_lost_is_not_taken_for_somebody_elses(stub: Stubber, code: str) -> None:
    stub.add_client_error("send_task_success", "InternalFailure", http_status_code=500)
    stub.add_client_error("send_task_success", code)
    token = token_of(stub)
    with pytest.raises(ClientError):
        token.answer("handover", "time")
    assert not token.answered
    token.answer("handover", "time")
    assert token.answered


def test_a_call_that_the_client_repeated_by_itself_may_have_been_taken(stub: Stubber) -> None:
    stub.add_client_error("send_task_success", "TaskTimedOut", response_meta={"RetryAttempts": 1})
    token = token_of(stub)
    token.answer("handover", "time")
    assert token.answered


@pytest.mark.parametrize("operation", OPERATIONS)
def test_other_errors_are_passed_on(stub: Stubber, operation: str) -> None:
    stub.add_client_error(operation, "ThrottlingException")
    token = token_of(stub)
    with pytest.raises(ClientError):
        call(token, operation)
    assert not token.answered


def test_an_answer_says_what_follows_and_why(stub: Stubber) -> None:
    output = orjson.dumps({"next": "handover", "reason": "time"}).decode()
    stub.add_response("send_task_success", {}, {"taskToken": "t", "output": output})
    token = token_of(stub)
    token.answer("handover", "time")
    assert token.answered
    stub.assert_no_pending_responses()


def test_a_failure_keeps_within_the_lengths_step_functions_takes(stub: Stubber) -> None:
    stub.add_response(
        "send_task_failure", {}, {"taskToken": "t", "error": "ValueError", "cause": "x" * 32_768}
    )
    token = token_of(stub)
    token.fail(ValueError("x" * 40_000))
    assert token.answered


def test_an_answered_token_is_not_beaten(stub: Stubber) -> None:
    stub.add_response("send_task_success", {})
    token = token_of(stub)
    token.answer("handover", "time")
    token.beat()  # the stub would refuse a call it doesn't expect


class SlowAnswer:
    """Step Functions closing a token at once, and saying so late."""

    def __init__(self) -> None:
        self.accepted, self.go_on = threading.Event(), threading.Event()
        self.beats = 0

    def send_task_success(self, **_: Any) -> None:
        self.accepted.set()
        assert self.go_on.wait(10)

    def send_task_heartbeat(self, **_: Any) -> None:
        self.beats += 1
        raise ClientError({"Error": {"Code": "TaskTimedOut", "Message": ""}}, "SendTaskHeartbeat")


def test_a_beat_during_the_answer_does_not_take_it_for_a_stop() -> None:
    client = SlowAnswer()
    token = TaskToken(client, "t")  # type: ignore[arg-type] # a stand-in
    faults: list[BaseException] = []

    def beat() -> None:
        try:
            token.beat()
        except TokenClosed as error:
            faults.append(error)

    answering = threading.Thread(target=token.answer, args=("handover", "time"))
    answering.start()
    assert client.accepted.wait(10)
    beating = threading.Thread(target=beat)
    beating.start()
    client.go_on.set()
    answering.join(10)
    beating.join(10)
    assert token.answered
    assert not faults
    assert client.beats == 0
