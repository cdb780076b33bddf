"""Step Functions: `.waitForTaskToken`, heartbeats and time-outs.

Restored behaviour:
- every attempt has a token of its own; `lambda:invoke` with InvocationType Event continues as soon as
  the event is accepted; without it a function error fails the task;
- HeartbeatSeconds without a heartbeat: States.HeartbeatTimeout; TimeoutSeconds: States.Timeout; both
  may be JSONata expressions;
- SendTask* on a token whose task is over (answered, timed out, stopped): TaskTimedOut; on a text that
  never was a token: InvalidToken; output that is no JSON or above 256 KiB: InvalidOutput.
Replaces stepfunctions._invoke_with_callback, _execute_task, _apply_parameters,
_apply_jsonata_arguments, _send_task_success, _send_task_failure and _send_task_heartbeat; uses
_task_tokens (for activities), _invoke_resource, _extract_lambda_ref, _resolve_lambda_function_ref,
_apply_jsonata_template, _resolve_path, _add_event, _executions, _ExecutionError.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import contextvars
import json
import threading
import time
from typing import Any

import ministack.services.stepfunctions as states
from ministack.core.responses import error_response_json, json_response, new_uuid

from . import patching, states_executions

MAXIMUM_SECONDS = 99_999_999
_tasks: dict[str, CallbackTask] = {}


class CallbackTask:
    """One attempt of a task that waits for its token to come back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heartbeat = time.monotonic()
        self._outcome: tuple[str, Any] | None = None
        self.open = True

    def beat(self) -> None:
        """Note a heartbeat."""
        with self._changed:
            self._heartbeat = time.monotonic()
            self._changed.notify_all()

    def settle(self, kind: str, value: Any) -> None:
        """End the task: ("result", value), ("error", an _ExecutionError) or ("ended", None)."""
        with self._changed:
            if self.open:
                self.open = False
                self._outcome = (kind, value)
                self._changed.notify_all()

    def wait(self, timeout: float, heartbeat: float | None) -> Any:
        """The result of the task; raises its error, its time-out, or the end of its execution."""
        timeout_at = time.monotonic() + timeout
        with self._changed:
            self._heartbeat = time.monotonic()
            while self._outcome is None:
                now = time.monotonic()
                beat_at = timeout_at if heartbeat is None else self._heartbeat + heartbeat
                if now >= timeout_at or now >= beat_at:
                    self.open = False
                    name = "States.Timeout" if now >= timeout_at else "States.HeartbeatTimeout"
                    raise states._ExecutionError(name, "")
                self._changed.wait(min(timeout_at, beat_at) - now)
            kind, value = self._outcome
        if kind == "result":
            return value
        raise value if kind == "error" else states_executions.ExecutionEndedError


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(
        states,
        *("_task_tokens", "_invoke_resource", "_extract_lambda_ref", "_resolve_lambda_function_ref"),
        *("_apply_jsonata_template", "_resolve_path", "_add_event", "_executions", "_ExecutionError"),
    )
    patching.replace(states, "_invoke_with_callback", lambda _: invoke_with_callback)
    patching.replace(states, "_execute_task", _evaluated_limits_for)
    for name in ("_apply_parameters", "_apply_jsonata_arguments"):
        patching.replace(states, name, _fresh_token_for)
    patching.replace(states, "_send_task_success", lambda original: _answer_for(original, _succeed))
    patching.replace(states, "_send_task_failure", lambda original: _answer_for(original, _fail))
    patching.replace(states, "_send_task_heartbeat", lambda original: _answer_for(original, _beat))


def _fresh_token_for(original: Any) -> Any:
    def apply(state_def: dict[str, Any], data: Any, ctx: dict[str, Any] | None = None) -> Any:
        if ctx is not None and (ctx.get("Task") or {}).get("Token") in _tasks:
            ctx["Task"] = {"Token": new_uuid()}
        return original(state_def, data, ctx)

    return apply


def _evaluated_limits_for(original: Any) -> Any:
    def execute(
        state_def: dict[str, Any], raw_input: Any, execution: dict[str, Any], ctx: dict[str, Any]
    ) -> Any:
        limits = {}
        for name in ("TimeoutSeconds", "HeartbeatSeconds"):
            if isinstance(state_def.get(name), str):
                limits[name] = states._apply_jsonata_template(state_def[name], raw_input, ctx)
            elif f"{name}Path" in state_def:
                limits[name] = states._resolve_path(state_def[f"{name}Path"], raw_input)
        return original({**state_def, **limits}, raw_input, execution, ctx)

    return execute


def invoke_with_callback(resource: str, arguments: Any, token: str, state_def: dict[str, Any]) -> Any:
    """Do what the integration does, then wait for the token."""
    task = _tasks[token] = CallbackTask()
    ending = states_executions.current()
    if ending is not None:
        ending.listeners.append(lambda: task.settle("ended", None))
        if ending.ended.is_set():
            raise states_executions.ExecutionEndedError
        for event in ("TaskStarted", "TaskSubmitted"):
            states._add_event(states._executions[ending.arn], event)
    try:
        _submit(resource.replace(".waitForTaskToken", ""), arguments, task)
        return task.wait(state_def.get("TimeoutSeconds", MAXIMUM_SECONDS), state_def.get("HeartbeatSeconds"))
    finally:
        task.settle("ended", None)


def _submit(resource: str, arguments: Any, task: CallbackTask) -> None:
    """Hand the work over. A synchronous function goes on beside the wait; its error fails the task."""
    is_function = "states:::lambda:invoke" in resource or states._extract_lambda_ref(resource)
    if not is_function or (isinstance(arguments, dict) and arguments.get("InvocationType") == "Event"):
        states._invoke_resource(resource, arguments)
        return

    def run() -> None:
        try:
            states._invoke_resource(resource, arguments)
        except states._ExecutionError as error:
            task.settle("error", error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), daemon=True).start()


def _answer_for(original: Any, act: Any) -> Any:
    def answer(data: dict[str, Any]) -> Any:
        token = data.get("taskToken")
        if token in states._task_tokens:  # an activity's
            return original(data)
        task = _tasks.get(token)
        if task is None:
            return error_response_json("InvalidToken", "Invalid Token: 'Invalid token'", 400)
        if not task.open:
            return error_response_json(
                "TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'", 400
            )
        return act(task, data) or json_response({})

    return answer


def _succeed(task: CallbackTask, data: dict[str, Any]) -> Any:
    output = data.get("output", "")
    try:
        result = json.loads(output)
    except ValueError:
        return error_response_json("InvalidOutput", "Invalid Output: not valid JSON", 400)
    if len(output.encode()) > states_executions.MAXIMUM_DATA_BYTES:
        return error_response_json("InvalidOutput", "Invalid Output: longer than 262144 bytes", 400)
    task.settle("result", result)
    return None


def _fail(task: CallbackTask, data: dict[str, Any]) -> None:
    task.settle("error", states._ExecutionError(data.get("error", ""), data.get("cause", "")))


def _beat(task: CallbackTask, _data: dict[str, Any]) -> None:
    task.beat()
