"""The task token of the connector state machine: beats, and one answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import orjson
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["TaskToken", "TokenClosed"]

#: Step Functions' ways to say that nobody waits for this token any more.
_CLOSED = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})
_CAUSE_LIMIT = 32_768


class TokenClosed(Exception):  # noqa: N818 - a state of the world, not a programming error
    """The task has timed out, was stopped or was answered already.

    Attributes:
        retried: the client had called before, and that call's answer got lost.
    """

    retried = False


class TaskToken:
    """Answers one task token; methods block, call them from threads.

    One call at a time: a beat that overtook the answer would find the token closed and take our own
    answer for somebody else's.

    Args:
        client: boto3 Step Functions client.
        token: token from the function's event.
    """

    def __init__(self, client: SFNClient, token: str) -> None:
        self._client = client
        self._token = token
        self._lock = threading.Lock()
        self._tried = False
        self.answered = False

    def beat(self) -> None:
        """Tell the state machine that this connector is alive; nothing once the token is answered.

        Raises:
            TokenClosed: nobody waits any more; stop serving.
        """
        with self._lock:
            if not self.answered:
                self._call(lambda: self._client.send_task_heartbeat(taskToken=self._token))

    def answer(self, follow_up: str, reason: str) -> None:
        """End the task: `handover`, `again` or `stop`, with a reason for people.

        A token that is closed after a try that failed may have been closed by that very try, whose answer got
        lost. It counts as that: else a connector would end at once whose successor is only being started.

        Raises:
            TokenClosed: nobody waits any more.
        """
        output = orjson.dumps({"next": follow_up, "reason": reason}).decode()
        with self._lock:
            tried, self._tried = self._tried, True
            try:
                self._call(lambda: self._client.send_task_success(taskToken=self._token, output=output))
            except TokenClosed as closed:
                if not (tried or closed.retried):
                    raise
            self.answered = True

    def fail(self, error: BaseException) -> None:
        """End the task with an error, so that the state machine backs off.

        Raises:
            TokenClosed: nobody waits any more.
        """
        name, cause = type(error).__name__[:256], str(error)[:_CAUSE_LIMIT]
        with self._lock:
            self._call(lambda: self._client.send_task_failure(taskToken=self._token, error=name, cause=cause))
            self.answered = True

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] in _CLOSED:
                closed = TokenClosed(error.response["Error"].get("Message", ""))
                closed.retried = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
                raise closed from error
            raise
