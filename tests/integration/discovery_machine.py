"""The discovery state machine as it is deployed, over the real handlers: no retries, no waiting."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from lambdas.assigner import handler as assigner
from lambdas.fetcher import handler as fetcher
from lambdas.scaler import handler as scaler
from tests.unit.statemachine.definitions import FUNCTION, definition
from tests.unit.statemachine.interpreter import Execution, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

__all__ = ["DiedError", "DiscoveryMachine"]

_HANDLERS: dict[str, Callable[..., dict[str, Any]]] = {
    "assigner": assigner.handle,
    "fetcher": fetcher.handle,
    "scaler": scaler.handle,
}
_CONTEXT = cast("LambdaContext", SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))


class DiedError(BaseException):
    """The whole execution ends here, without any of its endings."""


class DiscoveryMachine:
    """Runs executions.

    Attributes:
        actions: what the functions were asked to do, in order.
        started: arguments of the executions that were to follow.
        before: called before each action; raises to end the execution there.
    """

    def __init__(self) -> None:
        self.actions: list[str] = []
        self.started: list[dict[str, Any]] = []
        self.before: Callable[[str], None] = lambda _: None

    def run(self, name: str, given: Any) -> Any:
        """One execution; its output. A failed one raises TaskError."""
        now = time.time_ns() // 1_000_000
        return Execution(definition("discovery"), self._task, name=name, now=now).run(given)

    def _task(self, resource: str, arguments: dict[str, Any]) -> Any:
        if resource == "arn:aws:states:::states:startExecution":
            self.started.append(arguments)
            return {"ExecutionArn": "arn"}
        payload = arguments["Payload"]
        self.before(payload["action"])
        self.actions.append(payload["action"])
        handle = _HANDLERS[arguments["FunctionName"].removeprefix(FUNCTION)]
        try:
            answer = handle(payload, _CONTEXT)
        except Exception as error:
            raise TaskError(type(error).__name__, str(error)) from error
        return {"StatusCode": 200, "Payload": json.loads(json.dumps(answer))}
