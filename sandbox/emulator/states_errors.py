"""Step Functions: names of errors, and how Retry treats them.

Restored behaviour:
- States.Timeout in Retry and Catch also matches States.HeartbeatTimeout, States.TaskFailed matches
  neither; States.ALL doesn't match States.DataLimitExceeded and States.Runtime;
- MaxDelaySeconds, JitterStrategy FULL, no hidden upper bound of a delay;
- optimized integrations name their service (StepFunctions.ExecutionAlreadyExistsException), SDK
  integrations too (Sfn.ExecutionAlreadyExistsException, Sqs.QueueDoesNotExistException);
- `lambda:invoke`: InvocationType Event returns once the event is accepted; a throttle is
  Lambda.TooManyRequestsException.
Replaces stepfunctions._error_matches, _find_matching_retrier, _invoke_nested_start_execution,
_prefix_sdk_error, _dispatch_aws_sdk_query, _invoke_resource and _call_lambda; uses _ExecutionError,
_resolve_lambda_function_ref, _scaled_sleep and lambda_svc._get_func_record_for_ref,
_execution_record_for_config, invoke_async_with_retry, _execute_function_with_config_scope.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import html
import json
import random
import re
from typing import Any

import ministack.services.lambda_svc as functions
import ministack.services.stepfunctions as states

from . import patching

_TIMEOUTS = frozenset({"States.Timeout", "States.HeartbeatTimeout"})
# The query protocol's codes where the SDK's exception is called otherwise.
_SQS_CODES = {
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "QueueAlreadyExists": "QueueNameExists",
}
_TERMINAL = frozenset({"States.DataLimitExceeded", "States.Runtime"})


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(states, "_ExecutionError", "_resolve_lambda_function_ref", "_scaled_sleep")
    patching.require(
        functions,
        *("_get_func_record_for_ref", "_execution_record_for_config", "invoke_async_with_retry"),
        "_execute_function_with_config_scope",
    )
    patching.replace(states, "_error_matches", lambda _: matches)
    patching.replace(states, "_find_matching_retrier", _retrier_for)
    patching.replace(states, "_prefix_sdk_error", _sdk_error_for)
    patching.replace(states, "_dispatch_aws_sdk_query", _sqs_errors_for)
    patching.replace(states, "_invoke_nested_start_execution", _nested_start_for)
    patching.replace(states, "_invoke_resource", _invoke_resource_for)
    patching.replace(states, "_call_lambda", lambda _: call_lambda)


def matches(error_equals: list[str], error: str) -> bool:
    """Whether a retrier's or catcher's ErrorEquals names this error."""
    if error in error_equals:
        return True
    if error in _TERMINAL:
        return False
    if error in _TIMEOUTS:
        return "States.ALL" in error_equals or "States.Timeout" in error_equals
    return "States.ALL" in error_equals or "States.TaskFailed" in error_equals


def _retrier_for(original: Any) -> Any:
    def find(retriers: list[dict[str, Any]], error: str, counts: dict[int, int]) -> Any:
        retrier, index = original(retriers, error, counts)
        if retrier is None:
            return retrier, index
        # The caller caps its own pause at a minute and knows no jitter: the whole pause is made here.
        states._scaled_sleep(delay(retrier, counts.get(index, 0)))
        return {**retrier, "IntervalSeconds": 0}, index

    return find


def delay(retrier: dict[str, Any], attempts: int) -> float:
    """Seconds before the next attempt."""
    seconds = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** attempts
    seconds = min(seconds, retrier.get("MaxDelaySeconds", seconds))
    return random.uniform(0, seconds) if retrier.get("JitterStrategy") == "FULL" else seconds


def _sdk_error_for(original: Any) -> Any:
    def prefix(service: str, code: str) -> str:
        name: str = original(service, code.rpartition("#")[2])
        if name.startswith("States.") or name.endswith(("Exception", "Fault")):
            return name
        return f"{name}Exception"

    return prefix


def _sqs_errors_for(original: Any) -> Any:
    def dispatch(info: dict[str, Any], service: str, action: str, arguments: Any) -> Any:
        try:
            return original(info, service, action, arguments)
        except states._ExecutionError as error:
            code = re.search(r"<Code>([^<]+)</Code>", error.cause)
            if service != "sqs" or code is None:
                raise
            name = _SQS_CODES.get(code[1], code[1].rpartition(".")[2])
            message = re.search(r"<Message>([^<]+)</Message>", error.cause)
            raise states._ExecutionError(
                f"Sqs.{name}Exception", html.unescape(message[1]) if message else ""
            ) from None

    return dispatch


def _nested_start_for(original: Any) -> Any:
    def start(resource: str, arguments: dict[str, Any]) -> Any:
        try:
            return original(resource, arguments)
        except states._ExecutionError as error:
            name = error.error if error.error.endswith("Exception") else f"{error.error}Exception"
            raise states._ExecutionError(f"StepFunctions.{name}", error.cause) from None

    return start


def _invoke_resource_for(original: Any) -> Any:
    def invoke(resource: str, arguments: Any) -> Any:
        if "states:::lambda:invoke" in resource and arguments.get("InvocationType") == "Event":
            reference = states._resolve_lambda_function_ref(arguments.get("FunctionName", ""), optimized=True)
            functions.invoke_async_with_retry(_record(reference), arguments.get("Payload", {}))
            return {"StatusCode": 202, "Payload": "", "ExecutedVersion": "$LATEST"}
        return original(resource, arguments)

    return invoke


def call_lambda(reference: str, event: Any) -> Any:
    """The function's answer; its error under the name of its exception's class."""
    result = functions._execute_function_with_config_scope(_record(reference), event)
    body = result.get("body")
    if result.get("throttle"):
        raise states._ExecutionError("Lambda.TooManyRequestsException", body["message"])
    if result.get("error"):
        raise states._ExecutionError(body["errorType"], json.dumps(body))
    return body


def _record(reference: str) -> dict[str, Any]:
    function, config, name = functions._get_func_record_for_ref(reference)
    if not function or not config:
        raise states._ExecutionError("Lambda.ResourceNotFoundException", f"Function not found: {name}")
    return functions._execution_record_for_config(function, config)
