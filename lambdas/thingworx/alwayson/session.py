"""One AlwaysOn session with the platform, without I/O: frames and time go in, frames and events come out.

    CONNECTING -> AUTHENTICATING -> BINDING -> SYNCHRONISING -> READY        closing: -> CLOSING
        ^               |              |             |            |
        +---------------+--------------+-------------+------------+   (connection lost)

The state tells how far the Things known at the start of the connection are; a Thing that is ready is
served whatever the others do. Rules come from the messages of PTC's C and Java SDKs and from its help
pages on the connection process: nothing is sent before AUTH is answered, every request of the platform
is answered with its own ids, and a value that is pushed before its Thing is synchronised is lost.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from lambdas.shared.errors import WireError
from lambdas.shared.observability import logger
from lambdas.thingworx.alwayson.binder import Binder
from lambdas.thingworx.alwayson.binding import BoundThing, Phase
from lambdas.thingworx.alwayson.calls import Answer, NoAnswer
from lambdas.thingworx.alwayson.codes import EntityType, Status, is_success
from lambdas.thingworx.alwayson.edge import Edge, service_of
from lambdas.thingworx.alwayson.events import Answered, Asked, Authenticated, AuthRefused, Event, Reply
from lambdas.thingworx.alwayson.model import Auth, Ids, InfoTable, Other, Request, Response
from lambdas.thingworx.alwayson.multipart import Reassembler, encode_message
from lambdas.thingworx.alwayson.outbox import Outbox, explained
from lambdas.thingworx.alwayson.update import encode_update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lambdas.thingworx.alwayson.timeouts import Timeouts
    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Session", "State"]

_HEADER = struct.Struct(">BBIIIB")
_FIRST_STATUS = 0x40
_KEY_REFUSED = frozenset({Status.UNAUTHORIZED, Status.FORBIDDEN})


class State(Enum):
    """How far a session is."""

    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    BINDING = "binding"
    SYNCHRONISING = "synchronising"
    READY = "ready"
    CLOSING = "closing"


class Session:
    """A session that outlives its connections.

    Args:
        timeouts: how long to wait for what.
        now: monotonic clock in seconds.
        edge: answers what the platform asks while it synchronises a Thing.
        jitter: random number of 0..1.
        counters: counts what happened, by name.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        now: Callable[[], float],
        *,
        edge: Edge | None = None,
        jitter: Callable[[], float] = random.random,
        counters: Counter[str] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._timeouts = timeouts
        self._now = now
        self._edge = edge or Edge()
        self._state = State.CONNECTING
        self._outbox = Outbox(now)
        self._binder = Binder(self._outbox, timeouts, jitter, self.counters)
        self._reassembler = Reassembler(now)
        self._connection = 0
        self._unauthorised = False

    @property
    def state(self) -> State:
        """How far it is."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether the platform takes requests."""
        return self._binder.open

    def connected(self, app_key: str) -> None:
        """A connection stands: authenticate.

        Raises:
            WireError: the key has no form on the wire.
        """
        self._connection += 1
        self._enter(State.AUTHENTICATING)
        self._outbox.ask(
            lambda ids: encode_message(Auth(ids, {"appKey": app_key})),
            self._timeouts.auth,
            partial(self._authenticated, app_key),
        )

    def disconnected(self, reason: str) -> None:
        """The connection is gone: requests end without answer, all Things have to be bound anew."""
        self._binder.stop()
        self._outbox.frames.clear()
        self._outbox.calls.abandon(reason)
        self._unauthorised = False
        self._reassembler = Reassembler(self._now)
        if self._state is not State.CLOSING:
            self._enter(State.CONNECTING)

    def closing(self) -> None:
        """Send nothing any more. No UNBIND: closing unbinds, and a successor may have bound already."""
        self._enter(State.CLOSING)
        self._binder.open = False

    def receive(self, frame: bytes) -> None:
        """Take one WebSocket message."""
        try:
            message = self._reassembler.receive(frame)
        except WireError as error:
            self._unreadable(frame, str(error))
            return
        match message:
            case None:
                return
            case Response():
                self._outbox.calls.answered(message)
            case Request():
                self._asked(message)
            case Other():
                self.counters["alwayson_ignored"] += 1
            case _:
                self._respond(message.ids, Reply(Status.BAD_REQUEST, "message type not supported"))
        self._progress()

    def tick(self) -> None:
        """Do what is due by the clock."""
        now = self._now()
        self._outbox.calls.expire(now)
        self._binder.tick(now)
        self._progress()

    def next_deadline(self) -> float | None:
        """When `tick` is to be called, by the clock; None: nothing waits."""
        deadlines = (self._outbox.calls.next_deadline(), *self._binder.deadlines())
        return min((when for when in deadlines if when is not None), default=None)

    def frames_to_send(self) -> list[bytes]:
        """Frames to send now, in order; each is given once."""
        frames, self._outbox.frames = self._outbox.frames, []
        return frames

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._outbox.events = self._outbox.events, []
        return events

    def thing(self, name: str) -> BoundThing | None:
        """The Thing, if it shall be bound."""
        return self._binder.bindings.get(name)

    def things(self) -> list[BoundThing]:
        """All Things that shall be bound."""
        return self._binder.bindings.all()

    def bind(self, names: Iterable[str]) -> None:
        """Keep these Things bound, over all connections to come."""
        self._binder.bind(names)

    def unbind(self, names: Iterable[str]) -> None:
        """Bind these Things no longer, and say so to the platform where it may think they are."""
        self._binder.unbind(names)

    def release(self, names: Iterable[str]) -> list[int]:
        """As `unbind`; the calls' numbers, which `Answered` will name."""
        return self._binder.unbind(names, self._report)

    def rebind(self, names: Iterable[str]) -> None:
        """Bind these Things once more, without UNBIND: another connection may have taken them."""
        self._binder.rebind(names)

    def retry_parked(self, names: Iterable[str] | None = None) -> None:
        """Bind parked Things now: these, or all."""
        self._binder.retry_parked(names)

    def push(self, thing: str, rows: Sequence[ValueRow]) -> int:
        """Send rows of one Thing.

        Returns:
            The call's number: `Answered` will name it.

        Raises:
            WireError: a row has no form on the wire, or all of them are larger than the platform takes.
        """
        return self._outbox.ask(
            lambda ids: encode_update(thing, rows, ids), self._timeouts.request, self._report
        )

    def answer(self, asked: Asked, reply: Reply) -> None:
        """Answer the platform; nothing happens when the connection that it asked over is gone."""
        if asked.connection == self._connection:
            self._respond(asked.request.ids, reply)

    def _authenticated(self, app_key: str, _: int, answer: Answer) -> None:
        if isinstance(answer, NoAnswer):
            if answer.timed_out:
                self._outbox.drop_connection(f"AUTH: {answer.reason}")
            return
        if is_success(answer.status):
            self._outbox.calls.session = answer.ids.session
            self._outbox.events.append(Authenticated())
            self._enter(State.BINDING)
            self._binder.start()
            return
        reason = explained(answer).replace(app_key, "(application key)")
        if answer.status in _KEY_REFUSED:
            self._outbox.events.append(AuthRefused(reason))
        else:
            self._outbox.drop_connection(f"AUTH: {reason}")

    def _asked(self, request: Request) -> None:
        if not self.is_open:
            return
        thing = None
        if request.entity_type == EntityType.THINGS:
            thing = self._binder.bindings.addressed(request.entity_name)
        if thing is None:
            reason = f"Thing {request.entity_name} is not bound here"
            self._respond(request.ids, Reply(Status.NOT_FOUND, reason))
            return
        match service_of(request):
            case "NotifyPropertyUpdate":
                self._respond(request.ids, Reply(Status.SUCCESS))
                self._binder.notified(thing)
            case "SynchronizeModelState":
                self._respond(request.ids, self._edge.model_state(thing.name, request))
                wanted = request.params.first("propertyInfo").value if request.params else None
                if isinstance(wanted, InfoTable):
                    self._binder.ready(thing, wanted)
                else:
                    self._binder.notified(thing)
            case "GetMetadata":
                self._respond(request.ids, self._edge.metadata(thing.name))
            case _:
                self._outbox.events.append(Asked(thing.name, request, self._connection))

    def _report(self, call: int, answer: Answer) -> None:
        if isinstance(answer, Response):
            if is_success(answer.status):
                self._unauthorised = False
            elif answer.status == Status.INVALID_SESSION:
                self._outbox.drop_connection(explained(answer))
            elif answer.status == Status.UNAUTHORIZED:
                # One Thing's permission, or the key was withdrawn: then nothing succeeds in between.
                if self._unauthorised:
                    self._outbox.drop_connection(explained(answer))
                self._unauthorised = True
        self._outbox.events.append(Answered(call, answer))

    def _unreadable(self, frame: bytes, problem: str) -> None:
        """A malformed message concerns only whom it was for: WebSocket tells where the next one begins."""
        self.counters["alwayson_unreadable"] += 1
        logger.warning("message can't be read", problem=problem)
        if len(frame) < _HEADER.size:
            return
        _, code, *numbers, _ = _HEADER.unpack_from(frame)
        ids = Ids(*numbers)
        if code >= _FIRST_STATUS:
            self._outbox.calls.unreadable(ids.request, f"the answer can't be read: {problem}")
        else:
            self._respond(ids, Reply(Status.BAD_REQUEST, f"can't be read: {problem}"))

    def _respond(self, ids: Ids, reply: Reply) -> None:
        if not self.is_open:
            return
        try:
            self._outbox.send(Response(ids, reply.status, reply.reason, reply.content))
        except WireError as error:
            reason = f"the answer has no form on the wire: {error}"
            self._outbox.send(Response(ids, Status.INTERNAL_ERROR, reason))

    def _progress(self) -> None:
        counts = self._binder.bindings.counts
        unbound = counts[Phase.WANTED] + counts[Phase.BINDING]
        if self._state is State.BINDING and not unbound:
            self._enter(State.SYNCHRONISING)
        if self._state is State.SYNCHRONISING and not unbound + counts[Phase.SYNCHRONISING]:
            self._enter(State.READY)

    def _enter(self, state: State) -> None:
        things = len(self._binder.bindings)
        logger.info("AlwaysOn session", before=self._state.value, state=state.value, things=things)
        self._state = state
