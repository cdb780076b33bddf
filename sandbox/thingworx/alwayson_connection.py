"""One AlwaysOn connection, as the platform has it: what comes in, what is answered, what is asked.

Nothing is served before AUTH. Requests are carried out in the order they come in, at once or after the
latency set; those that wait for another edge don't hold up the next. Inferred: a request with a foreign
session id is refused with 0xA1, a malformed one with 0x80, and a message of a method that isn't known with
0x80 as the vendor's C SDK does.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NO_REQUEST,
    Auth,
    Bind,
    EntityType,
    Ids,
    Method,
    Other,
    Reassembler,
    Request,
    Response,
    Status,
)
from lambdas.thingworx.alwayson.codes import http_status
from sandbox.thingworx.alwayson_binding import Binder
from sandbox.thingworx.alwayson_calls import PATH, EdgeCalls, describe
from sandbox.thingworx.alwayson_edge import Synchroniser
from sandbox.thingworx.alwayson_requests import Outcome, code_of, serve
from sandbox.thingworx.alwayson_values import row_names
from sandbox.thingworx.edges import edge_answers
from sandbox.thingworx.errors import PlatformError
from sandbox.thingworx.faults import Request as Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.thingworx.alwayson_counters import AlwaysOnCounters
    from sandbox.thingworx.alwayson_link import Link
    from sandbox.thingworx.faults import FaultRule, Faults
    from sandbox.thingworx.platform import Platform

__all__ = ["Connection"]

_DROPPED, _BROKEN_OFF = 499, 0
_WATCH_SECONDS: Final = 1.0
_HEADER_SIZE, _FIRST_STATUS = 15, 0x40


@dataclass(slots=True)
class _Exchange:
    """A request of the client on its way through: `refused` has rules for single names of a BIND."""

    message: Auth | Bind | Request
    entity: str
    rule: FaultRule | None
    refused: dict[str, FaultRule]


class Connection:
    """One client's connection; used in the server's thread but for `in_loop`.

    Attributes:
        number: From 1, in order of opening; the endpoint id of the platform's requests.
        session: What AUTH gave; 0 before.
        binder: Its Things.
    """

    def __init__(
        self, number: int, link: Link, platform: Platform, faults: Faults, counters: AlwaysOnCounters
    ) -> None:
        self.number = number
        self.link = link
        self.platform = platform
        self.counters = counters
        self.session = 0
        self.binder = Binder(self)
        self.calls = EdgeCalls(self, faults)
        self.synchroniser = Synchroniser(self)
        self._faults = faults
        self.loop = asyncio.get_running_loop()
        self._reassembler = Reassembler(self.loop.time)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_heard = self.loop.time()

    async def run(self) -> None:
        """Serve until either side closes."""
        watch = asyncio.create_task(self._watch())
        try:
            while (received := await self.link.receive()) is not None:
                self._last_heard = self.loop.time()
                kind, payload = received
                if kind is WSMsgType.PING:
                    self._pinged(payload)
                elif kind is WSMsgType.BINARY:
                    self._received(payload)
        finally:
            watch.cancel()
            for task in self._tasks:
                task.cancel()
            self.binder.release()
            self.calls.end()

    def in_loop(self, call: Callable[[], Any]) -> None:
        """Have this called in the server's thread, soon."""
        self.loop.call_soon_threadsafe(call)

    async def _watch(self) -> None:
        """Close the connection once it has been silent for too long."""
        while True:
            limit = self.platform.settings.idle_seconds
            left = limit - (self.loop.time() - self._last_heard) if limit else _WATCH_SECONDS
            if left <= 0:
                self.counters.add("idle_closed")
                self.link.close(reason="idle")
                return
            await asyncio.sleep(min(left, _WATCH_SECONDS))

    def _pinged(self, payload: bytes) -> None:
        self.counters.add("pings")
        rule = self._faults.take(Asked("PING", PATH, protocol="alwayson"))
        if rule is not None and rule.breaks:
            self.link.break_by(rule)
        elif rule is not None and rule.delay_ms:
            self.loop.call_later(rule.delay_ms / 1000, self.link.pong, payload)
        else:
            self.link.pong(payload)

    def _received(self, frame: bytes) -> None:
        self.counters.add("frames_in")
        try:
            message = self._reassembler.receive(frame)
        except WireError as error:
            self.counters.add("malformed")
            if len(frame) >= _HEADER_SIZE and frame[1] < _FIRST_STATUS:
                number, endpoint = (int.from_bytes(frame[at : at + 4], "big") for at in (2, 6))
                ids = Ids(number, endpoint, self.session)
                self.link.send(Response(ids, Status.BAD_REQUEST, str(error)))
            return
        match message:
            case Response():
                self.calls.answered(message)
            case Other():
                self.counters.add("unknown_messages")
                if message.code != Method.KEEP_ALIVE:
                    refusal = Response(message.ids, Status.BAD_REQUEST, "Message Type not supported")
                    self.link.send(refusal)
            case Auth() | Bind() | Request():
                self._took(message)

    def _took(self, message: Auth | Bind | Request) -> None:
        exchange = self._exchange(message)
        rules = [rule for rule in (exchange.rule, *exchange.refused.values()) if rule is not None]
        delay = self._faults.latency_ms + max((rule.delay_ms for rule in rules), default=0)
        if delay:
            self.loop.call_later(delay / 1000, self._carry_out, exchange)
        else:
            self._carry_out(exchange)

    def _exchange(self, message: Auth | Bind | Request) -> _Exchange:
        """Count a request in, and find the rules that act on it."""
        if isinstance(message, Bind):
            asked = [
                Asked(message.method.name, PATH, "Things", name, protocol="alwayson")
                for name in message.names or ("",)
            ]
        elif isinstance(message, Auth):
            asked = [Asked(message.method.name, PATH, protocol="alwayson")]
        else:
            asked = [self._described(message)]
        self._faults.began(asked[0])
        entity = asked[0].entity if isinstance(message, Request) else ""
        if entity:
            self.counters.began(entity)
        rules = {one.entity: rule for one in asked if (rule := self._faults.take(one)) is not None}
        if message.method is Method.BIND:
            refused = {name: rule for name, rule in rules.items() if rule.status is not None}
            whole = next((rule for name, rule in rules.items() if name not in refused), None)
            return _Exchange(message, entity, whole, refused)
        return _Exchange(message, entity, next(iter(rules.values()), None), {})

    def _described(self, message: Request) -> Asked:
        is_thing = message.entity_type == EntityType.THINGS
        entity = self.binder.resolve(message.entity_name) if is_thing else message.entity_name
        rows = row_names(message.params) if self._faults.wants_rows else ()
        return describe(message, entity, rows=rows)

    def _carry_out(self, exchange: _Exchange) -> None:
        rule = exchange.rule
        if self.link.closed:
            self._finish(exchange, _BROKEN_OFF)
        elif rule is not None and rule.answers and rule.when == "before":
            self._fault(exchange, rule, Response(exchange.message.ids, Status.INTERNAL_ERROR))
        else:
            outcome = self._serve(exchange)
            if outcome.forwards:
                task = asyncio.create_task(self._answer_later(exchange, outcome))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._answer(exchange, outcome)

    def _serve(self, exchange: _Exchange) -> Outcome:
        message = exchange.message
        if self._faults.starting:
            return _refusal(message, Status.SERVICE_UNAVAILABLE, "ThingWorx is starting")
        if isinstance(message, Auth):
            return self._authenticate(message)
        stranger = self._stranger(message)
        if stranger is not None:
            return stranger
        try:
            if isinstance(message, Bind):
                return self.binder.serve(message, exchange.refused)
            return serve(self, message, exchange.entity)
        except PlatformError as error:
            return _refusal(message, code_of(error.status), str(error))

    def _stranger(self, message: Bind | Request) -> Outcome | None:
        """The refusal of who has no session, or another one."""
        if not self.session:
            self.counters.add("not_authenticated")
            return _refusal(message, Status.UNAUTHORIZED, "Not authenticated")
        if message.ids.session == self.session:
            return None
        self.counters.add("wrong_session")
        if self.platform.settings.check_session:
            return _refusal(message, Status.INVALID_SESSION, "Invalid session")
        return None

    def _authenticate(self, message: Auth) -> Outcome:
        if message.method is Method.CLEARAUTH:
            self.session = 0
            self.binder.release()
            return Outcome(Response(message.ids, Status.SUCCESS))
        if message.claims.get("appKey") not in self.platform.app_keys:
            self.counters.add("auth_refused")
            return _refusal(message, Status.UNAUTHORIZED, "Authentication failed")
        self.counters.add("auth_accepted")
        self.session = secrets.randbelow(0x7FFF_FFFE) + 1
        ids = message.ids._replace(session=self.session)
        announcement = Response(Ids(NO_REQUEST, self.number, self.session), Status.SUCCESS)
        announce = self.platform.settings.announce_session
        return Outcome(
            Response(ids, Status.SUCCESS), then=(lambda: self.link.send(announcement)) if announce else None
        )

    async def _answer_later(self, exchange: _Exchange, outcome: Outcome) -> None:
        try:
            seconds = self.platform.settings.edge_answer_seconds
            await edge_answers(outcome.forwards, exchange.entity, seconds)
        except PlatformError as error:
            outcome = _refusal(exchange.message, code_of(error.status), str(error))
        self._answer(exchange, outcome)

    def _answer(self, exchange: _Exchange, outcome: Outcome) -> None:
        rule, response = exchange.rule, outcome.response
        if rule is not None and rule.answers and rule.when == "after":
            self._fault(exchange, rule, response)
        else:
            try:
                self.link.send(response)
            except WireError as error:
                response = Response(response.ids, Status.ENTITY_TOO_LARGE, str(error))
                self.link.send(response)
            self._finish(exchange, http_status(response.status))
            if rule is not None and rule.breaks:
                self.link.break_by(rule)
        if outcome.then is not None and not self.link.closed:
            outcome.then()

    def _fault(self, exchange: _Exchange, rule: FaultRule, response: Response) -> None:
        """Do what a rule says instead of answering."""
        if rule.breaks:
            self._finish(exchange, _DROPPED)
            self.link.break_by(rule, response)
        else:
            status = rule.status or 500
            self._finish(exchange, status)
            self.link.send(Response(response.ids, code_of(status), rule.body or None))

    def _finish(self, exchange: _Exchange, status: int) -> None:
        self._faults.ended(status)
        if exchange.entity:
            self.counters.ended(exchange.entity)


def _refusal(message: Auth | Bind | Request, status: int, reason: str) -> Outcome:
    return Outcome(Response(message.ids, status, reason))
