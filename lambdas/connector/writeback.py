"""Property writes made in ThingWorx, on to the device's shadow, and back as the property's new value.

    PUT -> wait for company -> one update of the Thing's shadow -> success to ThingWorx -> push it back

ThingWorx keeps its old value until the edge pushes the new one: it only passes the write on. Each write
is answered within the deadline, whatever happens; docs/reference/write-back.md lists the answers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lambdas.connector.shadow import MOST_BYTES, ShadowRefused, ShadowUnavailable, is_thing_name, size_of
from lambdas.shared.observability import logger
from lambdas.thingworx.alwayson.codes import Status, is_success
from lambdas.thingworx.alwayson.events import Reply
from lambdas.thingworx.alwayson.wire_forms import from_wire
from lambdas.thingworx.base_types import ValueRefused, convert
from lambdas.thingworx.json_forms import for_shadow

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lambdas.connector.shapes import EdgeProperty
    from lambdas.thingworx.alwayson.model import Value

__all__ = ["Accepted", "ShadowUpdates", "Shapes", "WriteBack"]

#: How long the first write to a Thing waits for others.
_COMPANY_SECONDS = 0.1
_FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.1, 1.0
_REFUSALS: dict[int, Status] = {
    HTTPStatus.UNAUTHORIZED: Status.FORBIDDEN,
    HTTPStatus.FORBIDDEN: Status.FORBIDDEN,
    HTTPStatus.NOT_FOUND: Status.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Status.ENTITY_TOO_LARGE,
}
#: One property of an update may be what is refused.
_OF_ONE = frozenset({Status.BAD_REQUEST, Status.ENTITY_TOO_LARGE})


class Accepted(NamedTuple):
    """A value that the device's shadow has taken.

    Attributes:
        edge: edge name of the property.
        base_type: ThingWorx base type.
        value: in the base type's JSON form.
    """

    edge: str
    base_type: str
    value: Any


class ShadowUpdates(Protocol):
    """Where writes go."""

    #: Updates that may be under way at once.
    threads: int

    async def update(self, thing: str, values: Mapping[str, Any]) -> None:
        """See `Shadow.update`."""


class Shapes(Protocol):
    """Tells which property an edge name means."""

    async def of(self, thing: str, edges: Sequence[str] = ()) -> Mapping[str, EdgeProperty]:
        """Edge name -> property."""


class _Write:
    """One property to be written.

    Attributes:
        answer: what ThingWorx is told.
        begun: whether an update with it was sent.
        trouble: why the last update with it failed.
    """

    __slots__ = ("accepted", "answer", "begun", "edge", "name", "shadow", "timer", "trouble", "value")

    def __init__(self, edge: str, value: Value, answer: asyncio.Future[Reply]) -> None:
        self.edge = edge
        self.value = value
        self.answer = answer
        self.begun = False
        self.trouble = ""
        self.timer: asyncio.TimerHandle | None = None
        self.name = ""
        self.shadow: Any = None
        self.accepted: Accepted | None = None

    @property
    def open(self) -> bool:
        return not self.answer.done()

    def prepare(self, known: EdgeProperty) -> None:
        """Find the forms of its value.

        Raises:
            ValueRefused: the property's base type doesn't take it.
        """
        kept = convert(known.base_type, from_wire(self.value))
        self.name = known.name
        self.shadow = for_shadow(known.base_type, kept)
        self.accepted = Accepted(self.edge, known.base_type, kept)


class WriteBack:
    """Takes writes, one update of a Thing's shadow at a time; for one event loop.

    Args:
        shadow: where they go.
        shapes: which property an edge name means.
        owns: whether this connector owns its slot; asked before each update.
        accepted: told what a shadow has taken, by Thing.
        deadline_seconds: how long a write may take until it is answered.
        counters: what happened, by name.
    """

    def __init__(
        self,
        shadow: ShadowUpdates,
        shapes: Shapes,
        *,
        owns: Callable[[], bool],
        accepted: Callable[[str, list[Accepted]], None],
        deadline_seconds: float,
        counters: Counter[str],
    ) -> None:
        self._shadow = shadow
        self._shapes = shapes
        self._owns = owns
        self._accepted = accepted
        self._deadline_seconds = deadline_seconds
        self._counters = counters
        self._window = asyncio.Semaphore(shadow.threads)
        self._waiting: dict[str, list[_Write]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._open: set[_Write] = set()
        self._under_way = 0
        self._quiet, self._awake = _set(), _set()
        self._hurry = asyncio.Event()

    async def put(self, thing: str, values: Mapping[str, Value]) -> Reply:
        """Write values by edge name; what ThingWorx is to be told.

        Of several, one that fails makes it a failure that names each that did.
        """
        # Before anything else is waited for: the order of the calls is the order of the writes.
        answers = [self._enter(thing, edge, value) for edge, value in values.items()]
        replies = [await answer for answer in answers]
        failed = [reply for reply in replies if not is_success(reply.status)]
        if not failed:
            return Reply(Status.SUCCESS)
        return Reply(failed[0].status, "; ".join(reply.reason or "" for reply in failed))

    async def rest(self, seconds: float) -> None:
        """Begin no update until `go_on`; wait at most `seconds` for those under way."""
        self._awake.clear()
        await _came(self._quiet, seconds)

    def go_on(self) -> None:
        """Update again."""
        self._awake.set()

    async def settle(self, seconds: float) -> None:
        """Take no more writes; answer all that are open within `seconds`."""
        self._hurry.set()
        self._awake.set()
        workers = list(self._workers.values())
        if workers:
            _, late = await asyncio.wait(workers, timeout=seconds)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for write in list(self._open):
            self._refuse(write, Status.SERVICE_UNAVAILABLE, "the connector ends before AWS IoT has answered")

    def _enter(self, thing: str, edge: str, value: Value) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        write = _Write(edge, value, loop.create_future())
        self._counters["writes_in"] += 1
        self._open.add(write)
        if self._hurry.is_set():  # whether the slot is ours is seen right before the update
            self._refuse(write, Status.SERVICE_UNAVAILABLE, _NOT_SERVING)
            return write.answer
        write.timer = loop.call_later(self._deadline_seconds, self._expire, write)
        self._waiting.setdefault(thing, []).append(write)
        if thing not in self._workers:
            self._workers[thing] = loop.create_task(self._serve(thing))
        return write.answer

    async def _serve(self, thing: str) -> None:
        """Update a Thing's shadow until nothing waits any more."""
        try:
            while thing in self._waiting:
                await _came(self._hurry, _COMPANY_SECONDS)
                await self._awake.wait()
                await self._write(thing, self._waiting.pop(thing))
        finally:
            del self._workers[thing]

    async def _write(self, thing: str, writes: list[_Write]) -> None:
        self._under_way += 1
        self._quiet.clear()
        try:
            await self._send(thing, await self._prepared(thing, writes))
        except Exception as error:  # noqa: BLE001 - whatever it was: a write is answered
            logger.warning("property writes failed", thing=thing, reason=str(error))
            for write in writes:
                self._refuse(write, Status.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def _prepared(self, thing: str, writes: list[_Write]) -> list[_Write]:
        """The writes that a shadow can take; the others are answered."""
        if not is_thing_name(thing):
            for write in writes:
                self._refuse(write, Status.BAD_REQUEST, _NO_THING_NAME)
            return []
        known = await self._shapes.of(thing, [write.edge for write in writes])
        ready = []
        for write in writes:
            if write.edge not in known:
                self._refuse(write, Status.NOT_FOUND, f"the connector serves no such property of {thing}")
                continue
            try:
                write.prepare(known[write.edge])
            except ValueRefused as refusal:
                self._refuse(write, Status.BAD_REQUEST, refusal.reason)
                continue
            if size_of({write.name: write.shadow}) > MOST_BYTES:
                self._refuse(write, Status.ENTITY_TOO_LARGE, f"a shadow has at most {MOST_BYTES} bytes")
                continue
            ready.append(write)
        return ready

    async def _send(self, thing: str, writes: list[_Write]) -> None:
        """Update the shadow until it is decided."""
        for pause in _pauses():
            async with self._window:
                writes = self._worth_sending(writes)
                refusal = await self._update(thing, writes) if writes else None
            if refusal is not None:
                await self._refused(thing, writes, refusal)
            if not any(write.open for write in writes):
                return
            await asyncio.sleep(pause)

    def _worth_sending(self, writes: list[_Write]) -> list[_Write]:
        """Those that ThingWorx still waits for; none behind a lost lease."""
        waiting = [write for write in writes if write.open]
        if self._owns():
            return waiting
        for write in waiting:
            self._refuse(write, Status.SERVICE_UNAVAILABLE, _NOT_SERVING)
        return []

    async def _refused(self, thing: str, writes: list[_Write], refusal: ShadowRefused) -> None:
        """Tell so; where one property of several may be the reason, find it."""
        status = _REFUSALS.get(refusal.status, Status.BAD_REQUEST)
        if status in _OF_ONE and len({write.name for write in writes}) > 1:
            middle = len(writes) // 2
            await self._send(thing, writes[:middle])
            await self._send(thing, writes[middle:])
            return
        for write in writes:
            self._refuse(write, status, refusal.reason)

    async def _update(self, thing: str, writes: list[_Write]) -> ShadowRefused | None:
        """One call; the refusal, or None when it was taken or may be tried again."""
        latest = {write.name: write for write in writes}
        values = {name: write.shadow for name, write in latest.items()}
        if len(values) > 1 and size_of(values) > MOST_BYTES:
            return ShadowRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BYTES} bytes")
        for write in writes:
            write.begun = True
        try:
            await self._shadow.update(thing, values)
        except ShadowRefused as refusal:
            return refusal
        except ShadowUnavailable as error:
            for write in writes:
                write.trouble = str(error)
            return None
        for write in writes:
            self._end(write, Reply(Status.SUCCESS), "writes_accepted")
        self._accepted(thing, [write.accepted for write in latest.values() if write.accepted])
        return None

    def _expire(self, write: _Write) -> None:
        waited = f"AWS IoT has not confirmed it within {self._deadline_seconds:g} s"
        trouble = f" ({write.trouble})" if write.trouble else ""
        outcome = "the device may get it all the same" if write.begun else "the device does not get it"
        reason = f"{write.edge}: {waited}{trouble}; {outcome}"
        self._end(write, Reply(Status.GATEWAY_TIMEOUT, reason), "writes_late")

    def _refuse(self, write: _Write, status: Status, reason: str) -> None:
        self._end(write, Reply(status, f"{write.edge}: {reason}"), "writes_refused")

    def _end(self, write: _Write, reply: Reply, counter: str) -> None:
        if write.timer is not None:
            write.timer.cancel()
        if write in self._open:
            self._open.discard(write)
            self._counters[counter] += 1
            if not write.answer.cancelled():
                write.answer.set_result(reply)


_NOT_SERVING = "the connector of this Thing is being replaced, write again"
_NO_THING_NAME = "AWS IoT has no such thing: its names have up to 128 letters, digits, and : _ -"


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _came(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _pauses() -> Iterator[float]:
    """Seconds between tries, for ever: random parts of a pause that doubles."""
    for turn in itertools.count():
        longest = min(_MOST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(turn, 10))
        yield longest * random.uniform(0.5, 1.0)
