"""Runs a JSONata state machine on a desk: no waiting, no retries, fake tasks.

It follows the Amazon States Language as far as the two machines use it: Assign sees the variables as
they were before the state, an expression without a result is `States.QueryEvaluationError`, a Map
works off its items in order. Waits are recorded instead of waited.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jsonata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Execution", "TaskError"]

STATE_LIMIT = 5000


class TaskError(Exception):
    """A task failed: Error and Cause as Step Functions would report them."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error, cause)
        self.error = error
        self.cause = cause


@dataclass
class Execution:
    """One execution: run() it, then read how it went.

    Attributes:
        task: gets a task's resource and arguments, returns its result or raises TaskError.
        now: milliseconds since 1970 that `$millis()` answers; a task may move it on.
        trail: names of the states entered, in order.
        waits: seconds of every Wait.
    """

    machine: dict[str, Any]
    task: Callable[[str, dict[str, Any]], Any]
    name: str = "run-1"
    now: int = 1_800_000_000_000
    trail: list[str] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The execution starts now."""
        self._started = self.now

    def run(self, given: Any) -> Any:
        """Run to the end with `given` as input and return the output; a failed execution raises TaskError."""
        return self._run_states(self.machine, given, {})

    def _run_states(self, machine: dict[str, Any], given: Any, context: dict[str, Any]) -> Any:
        name = machine["StartAt"]
        while True:
            state = machine["States"][name]
            self.trail.append(name)
            assert len(self.trail) < STATE_LIMIT, "the execution never ends"
            entered = {**context, "State": {"Name": name, "EnteredTime": _iso(self.now)}}
            given, following = self._step(state, given, entered)
            if following is None:
                return given
            name = following

    def _step(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> tuple[Any, str | None]:
        try:
            result, chosen = self._work(state, given, context)
        except TaskError as fault:
            if "Catch" not in state:
                raise
            catcher = next(c for c in state["Catch"] if _matches(c["ErrorEquals"], fault.error))
            error_output = {"Error": fault.error, "Cause": fault.cause}
            return self._leave(catcher, given, context, error_output, errorOutput=error_output), catcher[
                "Next"
            ]
        following = chosen or state.get("Next")
        assert following or state.get("End") is True
        return self._leave(state, given, context, result, result=result), following

    def _work(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> tuple[Any, str | None]:
        match state["Type"]:
            case "Pass":
                return given, None
            case "Choice":
                return given, self._choose(state, given, context)
            case "Wait":
                seconds = self._fill(state["Seconds"], given, context)
                assert seconds == int(seconds) > 0, f"AWS takes whole seconds, not {seconds!r}"
                self.waits.append(int(seconds))
                self.now += int(seconds) * 1000
                return given, None
            case "Fail":
                raise TaskError(*(self._fill(state[key], given, context) for key in ("Error", "Cause")))
            case "Map":
                return self._map(state, given, context), None
            case "Task":
                with_token = {**context, "Task": {"Token": f"token-{len(self.trail)}"}}
                return self.task(state["Resource"], self._fill(state["Arguments"], given, with_token)), None
        raise AssertionError(state["Type"])

    def _choose(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> str:
        for choice in state["Choices"]:
            holds = self._fill(choice["Condition"], given, context)
            assert isinstance(holds, bool), f"AWS takes true or false, not {holds!r}"
            if holds:
                return str(choice["Next"])
        return str(state["Default"])

    def _map(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> list[Any]:
        items = self._fill(state["Items"], given, context)
        assert isinstance(items, list), f"a Map takes an array, not {items!r}"
        results = []
        for index, item in enumerate(items):
            inner = {**context, "Map": {"Item": {"Index": index, "Value": item}}}
            selected = self._fill(state["ItemSelector"], given, inner)
            results.append(self._run_states(state["ItemProcessor"], selected, inner))
        return results

    def _leave(
        self, part: dict[str, Any], given: Any, context: dict[str, Any], default: Any, **states: Any
    ) -> Any:
        output = self._fill(part["Output"], given, context, **states) if "Output" in part else default
        assigned = {
            key: self._fill(value, given, context, **states) for key, value in part.get("Assign", {}).items()
        }
        self.variables.update(assigned)
        return output

    def _fill(self, node: Any, given: Any, context: dict[str, Any], **states: Any) -> Any:
        if isinstance(node, dict):
            return {key: self._fill(value, given, context, **states) for key, value in node.items()}
        if isinstance(node, list):
            return [self._fill(value, given, context, **states) for value in node]
        if not (isinstance(node, str) and node.startswith("{%")):
            return node
        execution = {"Name": self.name, "Id": f"arn:{self.name}", "StartTime": _iso(self._started)}
        known = {"input": given, "context": {**context, "Execution": execution}, **states}
        return self._evaluate(node[2:-2].strip(), {**self.variables, "states": known})

    def _evaluate(self, expression: str, bindings: Mapping[str, Any]) -> Any:
        # The engine reads a bound None as "undefined": JSON's null has a value of its own.
        bound = {
            key: jsonata.utils.Utils.NULL_VALUE if value is None else value for key, value in bindings.items()
        }
        for probe in (f"$exists({expression})", expression):
            program = jsonata.Jsonata.jsonata(probe)
            program.register_lambda("millis", lambda: self.now)
            result = program.evaluate(None, bound)
            if probe is not expression and not result:
                raise TaskError("States.QueryEvaluationError", f"no result: {expression}")
        return json.loads(json.dumps(result))


def _matches(names: list[str], error: str) -> bool:
    return "States.ALL" in names or error in names


def _iso(millis: int) -> str:
    return (
        datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
