"""Step Functions: executions, task tokens, error names, limits and JSONata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.aws import ROLE, Aws, eventually, unique

if TYPE_CHECKING:
    from collections.abc import Callable

CALLBACK = "arn:aws:states:::lambda:invoke.waitForTaskToken"
QUEUE_CALLBACK = "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
Json = dict[str, Any]


def machine(aws: Aws, states: Json, *, start: str = "A", **settings: Any) -> str:
    definition = {"QueryLanguage": "JSONata", "StartAt": start, "States": states, **settings}
    answer = aws("stepfunctions").create_state_machine(
        name=unique("machine"), definition=json.dumps(definition), roleArn=ROLE
    )
    return str(answer["stateMachineArn"])


def start(aws: Aws, states: Json, given: Any = None, **settings: Any) -> str:
    answer = aws("stepfunctions").start_execution(
        stateMachineArn=machine(aws, states, **settings), input=json.dumps(given or {})
    )
    return str(answer["executionArn"])


def finish(aws: Aws, execution: str) -> Json:
    def ended() -> Json | None:
        answer: Json = aws("stepfunctions").describe_execution(executionArn=execution)
        return answer if answer["status"] != "RUNNING" else None

    return eventually(ended)


def run(aws: Aws, states: Json, given: Any = None, **settings: Any) -> Json:
    return finish(aws, start(aws, states, given, **settings))


def output(execution: Json) -> Any:
    assert execution["status"] == "SUCCEEDED", execution
    return json.loads(execution["output"])


def error_code(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


class TokenQueue:
    """A queue that a state sends its task token to."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.url = aws("sqs").create_queue(QueueName=unique("tokens"))["QueueUrl"]

    def state(self, **settings: Any) -> Json:
        """A state that sends its token here and waits."""
        body = {"QueueUrl": self.url, "MessageBody": "{% $states.context.Task.Token %}"}
        return {"Type": "Task", "Resource": QUEUE_CALLBACK, "Arguments": body, "End": True, **settings}

    def token(self) -> str:
        """The next token that was sent."""

        def receive() -> list[Json]:
            answer: Json = self.aws("sqs").receive_message(QueueUrl=self.url, WaitTimeSeconds=1)
            return answer.get("Messages") or []

        return str(eventually(receive)[0]["Body"])


@pytest.fixture
def tokens(aws: Aws) -> TokenQueue:
    return TokenQueue(aws)


def test_an_event_invocation_waits_for_its_token_however_the_function_ends(aws: Aws) -> None:
    name = aws.function(
        "import boto3\n"
        "def handle(event, context):\n"
        "    states = boto3.client('stepfunctions')\n"
        "    states.send_task_heartbeat(taskToken=event['token'])\n"
        "    states.send_task_success(taskToken=event['token'], output='{\"done\": true}')\n"
        "    raise ValueError('after the answer')\n"
    )
    aws("lambda").put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    payload = {"token": "{% $states.context.Task.Token %}"}
    arguments = {"FunctionName": name, "InvocationType": "Event", "Payload": payload}
    state = {
        "Type": "Task",
        "Resource": CALLBACK,
        "Arguments": arguments,
        "HeartbeatSeconds": 10,
        "End": True,
    }
    assert output(run(aws, {"A": state})) == {"done": True}


def test_a_synchronous_function_that_fails_fails_its_callback_task(aws: Aws) -> None:
    name = aws.function("def handle(event, context): raise KeyError('x')\n")
    arguments = {"FunctionName": name, "Payload": {"token": "{% $states.context.Task.Token %}"}}
    state = {"Type": "Task", "Resource": CALLBACK, "Arguments": arguments, "End": True}
    assert run(aws, {"A": state})["error"] == "KeyError"


def test_a_missing_heartbeat_is_heartbeat_timeout_and_its_token_is_dead(aws: Aws, tokens: TokenQueue) -> None:
    catch = [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "B", "Output": "caught"}]
    states = {"A": tokens.state(HeartbeatSeconds=1, Catch=catch), "B": {"Type": "Pass", "End": True}}
    assert output(run(aws, states)) == "caught"
    token = tokens.token()
    client = aws("stepfunctions")
    assert error_code(client.send_task_heartbeat, taskToken=token) == "TaskTimedOut"
    assert error_code(client.send_task_success, taskToken=token, output="{}") == "TaskTimedOut"
    assert error_code(client.send_task_failure, taskToken=token) == "TaskTimedOut"


def test_timeout_seconds_is_states_timeout_even_while_heartbeats_arrive(aws: Aws, tokens: TokenQueue) -> None:
    execution = start(aws, {"A": tokens.state(TimeoutSeconds="{% 1 + 1 %}", HeartbeatSeconds=1)})
    token = tokens.token()

    def beat() -> bool:
        try:
            aws("stepfunctions").send_task_heartbeat(taskToken=token)
        except aws("stepfunctions").exceptions.TaskTimedOut:
            return True
        return False

    eventually(beat)
    assert finish(aws, execution)["error"] == "States.Timeout"


@pytest.mark.parametrize(
    ("error_equals", "caught"),
    [("States.Timeout", True), ("States.ALL", True), ("States.TaskFailed", False)],
)
def test_a_heartbeat_timeout_is_matched_as_documented(
    aws: Aws, tokens: TokenQueue, error_equals: str, *, caught: bool
) -> None:
    catch = [{"ErrorEquals": [error_equals], "Next": "B", "Output": "caught"}]
    execution = run(
        aws, {"A": tokens.state(HeartbeatSeconds=1, Catch=catch), "B": {"Type": "Pass", "End": True}}
    )
    assert execution["status"] == ("SUCCEEDED" if caught else "FAILED")


def test_every_attempt_has_a_token_of_its_own(aws: Aws, tokens: TokenQueue) -> None:
    retry = [{"ErrorEquals": ["Again"], "IntervalSeconds": 1, "MaxDelaySeconds": 1, "JitterStrategy": "FULL"}]
    execution = start(aws, {"A": tokens.state(Retry=retry)})
    first = tokens.token()
    aws("stepfunctions").send_task_failure(taskToken=first, error="Again")
    second = tokens.token()
    assert first != second
    assert error_code(aws("stepfunctions").send_task_heartbeat, taskToken=first) == "TaskTimedOut"
    aws("stepfunctions").send_task_success(taskToken=second, output="2")
    assert output(finish(aws, execution)) == 2


def test_an_unknown_token_is_invalid_and_an_answered_one_timed_out(aws: Aws, tokens: TokenQueue) -> None:
    client = aws("stepfunctions")
    assert error_code(client.send_task_heartbeat, taskToken="never given") == "InvalidToken"
    finished = start(aws, {"A": tokens.state()})
    token = tokens.token()
    assert error_code(client.send_task_success, taskToken=token, output="{broken") == "InvalidOutput"
    client.send_task_success(taskToken=token, output="{}")
    finish(aws, finished)
    assert error_code(client.send_task_heartbeat, taskToken=token) == "TaskTimedOut"


def test_stopping_an_execution_shows_at_the_next_heartbeat(aws: Aws, tokens: TokenQueue) -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 5}]
    execution = start(aws, {"A": tokens.state(Retry=retry, HeartbeatSeconds=60)})
    token = tokens.token()
    aws("stepfunctions").send_task_heartbeat(taskToken=token)
    aws("stepfunctions").stop_execution(executionArn=execution)
    assert error_code(aws("stepfunctions").send_task_heartbeat, taskToken=token) == "TaskTimedOut"
    assert finish(aws, execution)["status"] == "ABORTED"
    history = aws("stepfunctions").get_execution_history(executionArn=execution)["events"]
    assert history[-1]["type"] == "ExecutionAborted"


def test_starting_twice_under_one_name_is_one_start_while_it_runs(aws: Aws, tokens: TokenQueue) -> None:
    client, arn = aws("stepfunctions"), machine(aws, {"A": tokens.state()})
    once = {"stateMachineArn": arn, "name": "slot-1-0", "input": '{"a":1}'}
    first = client.start_execution(**once)
    assert client.start_execution(**once)["executionArn"] == first["executionArn"]
    assert error_code(client.start_execution, **{**once, "input": '{"a":2}'}) == "ExecutionAlreadyExists"
    client.send_task_success(taskToken=tokens.token(), output="1")
    finish(aws, first["executionArn"])
    assert error_code(client.start_execution, **once) == "ExecutionAlreadyExists"


@pytest.mark.parametrize("name", ["x" * 81, "with space", "a/b", "star*"])
def test_names_of_executions_are_at_most_80_permitted_characters(aws: Aws, name: str) -> None:
    arn = machine(aws, {"A": {"Type": "Pass", "End": True}})
    code = error_code(aws("stepfunctions").start_execution, stateMachineArn=arn, name=name)
    assert code in {"InvalidName", "ValidationException"}


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        ("arn:aws:states:::states:startExecution", "StepFunctions.ExecutionAlreadyExistsException"),
        ("arn:aws:states:::aws-sdk:sfn:startExecution", "Sfn.ExecutionAlreadyExistsException"),
    ],
)
def test_a_name_that_is_taken_has_the_integrations_error_name(aws: Aws, resource: str, error: str) -> None:
    child = machine(aws, {"A": {"Type": "Pass", "End": True}})
    taken = aws("stepfunctions").start_execution(stateMachineArn=child, name="taken")
    finish(aws, taken["executionArn"])
    arguments = {"StateMachineArn": child, "Name": "taken", "Input": "{}"}
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "B", "Output": "{% $states.errorOutput.Error %}"}]
    task = {"Type": "Task", "Resource": resource, "Arguments": arguments, "Catch": catch, "End": True}
    assert output(run(aws, {"A": task, "B": {"Type": "Pass", "End": True}})) == error


def test_an_sdk_integration_names_the_services_exception(aws: Aws) -> None:
    resource = "arn:aws:states:::aws-sdk:sqs:getQueueUrl"
    catch = [{"ErrorEquals": ["Sqs.QueueDoesNotExistException"], "Next": "B", "Output": "caught"}]
    task = {
        "Type": "Task",
        "Resource": resource,
        "Arguments": {"QueueName": "none"},
        "Catch": catch,
        "End": True,
    }
    assert output(run(aws, {"A": task, "B": {"Type": "Pass", "End": True}})) == "caught"


def test_data_above_256_kib_fails_with_an_error_that_states_all_does_not_catch(aws: Aws) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "B"}]
    name = aws.function("def handle(event, context): return 'x' * event\n")
    arguments = {"FunctionName": name, "Payload": "{% $states.input.size %}"}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": arguments,
        "Catch": catch,
    }
    states = {"A": {**task, "Next": "B"}, "B": {"Type": "Pass", "End": True}}
    assert run(aws, states, {"size": 200_000})["status"] == "SUCCEEDED"
    assert run(aws, states, {"size": 270_000})["error"] == "States.DataLimitExceeded"


def test_an_execution_fails_when_its_history_is_full(aws: Aws) -> None:
    states = {"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"}}
    execution = run(aws, states)
    assert execution["status"] == "FAILED"
    assert "maximum number of history events" in execution["cause"]


def test_a_machines_own_timeout_ends_the_execution(aws: Aws) -> None:
    execution = run(aws, {"A": {"Type": "Wait", "Seconds": 60, "End": True}}, TimeoutSeconds=1)
    assert (execution["status"], execution["error"]) == ("TIMED_OUT", "States.Timeout")


def test_jsonata_knows_the_start_time_and_the_clock(aws: Aws) -> None:
    expression = "{% $toMillis($states.context.Execution.StartTime) <= $millis() %}"
    assert output(run(aws, {"A": {"Type": "Pass", "Output": expression, "End": True}})) is True


def test_a_jsonata_expression_without_value_is_a_query_evaluation_error(aws: Aws) -> None:
    state = {"Type": "Pass", "Output": {"x": "{% $states.input.missing %}"}, "End": True}
    assert run(aws, {"A": state})["error"] == "States.QueryEvaluationError"
    guarded = {**state, "Output": "{% $exists($states.input.missing) %}"}
    assert output(run(aws, {"A": guarded})) is False


def test_all_expressions_of_an_assign_see_the_variables_before_it(aws: Aws) -> None:
    swap = {"a": "{% $b %}", "b": "{% $a %}"}
    states = {
        "A": {"Type": "Pass", "Assign": {"a": 1, "b": 2}, "Next": "B"},
        "B": {"Type": "Pass", "Assign": swap, "Next": "C"},
        "C": {"Type": "Succeed", "Output": "{% [$a, $b] %}"},
    }
    assert output(run(aws, states)) == [2, 1]


def test_an_error_of_a_map_iteration_keeps_its_name(aws: Aws) -> None:
    name = aws.function(
        "def handle(event, context):\n    if event == 2: raise LookupError\n    return event\n"
    )
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": name, "Payload": "{% $states.input %}"},
        "Output": "{% $states.result.Payload %}",
        "End": True,
    }
    processor = {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "T", "States": {"T": task}}
    state = {
        "Type": "Map",
        "Items": "{% $states.input.items %}",
        "ItemProcessor": processor,
        "MaxConcurrency": 2,
    }
    assert output(run(aws, {"A": {**state, "End": True}}, {"items": [0, 1]})) == [0, 1]
    assert run(aws, {"A": {**state, "End": True}}, {"items": [1, 2, 3]})["error"] == "LookupError"
