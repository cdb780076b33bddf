"""A session on a socket: connects, keeps connected, and lets coroutines wait for answers."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed

from lambdas.shared.errors import (
    ThingNotServed,
    ThingworxCallFailed,
    ThingworxError,
    ThingworxRefused,
    ThingworxUnavailable,
)
from lambdas.shared.observability import logger
from lambdas.thingworx.alwayson.binding import Phase
from lambdas.thingworx.alwayson.calls import NoAnswer
from lambdas.thingworx.alwayson.codes import Status, http_status, is_success
from lambdas.thingworx.alwayson.events import (
    Answered,
    Asked,
    Authenticated,
    AuthRefused,
    Broken,
    Event,
    ModelChanged,
    Reply,
    ThingParked,
    ThingReady,
)
from lambdas.thingworx.alwayson.outbox import explained
from lambdas.thingworx.breaker import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from websockets.asyncio.client import ClientConnection

    from lambdas.thingworx.alwayson.binding import BoundThing
    from lambdas.thingworx.alwayson.calls import Answer
    from lambdas.thingworx.alwayson.model import Response
    from lambdas.thingworx.alwayson.session import Session
    from lambdas.thingworx.alwayson.timeouts import Timeouts
    from lambdas.thingworx.app_key import AppKey
    from lambdas.thingworx.breaker import Breaker
    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Link"]


def _nobody(_: str) -> None:
    """Nobody asked to be told."""


class Link:
    """Owns the socket, the timer and the futures; everything else is the session's. For one event loop.

    Args:
        session: what is said.
        dial: connects with a key.
        key: reads the application key; blocks.
        timeouts: how long to wait for what.
        handler: answers what the platform asks bound Things.
        breaker: keeps the fleet from hammering with a refused key.
    """

    def __init__(
        self,
        session: Session,
        dial: Callable[[str], Awaitable[ClientConnection]],
        key: Callable[[], AppKey],
        *,
        timeouts: Timeouts,
        handler: Callable[[Asked], Awaitable[Reply]],
        breaker: Breaker | None = None,
    ) -> None:
        self._session = session
        self._dial = dial
        self._key = key
        self._timeouts = timeouts
        self._handler = handler
        self._breaker = breaker
        self._running: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._failure: ThingworxError = ThingworxUnavailable("not connected yet")
        self._authenticated = False
        self._used_key: AppKey | None = None
        self._wake = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._calls: dict[int, asyncio.Future[Answer]] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._watching: list[asyncio.Future[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        #: Told of each Thing that was changed in the platform while it was served.
        self.model_changed: Callable[[str], None] = _nobody

    async def open(self) -> None:
        """Connect and authenticate; from then on, stay connected.

        Raises:
            ThingworxError: the first try failed; nothing is left running.
        """
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        self._running = loop.create_task(self._run())
        try:
            await self._opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection, without UNBIND; whatever waits fails."""
        running, self._running = self._running, None
        if running is not None:
            await self._said()
            self._session.closing()
            running.cancel()
            await asyncio.wait([running])
        if self._timer is not None:
            self._timer.cancel()
        for task in self._background:
            task.cancel()

    async def _said(self) -> None:
        """Wait until what was just answered is sent, for as long as closing may take."""
        await asyncio.sleep(0)  # for answers that were found this very moment
        if self._session.is_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.close):
                    await self._all_sent.wait()

    def bind(self, things: Iterable[str]) -> None:
        """Keep these Things bound."""
        self._session.bind(things)
        self._act()

    def unbind(self, things: Iterable[str]) -> None:
        """Bind these Things no longer."""
        self._session.unbind(things)
        self._act()

    def rebind(self, things: Iterable[str]) -> None:
        """Bind these Things once more, whoever has them now."""
        self._session.rebind(things)
        self._act()

    async def release(self, things: Iterable[str]) -> None:
        """Bind these Things no longer, and wait until the platform has answered that.

        Raises:
            ThingworxError: no answer; refused.
        """
        self._check()
        futures = [self._call(number) for number in self._session.release(things)]
        self._act()
        for future in futures:
            answer = await future
            if isinstance(answer, NoAnswer) or not is_success(answer.status):
                raise ThingworxUnavailable(f"UNBIND: {explained(answer)}")

    async def bound(self, things: Iterable[str]) -> None:
        """Wait until the platform has answered a BIND for each of these Things, one way or the other.

        Raises:
            ThingworxError: no connection.
        """
        left = set(things)
        while True:
            self._check()
            left = {name for name in left if self._is_unanswered(name)}
            if not left:
                return
            changed = asyncio.get_running_loop().create_future()
            self._watching.append(changed)
            await changed

    def bound_things(self) -> list[str]:
        """Things that the platform has bound here; those that are synchronised, and by their name, first."""
        served = [
            thing for thing in self._session.things() if thing.phase in (Phase.SYNCHRONISING, Phase.READY)
        ]
        served.sort(key=lambda thing: (thing.phase is not Phase.READY, thing.identifier is not None))
        return [thing.name for thing in served]

    def retry_parked(self, things: Iterable[str] | None = None) -> None:
        """Bind parked Things now: these, or all."""
        self._session.retry_parked(things)
        self._act()

    def parked(self) -> dict[str, str]:
        """Things that the platform refuses now, with the reason."""
        return {thing.name: thing.reason for thing in self._session.things() if thing.phase is Phase.PARKED}

    def wants(self, name: str) -> bool:
        """Whether the Thing shall be bound."""
        return self._session.thing(name) is not None

    async def ready(self, name: str) -> BoundThing:
        """The Thing, bound and synchronised; it is bound first when it isn't yet.

        Raises:
            ThingNotServed: the platform refuses the Thing.
            ThingworxCallFailed: 409, another connection has it bound.
            ThingworxError: no connection, or it takes too long.
        """
        self._check()
        if self._session.thing(name) is None:
            self.bind([name])
        try:
            async with asyncio.timeout(self._timeouts.ready):
                while (thing := self._served(name)) is None:
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.setdefault(name, []).append(future)
                    await future
        except TimeoutError:
            raise ThingworxUnavailable(
                f"{name} is not bound and synchronised within {self._timeouts.ready:g} s"
            ) from None
        return thing

    async def push(self, thing: str, rows: Sequence[ValueRow]) -> Response:
        """Send rows of a Thing that is ready, and wait for the answer.

        Raises:
            ThingworxError: no answer; the rows may have been stored.
            WireError: the rows have no form on the wire.
        """
        self._check()
        future = self._call(self._session.push(thing, rows))
        self._act()
        answer = await future
        if isinstance(answer, NoAnswer):
            raise ThingworxUnavailable(f"{thing}: {answer.reason}")
        return answer

    def _call(self, number: int) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        return future

    def _is_unanswered(self, name: str) -> bool:
        thing = self._session.thing(name)
        return thing is not None and thing.phase in (Phase.WANTED, Phase.BINDING)

    def _check(self) -> None:
        if not self._session.is_open:
            # The same kind anew: one exception raised by many tasks would gather all their tracebacks.
            raise type(self._failure)(str(self._failure))

    def _served(self, name: str) -> BoundThing | None:
        """The Thing when it is ready, None when that is still to be waited for."""
        self._check()
        thing = self._session.thing(name)
        if thing is None:
            raise ThingNotServed("unbound")
        if thing.phase is Phase.PARKED and thing.status == Status.CONFLICT:
            # Bound by another connection, maybe of a connector that has just ended: worth a few tries.
            raise ThingworxCallFailed(http_status(thing.status), thing.reason)
        if thing.phase is Phase.PARKED:
            raise ThingNotServed(thing.reason)
        return thing if thing.phase is Phase.READY else None

    async def _run(self) -> None:
        pauses = self._pauses()
        while True:
            self._authenticated = False
            try:
                await self._connection()
            except ThingworxError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end the reconnecting
                logger.exception("AlwaysOn connection failed")
                self._failed(ThingworxUnavailable(f"{type(error).__name__}: {error}"))
            if self._authenticated:
                pauses = self._pauses()
            await asyncio.sleep(next(pauses))

    def _pauses(self) -> Iterator[float]:
        """Seconds before each try to connect again: random parts of a pause that doubles."""
        for turn in itertools.count():
            longest = self._timeouts.retry_first * 2 ** min(turn, 16)
            yield min(self._timeouts.retry_most, longest) * random.uniform(0.1, 1.0)

    async def _connection(self) -> None:
        """One connection from dial to close; always ends by an exception."""
        key = await asyncio.to_thread(self._key)
        breaker = self._breaker
        if breaker is not None:
            await self._asked_breaker(breaker.admit, key)
        try:
            websocket = await self._dial(key.text)
            try:
                await self._talk(websocket, key)
            finally:
                # Whoever waits learns it now: closing a dead socket takes its time.
                self._session.disconnected(str(self._failure))
                self._act()
                for thing in list(self._waiting):
                    self._release(thing)
                await websocket.close(reason="Normal Close")
        except KeyRefused as error:
            if breaker is not None:
                await self._asked_breaker(breaker.refused, key)
            raise ThingworxRefused(str(error)) from None

    async def _talk(self, websocket: ClientConnection, key: AppKey) -> None:
        loop = asyncio.get_running_loop()
        self._used_key = key
        self._ended = loop.create_future()
        self._failure = ThingworxUnavailable("AUTH is not answered yet")
        tasks = {
            self._ended,
            loop.create_task(self._read(websocket)),
            loop.create_task(self._write(websocket)),
        }
        try:
            self._session.connected(key.text)
            self._act()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        except ConnectionClosed as error:
            self._failure = ThingworxUnavailable(f"connection lost: {error}")
            raise self._failure from None
        except ThingworxError as error:
            self._failure = error
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, websocket: ClientConnection) -> None:
        async for frame in websocket:
            if isinstance(frame, bytes):  # texts belong to tunnels
                self._session.receive(frame)
                self._act()
        raise ThingworxUnavailable("the platform closed the connection")

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for frame in self._session.frames_to_send():
                await websocket.send(frame)
            if not self._wake.is_set():
                self._all_sent.set()

    async def _asked_breaker(self, question: Callable[[str], None], key: AppKey) -> None:
        try:
            await asyncio.to_thread(question, key.version)
        except ThingworxError:
            raise
        except Exception as error:  # noqa: BLE001 - its record is out of reach: that must not keep us away
            logger.warning("the breaker can't be asked", reason=str(error))

    def _act(self) -> None:
        """After anything that the session was told: pass on what it says, and set its timer."""
        for event in self._session.events():
            self._happened(event)
        for changed in self._watching:
            if not changed.done():
                changed.set_result(None)
        self._watching.clear()
        self._all_sent.clear()
        self._wake.set()
        when = self._session.next_deadline()
        if when is not None and (self._timer is None or when < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._session.tick()
        self._act()

    def _happened(self, event: Event) -> None:
        match event:
            case Answered(call, answer):
                future = self._calls.pop(call, None)
                if future is not None and not future.done():
                    future.set_result(answer)
            case ThingReady(thing) | ThingParked(thing):
                self._release(thing)
            case ModelChanged(thing):
                self.model_changed(thing)
            case Asked():
                self._begin(self._reply(event))
            case Authenticated():
                self._authenticated = True
                self._failure = ThingworxUnavailable("the connector is closing the connection")
                if self._breaker is not None and self._used_key is not None:
                    self._begin(self._asked_breaker(self._breaker.accepted, self._used_key))
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
            case AuthRefused(reason):
                self._end(KeyRefused(f"ThingWorx refuses the application key: {reason}"))
            case Broken(reason):
                self._end(ThingworxUnavailable(reason))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _end(self, error: ThingworxError) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _failed(self, error: ThingworxError) -> None:
        self._failure = error
        logger.error("AlwaysOn is down", reason=str(error))
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)

    def _release(self, thing: str) -> None:
        for future in self._waiting.pop(thing, ()):
            if not future.done():
                future.set_result(None)

    async def _reply(self, asked: Asked) -> None:
        try:
            reply = await self._handler(asked)
        except Exception as error:  # noqa: BLE001 - every request of the platform is answered
            logger.warning("request of the platform failed", thing=asked.thing, reason=str(error))
            reply = Reply(Status.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        self._session.answer(asked, reply)
        self._act()
