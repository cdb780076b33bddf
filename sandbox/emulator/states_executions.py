"""Step Functions: how executions start, end and are limited.

Restored behaviour, as documented for StartExecution, StopExecution and the service quotas:
- a name is 1 to 80 characters of the permitted ones (InvalidName); the same name with the same input
  answers with the running execution, otherwise and after its end ExecutionAlreadyExists;
- input must be JSON (InvalidExecutionInput) and at most 256 KiB; a state's input or output above that
  fails with States.DataLimitExceeded;
- history holds 25,000 events, then the execution fails; an ended execution does nothing more;
- StopExecution ends waits and pending callbacks at once; a machine's TimeoutSeconds gives TIMED_OUT.
Replaces stepfunctions._start_execution, _stop_execution, _run_execution, _fail_execution, _add_event,
_scaled_sleep and _apply_jsonata_arguments; uses _resolve_state_machine_arn, _state_machines,
_executions, _ExecutionError, _SFN_WAIT_SCALE, _emit_execution_status_event.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import contextvars
import json
import re
import threading
from typing import Any

import ministack.services.stepfunctions as states
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response, now_iso

from . import patching, settings

MAXIMUM_DATA_BYTES = 256 * 1024
_FORBIDDEN_IN_NAMES = re.compile(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]")
_current: contextvars.ContextVar[Ending | None] = contextvars.ContextVar("execution", default=None)
_endings: dict[str, Ending] = {}
_starting = threading.Lock()


class ExecutionEndedError(BaseException):
    """Unwinds the thread of an execution that has ended; no Retry or Catch may see it."""


class Ending:
    """Whether one execution has ended, and what must hear of it."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.ended = threading.Event()
        self.listeners: list[Any] = []

    def end(self) -> None:
        """Wake everything that waits within the execution."""
        self.ended.set()
        for listener in list(self.listeners):
            listener()


def current() -> Ending | None:
    """The execution that the calling thread works for, if any."""
    return _current.get()


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(
        states,
        *("_resolve_state_machine_arn", "_state_machines", "_executions", "_ExecutionError"),
        *("_SFN_WAIT_SCALE", "_emit_execution_status_event"),
    )
    patching.replace(states, "_start_execution", _start_for)
    patching.replace(states, "_stop_execution", _stop_for)
    patching.replace(states, "_run_execution", _run_for)
    patching.replace(states, "_fail_execution", _fail_for)
    patching.replace(states, "_add_event", _add_event_for)
    patching.replace(states, "_scaled_sleep", lambda _: sleep)
    patching.replace(states, "_apply_jsonata_arguments", _limited_arguments_for)


def _start_for(original: Any) -> Any:
    def start(data: dict[str, Any]) -> Any:
        name = data.get("name")
        if name is not None and (not 1 <= len(name) <= 80 or _FORBIDDEN_IN_NAMES.search(name)):
            return error_response_json("InvalidName", f"Invalid Name: '{name}'", 400)
        given = data.get("input", "{}")
        if len(given.encode()) > MAXIMUM_DATA_BYTES:
            return error_response_json("ValidationException", "input is longer than 262144 bytes", 400)
        try:
            json.loads(given)
        except ValueError:
            return error_response_json("InvalidExecutionInput", "Invalid State Machine Execution Input", 400)
        with _starting:
            if name is not None and (running := _same_running(data.get("stateMachineArn", ""), name, given)):
                return json_response(running)
            return original(data)

    return start


def _same_running(machine: str, name: str, given: str) -> dict[str, Any] | None:
    arn = states._resolve_state_machine_arn(machine)
    if arn is None:
        return None
    execution = states._executions.get(
        f"arn:aws:states:{get_region()}:{get_account_id()}:execution:{states._state_machines[arn]['name']}:{name}"
    )
    if execution is None or execution["status"] != "RUNNING" or execution["input"] != given:
        return None
    return {"executionArn": execution["executionArn"], "startDate": execution["startDate"]}


def _stop_for(original: Any) -> Any:
    def stop(data: dict[str, Any]) -> Any:
        answer = original(data)
        execution = states._executions.get(data.get("executionArn"))
        if execution is not None and execution["status"] != "RUNNING":
            _end(execution)
        return answer

    return stop


def _end(execution: dict[str, Any]) -> None:
    if ending := _endings.get(execution["executionArn"]):
        ending.end()


def _run_for(original: Any) -> Any:
    def run(arn: str) -> None:
        ending = _endings[arn] = Ending(arn)
        _current.set(ending)
        execution = states._executions[arn]
        machine = states._state_machines.get(execution["stateMachineArn"]) or {}
        seconds = json.loads(machine.get("definition", "{}")).get("TimeoutSeconds")
        timer = None
        if seconds is not None:
            context = contextvars.copy_context()
            timer = threading.Timer(seconds, context.run, args=(_time_out, execution, seconds))
            timer.daemon = True
            timer.start()
        try:
            original(arn)
        except ExecutionEndedError:
            return
        finally:
            if timer is not None:
                timer.cancel()
            ending.end()
            del _endings[arn]

    return run


def _time_out(execution: dict[str, Any], seconds: float) -> None:
    if execution["status"] != "RUNNING":
        return
    cause = f"The execution timed out after {seconds} seconds"
    execution.update(status="TIMED_OUT", error="States.Timeout", cause=cause, stopDate=now_iso())
    states._add_event(
        execution,
        "ExecutionTimedOut",
        {"executionTimedOutEventDetails": {"error": "States.Timeout", "cause": cause}},
    )
    states._emit_execution_status_event(execution)
    _end(execution)


def _fail_for(original: Any) -> Any:
    def fail(execution: dict[str, Any], error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":
            original(execution, error, cause)
            execution["output"] = None  # a failed execution has error and cause, and no output
            _end(execution)

    return fail


def _add_event_for(original: Any) -> Any:
    def add(execution: dict[str, Any], event_type: str, details: dict[str, Any] | None = None) -> Any:
        if event_type.startswith("Execution"):
            return original(execution, event_type, details)
        if execution["status"] != "RUNNING":
            raise ExecutionEndedError
        if len(execution["events"]) + 1 >= settings.EXECUTION_HISTORY_LIMIT:
            limit = settings.EXECUTION_HISTORY_LIMIT
            states._fail_execution(
                execution,
                "States.Runtime",
                f"The execution reached the maximum number of history events ({limit}).",
            )
            raise ExecutionEndedError
        for detail in (details or {}).values():
            for field in ("input", "output"):
                check_size(detail.get(field), f"The {field} of {event_type} {detail.get('name', '')}")
        return original(execution, event_type, details)

    return add


def check_size(text: str | None, what: str) -> None:
    """Raise States.DataLimitExceeded if a JSON text is, written compactly, above 256 KiB."""
    if text is None or len(text) <= MAXIMUM_DATA_BYTES:
        return
    compact = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    if len(compact.encode()) > MAXIMUM_DATA_BYTES:
        raise states._ExecutionError(
            "States.DataLimitExceeded",
            f"{what} has a size exceeding the maximum number of bytes service limit.",
        )


def _limited_arguments_for(original: Any) -> Any:
    def apply(state_def: dict[str, Any], raw_input: Any, ctx: dict[str, Any] | None = None) -> Any:
        arguments = original(state_def, raw_input, ctx)
        check_size(json.dumps(arguments), "The result of Arguments")
        return arguments

    return apply


def sleep(seconds: float) -> None:
    """A Wait state or a retry's pause; ends with its execution."""
    scaled = max(0.0, seconds * states._SFN_WAIT_SCALE)
    ending = current()
    if ending is None:
        threading.Event().wait(scaled)
    elif ending.ended.wait(scaled):
        raise ExecutionEndedError
