"""Requests under way: their ids, which response answers which, and the session's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from lambdas.thingworx.alwayson.codes import NO_ENDPOINT, NO_REQUEST, NO_SESSION
from lambdas.thingworx.alwayson.deadlines import Deadlines
from lambdas.thingworx.alwayson.model import Ids, Response

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Answer", "Calls", "NoAnswer"]

_UNROUTED = frozenset({0, NO_ENDPOINT})


class NoAnswer(NamedTuple):
    """A request that nothing came back for; what it asked for may have happened.

    Attributes:
        reason: why, for people.
        timed_out: the connection still stands, only a readable answer is missing.
    """

    reason: str
    timed_out: bool


Answer: TypeAlias = Response | NoAnswer


class _Pending(NamedTuple):
    ids: Ids
    seconds: float
    then: Callable[[int, Answer], None]


class Calls:
    """Requests of this side that wait for their responses.

    A response belongs to the request with its endpoint id and request id. A request that was sent before
    the platform named an endpoint is found by its request id alone.

    Attributes:
        session: session id that the answer to AUTH gave.
        endpoint: endpoint id of new requests.
        unmatched: responses that answered nothing.
    """

    def __init__(self) -> None:
        self.session = NO_SESSION
        self.endpoint = 0
        self.unmatched = 0
        self._last = 0
        self._pending: dict[int, _Pending] = {}
        self._deadlines: Deadlines[int] = Deadlines()

    def begin(self, seconds: float, now: float, then: Callable[[int, Answer], None]) -> Ids:
        """Ids for a new request.

        Args:
            seconds: how long to wait for the answer.
            now: the clock.
            then: called once, with the request id and the answer.
        """
        while True:
            self._last = self._last % (NO_REQUEST - 1) + 1
            if self._last not in self._pending:
                break
        ids = Ids(self._last, self.endpoint, self.session)
        self._pending[ids.request] = _Pending(ids, seconds, then)
        self._deadlines.set(ids.request, now + seconds)
        return ids

    def answered(self, response: Response) -> None:
        """Take a response: adopt what it tells about the session, and hand it to whoever waits."""
        ids = response.ids
        if ids.request == NO_REQUEST:
            # Answers nothing: it only tells the session and the endpoint.
            if ids.session != NO_SESSION:
                self.session = ids.session
            self._adopt_endpoint(ids)
            return
        pending = self._pending.get(ids.request)
        if pending is None or (
            ids.endpoint != pending.ids.endpoint and pending.ids.endpoint not in _UNROUTED
        ):
            self.unmatched += 1
            return
        self._adopt_endpoint(ids)
        self._end(ids.request, response)

    def unreadable(self, request: int, reason: str) -> None:
        """A response to this request came that can't be decoded."""
        if request in self._pending:
            self._end(request, NoAnswer(reason, timed_out=True))

    def forget(self, request: int) -> None:
        """Expect no answer to this request any more; whoever waits isn't told."""
        self._pending.pop(request, None)
        self._deadlines.discard(request)

    def expire(self, now: float) -> None:
        """End what has waited too long."""
        for request in self._deadlines.passed(now):
            seconds = self._pending[request].seconds
            self._end(request, NoAnswer(f"no answer within {seconds:g} s", timed_out=True))

    def abandon(self, reason: str) -> None:
        """End everything: the connection is gone, and with it the session."""
        self.session, self.endpoint = NO_SESSION, 0
        for request in list(self._pending):
            if request in self._pending:
                self._end(request, NoAnswer(reason, timed_out=False))

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self._deadlines.next()

    def _adopt_endpoint(self, ids: Ids) -> None:
        if ids.endpoint != NO_ENDPOINT:
            self.endpoint = ids.endpoint

    def _end(self, request: int, answer: Answer) -> None:
        pending = self._pending.pop(request)
        self._deadlines.discard(request)
        pending.then(request, answer)
