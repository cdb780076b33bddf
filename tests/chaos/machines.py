"""Step Functions in small: runs the two definitions of statemachine/, with task tokens, in real time.

A second of a definition lasts `SCALE` seconds here; waits are cut short further, for a back-off of minutes
has nothing to show in a run of seconds.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.aws_sqs import AwsError
from tests.unit.statemachine.definitions import MACHINE, definition
from tests.unit.statemachine.interpreter import Execution, TaskError

if TYPE_CHECKING:
    from tests.chaos.lambda_service import LambdaService

__all__ = ["CONNECTOR", "DISCOVERY", "Machines"]

CONNECTOR = MACHINE + "connector"
DISCOVERY = MACHINE + "discovery"
#: What a second of a definition lasts at pace 1: 45 s without a heartbeat are 1.1 s.
SCALE = 0.025
_LONGEST_WAIT = 1.0
_FUNCTION_SECONDS = 20.0
_TRIES = 4


class _Aborted(Exception):  # noqa: N818 - unwinds an execution that was stopped
    """The execution was stopped."""


@dataclass
class _Task:
    """A task that waits for its token."""

    beat: float
    done: threading.Event = field(default_factory=threading.Event)
    output: Any = None
    error: tuple[str, str] | None = None


@dataclass
class _Running:
    """An execution that was started."""

    name: str
    machine: str
    given: str
    stopped: threading.Event = field(default_factory=threading.Event)
    status: str = "RUNNING"
    error: str = ""


class _RealTime(Execution):
    """An execution whose waits last."""

    stopped: threading.Event
    pace: float

    def _work(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> tuple[Any, str | None]:
        if self.stopped.is_set():
            raise _Aborted
        if state["Type"] == "Wait":
            before = len(self.waits)
            result = super()._work(state, given, context)
            self.stopped.wait(min(_LONGEST_WAIT, sum(self.waits[before:]) * SCALE) * self.pace)
            return result
        return super()._work(state, given, context)


class Machines:
    """All executions of one stack.

    Args:
        functions: runs functions.
        lifetime: seconds that a connector's invocation has, at pace 1.
        pace: by what all times are stretched.
        seed: of what may happen to asynchronous events.

    Attributes:
        executions: every execution that was started, by name and machine.
        double: probability that a connector's event comes twice.
        drop: probability that it never comes.
        ended: names and outcomes of executions, in order.
    """

    def __init__(self, functions: LambdaService, *, lifetime: float, pace: float, seed: int) -> None:
        self._functions = functions
        self._lifetime = lifetime * pace
        self._pace = pace
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._tokens: dict[str, _Task] = {}
        self._threads: list[threading.Thread] = []
        self._definitions = {CONNECTOR: definition("connector"), DISCOVERY: definition("discovery")}
        self._closing = False
        self.executions: dict[tuple[str, str], _Running] = {}
        self.double = 0.0
        self.drop = 0.0
        self.ended: list[tuple[str, str, str]] = []

    # What functions call

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """See `aws_edge.States`."""
        match operation:
            case "StartExecution":
                name = request.get("name") or uuid.uuid4().hex
                self.start(request["stateMachineArn"], name, request.get("input", "{}"))
                return {"executionArn": f"{request['stateMachineArn']}:{name}", "startDate": time.time()}
            case "StopExecution":
                self._stop(request["executionArn"])
                return {"stopDate": time.time()}
            case "ListExecutions":
                return {"executions": self._listed(request)}
            case "SendTaskHeartbeat":
                self._task(request["taskToken"]).beat = time.monotonic()
                return {}
            case "SendTaskSuccess":
                task = self._task(request["taskToken"])
                task.output = json.loads(request["output"])
                task.done.set()
                return {}
            case "SendTaskFailure":
                task = self._task(request["taskToken"])
                task.error = (request.get("error", ""), request.get("cause", ""))
                task.done.set()
                return {}
        raise AwsError("InvalidAction", f"the stand-in has no {operation}")

    def start(self, machine: str, name: str, given: str) -> None:
        """Start an execution; the same name with the same input, while it runs, is no second one.

        Raises:
            AwsError: the name is taken.
        """
        with self._lock:
            known = self.executions.get((machine, name))
            if known is not None:
                if known.status == "RUNNING" and known.given == given:
                    return
                raise AwsError("ExecutionAlreadyExists", f"Execution Already Exists: {name}")
            if self._closing:
                raise AwsError("StateMachineDeleting", "the run is over")
            running = _Running(name, machine, given)
            self.executions[machine, name] = running
        thread = threading.Thread(target=self._run, args=(running,), name=f"execution-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # What the test does

    def running(self, machine: str) -> list[str]:
        """Names of the executions of a machine that run."""
        with self._lock:
            return [run.name for run in self.executions.values() if run.machine == machine and not _over(run)]

    def stop(self, machine: str, name: str) -> None:
        """Abort an execution, as an operator does."""
        self._stop(f"{machine}:{name}")

    def wait(self, machine: str, name: str, seconds: float) -> str:
        """Wait until an execution has ended; its status."""
        deadline = time.monotonic() + seconds
        running = self.executions[machine, name]
        while not _over(running) and time.monotonic() < deadline:
            time.sleep(0.005)
        return running.status

    def close(self) -> None:
        """Stop everything."""
        with self._lock:
            self._closing = True
            for running in self.executions.values():
                running.stopped.set()
        for thread in self._threads:
            thread.join(5)

    def _listed(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        with self._lock:
            return [
                {"executionArn": f"{run.machine}:{run.name}", "name": run.name, "status": run.status}
                for run in self.executions.values()
                if run.machine == request["stateMachineArn"]
                and run.status == request.get("statusFilter", run.status)
            ]

    def _stop(self, arn: str) -> None:
        machine, _, name = arn.rpartition(":")
        running = self.executions.get((machine, name))
        if running is None:
            raise AwsError("ExecutionDoesNotExist", arn)
        running.stopped.set()

    def _task(self, token: str) -> _Task:
        with self._lock:
            task = self._tokens.get(token)
        if task is None or task.done.is_set():
            raise AwsError("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
        return task

    # Running

    def _run(self, running: _Running) -> None:
        execution = _RealTime(
            self._definitions[running.machine],
            lambda resource, arguments: self._work(running, execution, resource, arguments),
            name=running.name,
        )
        execution.stopped = running.stopped
        execution.pace = self._pace
        try:
            execution.run(json.loads(running.given))
            outcome = "SUCCEEDED"
        except _Aborted:
            outcome = "ABORTED"
        except TaskError as error:
            outcome, running.error = "FAILED", f"{error.error}: {error.cause}"
        with self._lock:
            running.status = outcome
            self.ended.append((running.name, outcome, running.error))

    def _work(self, running: _Running, execution: Execution, resource: str, arguments: dict[str, Any]) -> Any:
        began = time.monotonic()
        try:
            if resource.endswith("states:startExecution"):
                name = arguments.get("Name", uuid.uuid4().hex)
                self._started(arguments["StateMachineArn"], name, json.dumps(arguments["Input"]))
                return {"ExecutionArn": name}
            if resource.endswith("lambda:invoke.waitForTaskToken"):
                return self._with_token(running, arguments["Payload"])
            function = str(arguments["FunctionName"]).rpartition("-")[2]
            return {"Payload": self._invoked(running, function, arguments["Payload"])}
        finally:
            execution.now += int((time.monotonic() - began) / (SCALE * self._pace) * 1000)

    def _started(self, machine: str, name: str, given: str) -> None:
        try:
            self.start(machine, name, given)
        except AwsError as error:
            raise TaskError(f"StepFunctions.{error.code}Exception", error.text) from error

    def _invoked(self, running: _Running, function: str, payload: dict[str, Any]) -> Any:
        """Invoke and wait; tried again as the definitions ask for."""
        for attempt in range(_TRIES):
            result = self._functions.invoke(function, payload, _FUNCTION_SECONDS)
            if not result.error:
                return result.answer
            if running.stopped.wait(0.05 * (attempt + 1)):
                raise _Aborted
        raise TaskError(result.error, result.detail)

    def _with_token(self, running: _Running, payload: dict[str, Any]) -> Any:
        token = f"{running.name}-{uuid.uuid4().hex}"
        task = _Task(time.monotonic())
        with self._lock:
            self._tokens[token] = task
            times = 0 if self._random.random() < self.drop else 1
            times += times and self._random.random() < self.double
        for _ in range(times):
            self._functions.invoke_event("connector", payload | {"token": token}, self._lifetime)
        silence = self._definitions[CONNECTOR]["States"]["Serve"]["HeartbeatSeconds"] * SCALE * self._pace
        try:
            while not task.done.wait(0.02):
                if running.stopped.is_set():
                    raise _Aborted
                if time.monotonic() - task.beat > silence:
                    raise TaskError("States.HeartbeatTimeout", "no heartbeat")
        finally:
            with self._lock:
                del self._tokens[token]
        if task.error is not None:
            raise TaskError(*task.error)
        return task.output


def _over(running: _Running) -> bool:
    return running.status != "RUNNING"
