"""What the platform asks of the edges on one connection, and the answers that come back.

A request is told apart by its endpoint, which is the connection's number here, and its number; either may be
any number of 32 bits, and an edge repeats both.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NO_REQUEST,
    Characteristic,
    EntityType,
    Ids,
    InfoTable,
    Method,
    Request,
    Response,
    Status,
)
from sandbox.thingworx.alwayson_requests import COLLECTIONS, code_of
from sandbox.thingworx.faults import Request as Asked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Literal

    from sandbox.thingworx.alwayson_connection import Connection
    from sandbox.thingworx.alwayson_edge import BoundThing
    from sandbox.thingworx.faults import FaultRule, Faults

__all__ = ["PATH", "EdgeCalls", "Question", "describe"]

PATH: Final = "/Thingworx/WS"
_KINDS: Final[dict[int, str]] = {
    Characteristic.PROPERTIES: "Properties",
    Characteristic.SERVICES: "Services",
    Characteristic.EVENTS: "Events",
}


class Question(NamedTuple):
    """What is asked of a Thing."""

    method: Method
    characteristic: Characteristic
    target: str
    params: InfoTable | None = None


class EdgeCalls:
    """Requests to the edge; used in the server's thread."""

    def __init__(self, connection: Connection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._numbers = itertools.count(connection.platform.settings.first_request_id)
        self._pending: dict[int, tuple[Callable[[Response | None], None], asyncio.TimerHandle]] = {}

    def ask(self, bound: BoundThing, question: Question, answered: Callable[[Response | None], None]) -> None:
        """Send a request; `answered` is called once, with None when no answer came in time."""
        connection = self._connection
        if connection.link.closed:
            connection.loop.call_soon(answered, None)
            return
        number = next(self._numbers) % NO_REQUEST
        ids = Ids(number, connection.number, connection.session)
        method, characteristic, target, params = question
        message = Request(ids, method, EntityType.THINGS, bound.entity, characteristic, target, params)
        seconds = connection.platform.settings.edge_answer_seconds
        self._pending[number] = answered, connection.loop.call_later(seconds, self._unanswered, number)
        connection.counters.add("edge_requests")
        rule = self._faults.take(describe(message, bound.thing, direction="out"))
        if rule is not None and rule.delay_ms:
            connection.loop.call_later(rule.delay_ms / 1000, self._send, message, rule)
        else:
            self._send(message, rule)

    def answered(self, message: Response) -> None:
        """Take an answer; one to nothing that was asked, or that comes too late, is only counted."""
        found = None
        if message.ids.endpoint == self._connection.number:
            found = self._pending.pop(message.ids.request, None)
        if found is None:
            self._connection.counters.add("unmatched_answers")
            return
        answered, timer = found
        timer.cancel()
        answered(message)

    def end(self) -> None:
        """The connection is gone: nothing will be answered."""
        while self._pending:
            answered, timer = self._pending.pop(next(iter(self._pending)))
            timer.cancel()
            answered(None)

    def _send(self, message: Request, rule: FaultRule | None) -> None:
        link, loop = self._connection.link, self._connection.loop
        if rule is not None and rule.answers and rule.when == "before":
            if rule.breaks:
                link.break_by(rule, message)
            else:
                answer = Response(message.ids, code_of(rule.status or 500), rule.body or None)
                loop.call_soon(self.answered, answer)
            return
        try:
            link.send(message)
        except WireError as error:
            loop.call_soon(self.answered, Response(message.ids, Status.ENTITY_TOO_LARGE, str(error)))
        if rule is not None and rule.breaks:
            link.break_by(rule)

    def _unanswered(self, number: int) -> None:
        answered, _ = self._pending.pop(number)
        self._connection.counters.add("edge_timeouts")
        answered(None)


def describe(
    message: Request, entity: str, direction: Literal["in", "out"] = "in", rows: tuple[str, ...] = ()
) -> Asked:
    """A request as fault rules see it; `entity` is the Thing's name, however it is addressed."""
    collection = COLLECTIONS.get(message.entity_type, str(message.entity_type))
    kind = _KINDS.get(message.characteristic, "")
    return Asked(
        message.method.name,
        f"{PATH}/{collection}/{entity}/{kind}/{message.target}",
        collection,
        entity,
        service=message.target if kind == "Services" else "",
        protocol="alwayson",
        direction=direction,
        rows=rows,
    )
