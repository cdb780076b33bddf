"""Things whose readings wait in the held store, and how they catch up.

    live --park--> waiting --accepted again--> catching up --nothing left--> live
                      ^                            |
                      +---------- refused ---------+

While a Thing waits, its later readings follow the parked ones, so that none overtakes another. Every
`thing_retry_seconds` its oldest parked reading is tried; when the platform takes it, all of them are
pushed, oldest first, each deleted only after the answer; only then are readings delivered directly again.

A refused call may mean the Thing or a reading of it: it is halved until one reading is refused alone. When
that one is refused again and again, those behind it are tried too. Once the platform stores one of them, it
is the reading: refused again after that, it is held as rejected. While none is stored it is the Thing, which
waits.

A marker in the control table says which Things wait. It is written before the first reading is parked
and removed when nothing is left, both under the Thing's lock; and it names its writer, so that a connector
which lost the slot in between can't remove what its successor has written. A successor reads the markers
before it takes a message. Wherever a connector dies, readings are at worst pushed twice, in order.

A Thing that went is known for a day more, and tried like any other; then it is nobody's, and its parked
readings are sent by whoever publishes it when it returns, to wherever it is then. So one that is not, or no
longer, of this slot is never tried: its marker goes once nothing is parked.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lambdas.connector.entries import batches, parked_entry
from lambdas.connector.gate import backoff
from lambdas.connector.outcome import INTERNAL_ERROR, PERHAPS_A_READING, Outcome, Verdict
from lambdas.connector.stop import Stopped
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lambdas.connector.entries import Entry
    from lambdas.connector.stop import Stop
    from lambdas.shared.held_items import HeldItem, Page
    from lambdas.shared.held_store import HeldReading

__all__ = ["Backlog", "Offered", "Settler", "Store"]

#: Parked readings read at once; DynamoDB gives 1 MB at most.
_PAGE = 500
#: How many times as many readings are offered after each call that was taken, up to a page.
_GROWTH = 4
#: Things that catch up at the same time: bounds memory, and leaves most of the window to live readings.
_AT_ONCE = 8
#: How often the markers are read again: for those of a predecessor that was slow to die.
_LOOK_SECONDS = 30.0
_LONGEST_TICK_SECONDS = 1.0
#: Refusals of one reading before it is held as rejected, and of the oldest before those behind it are tried.
_MOST_REFUSALS = 3
#: Readings among which one is looked for that is stored though the oldest isn't: what a day holds of a Thing.
_FARTHEST = 1000
#: Tries from one such look to the next; between them only the next reading is tried: it may be the Thing.
_FAR_EVERY = 10


class Store(Protocol):
    """Markers and parked readings; every method blocks."""

    def things(self) -> dict[str, str]:
        """Things with a marker, and the reason in it."""

    def ours(self, thing: str) -> bool:
        """Whether a Thing belongs to this slot, if it is known at all."""

    def mark(self, thing: str, reason: str) -> None:
        """Write a Thing's marker, in this connector's name."""

    def unmark(self, thing: str) -> None:
        """Remove a Thing's marker.

        Raises:
            Conflict: somebody else has written it since.
        """

    def oldest(self, thing: str, limit: int) -> Page:
        """The oldest parked readings of a Thing."""

    def delete(self, items: Sequence[HeldItem]) -> None:
        """Delete parked readings."""


class Offered(NamedTuple):
    """What became of parked readings that were offered.

    Attributes:
        settled: how many are delivered or rejected, from the first on.
        stored: the platform has stored a value: to reject one, or to keep it back, the Thing isn't asked.
        verdict: why the next one can't be settled now; None when all are.
    """

    settled: int
    stored: bool
    verdict: Verdict | None


class Settler(Protocol):
    """Settles parked readings."""

    async def offer_parked(self, thing: str, batch: list[Entry]) -> Offered:
        """Try once to have readings delivered or rejected, from the first on."""

    async def reject_parked(self, parked: HeldReading, reason: str, detail: str) -> None:
        """Hold a parked reading as one that can never be delivered."""


class _Waiting:
    """A Thing that waits.

    Attributes:
        verdict: why.
        until: when it is tried next, on the monotonic clock.
        marked: this connector has written the marker.
        at_work: it is catching up now.
        served: the platform has taken one of its readings since.
        stored: the platform has stored a value of it since it was begun to try it this time.
        oldest: key of the oldest reading, and how often in a row it was refused alone.
    """

    __slots__ = ("at_work", "marked", "oldest", "served", "stored", "until", "verdict")

    def __init__(self, verdict: Verdict, until: float) -> None:
        self.verdict = verdict
        self.until = until
        self.marked = self.at_work = self.served = self.stored = False
        self.oldest = ("", 0)


class Backlog:
    """Which Things wait, and their way back.

    Args:
        store: markers and parked readings.
        stop: ends catching up.
        owns: whether this connector still owns its slot.
        retry_seconds: how long a refused Thing is left alone.
        knock: told before a Thing is tried, for a transport that keeps refused Things waiting by itself.

    Attributes:
        on_trial: Things whose backlog went away without one reading delivered (it had expired, or never
            found room): whether they are served is still unknown.
    """

    def __init__(
        self,
        store: Store,
        *,
        stop: Stop,
        owns: Callable[[], bool],
        retry_seconds: float,
        knock: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._stop = stop
        self._owns = owns
        self._retry_seconds = retry_seconds
        self._knock = knock
        self._waiting: dict[str, _Waiting] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._next_look = 0.0
        self._resting = False
        self._at_work: set[asyncio.Task[None]] = set()
        self.on_trial: set[str] = set()

    def __contains__(self, thing: str) -> bool:
        return thing in self._waiting

    async def load(self) -> None:
        """Read the markers; to be done before the first message is received.

        Raises:
            Stopped: the connector gives up first.
        """
        for delay in backoff():
            self._stop.check()
            if not self._owns() or await self._look():
                return
            await self._stop.pause(delay)

    async def park(
        self, thing: str, verdict: Verdict | None, hold: Callable[[Verdict], Awaitable[None]]
    ) -> bool:
        """Have readings of a Thing held, behind those that are held already.

        Args:
            thing: Thing name.
            verdict: why it can't take them; None when it is enough that it waits.
            hold: holds the readings, with the reason given.

        Returns:
            False when the Thing waits no longer and `verdict` is None: nothing was held.

        Raises:
            Stopped: the connector gives up; perhaps nothing was held.
        """
        async with self._locks[thing]:
            waiting = self._waiting.get(thing)
            if waiting is None:
                if verdict is None:
                    return False
                waiting = _Waiting(verdict, time.monotonic() + self._retry_seconds)
            await self._mark(thing, waiting)
            self._waiting[thing] = waiting
            self.on_trial.discard(thing)
            await hold(waiting.verdict)
            return True

    async def run(self, settler: Settler) -> None:
        """Have waiting Things catch up until the connector is asked to stop."""
        tick = min(_LONGEST_TICK_SECONDS, self._retry_seconds / 4)
        async with asyncio.TaskGroup() as tasks:
            while not await self._stop.wait_asked(tick):
                now = time.monotonic()
                if now >= self._next_look:
                    await self._look()
                for thing, waiting in self._waiting.items():
                    if waiting.until <= now and not waiting.at_work and not self._resting:
                        waiting.at_work = True
                        task = tasks.create_task(self._catch_up(thing, waiting, settler))
                        self._at_work.add(task)
                        task.add_done_callback(self._at_work.discard)

    async def rest(self) -> None:
        """Begin nothing until `go_on`, and wait until nothing of it is under way."""
        self._resting = True
        while self._at_work:
            await asyncio.wait(self._at_work)

    def go_on(self) -> None:
        """Let Things catch up again."""
        self._resting = False

    @property
    def _pausing(self) -> bool:
        return self._resting or self._stop.asked

    async def _look(self) -> bool:
        """Take up the Things that have a marker; whether they could be read."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        before = set(self._waiting)
        try:
            marked = await asyncio.to_thread(self._store.things)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look may pass
            logger.error("the markers of parked Things can't be read", reason=str(error))
            return False
        finished_meanwhile = before - self._waiting.keys()
        for thing, reason in marked.items():
            if thing in finished_meanwhile:
                continue
            verdict = Verdict(Outcome.PARK, reason, "earlier readings of the Thing are parked")
            self._waiting.setdefault(thing, _Waiting(verdict, until=0.0))
        return True

    async def _mark(self, thing: str, waiting: _Waiting) -> None:
        if waiting.marked:
            return
        for delay in backoff():
            self._stop.check()
            if not self._owns():
                raise Stopped
            try:
                await asyncio.to_thread(self._store.mark, thing, waiting.verdict.reason)
            except Exception as error:  # noqa: BLE001 - not marked, so nothing may be parked yet
                logger.error("a parked Thing could not be marked", thing=thing, reason=str(error))
            else:
                waiting.marked = True
                return
            await self._stop.pause(delay)

    async def _catch_up(self, thing: str, waiting: _Waiting, settler: Settler) -> None:
        try:
            async with self._places:
                async with self._locks[thing]:
                    await self._mark(thing, waiting)
                if not await asyncio.to_thread(self._store.ours, thing):
                    await self._look_after(thing, waiting)
                    return
                self._knock(thing)
                waiting.stored = False
                limit = 1  # a Thing that is still refused costs one small read
                while limit and not self._pausing:
                    limit = await self._next_page(thing, waiting, limit, settler)
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - what is parked stays parked, the next try may pass
            logger.error("catching up failed", thing=thing, reason=f"{type(error).__name__}: {error}")
        finally:
            waiting.until = time.monotonic() + self._retry_seconds
            waiting.at_work = False

    async def _look_after(self, thing: str, waiting: _Waiting) -> None:
        """Let go of a Thing that isn't this slot's, unless something is parked."""
        async with self._locks[thing]:
            page = await asyncio.to_thread(self._store.oldest, thing, 1)
            if not page.items:
                await self._finish(thing, waiting)

    async def _next_page(self, thing: str, waiting: _Waiting, limit: int, settler: Settler) -> int:
        """Settle the oldest readings; how many to settle next, 0 when there is no more to do now."""
        async with self._locks[thing]:  # no half of what is being parked is seen
            page = await asyncio.to_thread(self._store.oldest, thing, limit)
            left = page.items
            if not page.more:  # nothing may join what is left
                left = await self._settle(thing, waiting, page.items, settler)
                if not left:
                    await self._finish(thing, waiting)
                    return 0
        if page.more:
            left = await self._settle(thing, waiting, page.items, settler)
        if not left:
            return min(limit * _GROWTH, _PAGE)
        if self._pausing or waiting.verdict.reason not in PERHAPS_A_READING:
            return 0
        if len(left) > 1:
            return len(left) // 2
        return int(await self._suspect(thing, waiting, left[0], settler))

    async def _settle(
        self, thing: str, waiting: _Waiting, items: Sequence[HeldItem], settler: Settler
    ) -> list[HeldItem]:
        """Push readings and delete them; those of the call that was not taken, if one wasn't."""
        readable = await self._readable(items, settler)
        done = 0
        for batch in batches(entry for _, entry in readable):
            part = readable[done : done + len(batch)]
            done += len(batch)
            settled = await self._offer(thing, waiting, part, settler)
            if settled < len(part) or self._pausing:
                return [item for item, _ in part[settled:] or readable[done:]]
        return []

    async def _readable(self, items: Sequence[HeldItem], settler: Settler) -> list[tuple[HeldItem, Entry]]:
        """Readings as they were when they were parked; those that can't be read are rejected."""
        readable: list[tuple[HeldItem, Entry]] = []
        for item in items:
            try:
                readable.append((item, parked_entry(item.reading)))
            except ValueError as error:
                await settler.reject_parked(item.reading, "unreadable_parked", str(error))
                await asyncio.to_thread(self._store.delete, [item])
        return readable

    async def _offer(
        self, thing: str, waiting: _Waiting, readings: Sequence[tuple[HeldItem, Entry]], settler: Settler
    ) -> int:
        """Offer readings in one call and delete those that are settled; how many these are."""
        settled, stored, verdict = await settler.offer_parked(thing, [entry for _, entry in readings])
        if settled:
            await asyncio.to_thread(self._store.delete, [item for item, _ in readings[:settled]])
        waiting.served = waiting.served or settled > 0
        waiting.stored = waiting.stored or stored
        if verdict is not None:
            waiting.verdict = verdict
        return settled

    async def _suspect(self, thing: str, waiting: _Waiting, oldest: HeldItem, settler: Settler) -> bool:
        """Find out whether the oldest reading is refused, or its Thing; whether to go on now."""
        key, refusals = waiting.oldest
        refusals = refusals + 1 if key == oldest.sk else 1
        waiting.oldest = (oldest.sk, refusals)
        if refusals < _MOST_REFUSALS and not waiting.stored:
            return False
        far = waiting.stored or refusals % _FAR_EVERY == _MOST_REFUSALS
        async with self._locks[thing]:
            page = await asyncio.to_thread(self._store.oldest, thing, _FARTHEST if far else 2)
        readings = await self._readable(page.items, settler)
        if not readings or readings[0][0].sk != oldest.sk:
            return True  # an older one was parked meanwhile: it is tried first
        return await self._look_behind(thing, waiting, readings, settler)

    async def _look_behind(
        self, thing: str, waiting: _Waiting, readings: list[tuple[HeldItem, Entry]], settler: Settler
    ) -> bool:
        """Offer readings behind the first one until one is stored: then those refused before it are rejected.

        Those that it passed over are offered afterwards, in their order.

        Returns:
            Whether one was stored.
        """
        refused = [readings[0]]
        waiting.stored = False
        for place in _places(len(readings)):
            if self._pausing:
                return False
            if not await self._offer(thing, waiting, [readings[place]], settler):
                if waiting.verdict.reason not in PERHAPS_A_READING:
                    return False
                refused.append(readings[place])
            elif waiting.stored:
                return await self._convict(thing, waiting, refused, settler)
        return False

    async def _convict(
        self, thing: str, waiting: _Waiting, refused: list[tuple[HeldItem, Entry]], settler: Settler
    ) -> bool:
        """Reject what is refused again now that its Thing is served; whether nothing else is the matter."""
        for reading in refused:
            for _ in range(_MOST_REFUSALS - 1):
                if self._pausing:
                    return False
                if await self._offer(thing, waiting, [reading], settler):
                    break  # the Thing was refused until a moment ago
                if waiting.verdict.reason not in PERHAPS_A_READING:
                    return False
            else:
                await self._reject(waiting, reading[0], settler)
        return True

    async def _reject(self, waiting: _Waiting, item: HeldItem, settler: Settler) -> None:
        reason, detail = waiting.verdict.reason, waiting.verdict.detail
        logger.warning("parked reading rejected", thing=item.reading.thing, reason=reason, detail=detail)
        await settler.reject_parked(item.reading, "crashes" if reason == INTERNAL_ERROR else reason, detail)
        await asyncio.to_thread(self._store.delete, [item])

    async def _finish(self, thing: str, waiting: _Waiting) -> None:
        """Nothing is parked any more, and the lock keeps it so."""
        await asyncio.to_thread(self._store.unmark, thing)
        del self._waiting[thing]
        if not waiting.served:
            self.on_trial.add(thing)
        logger.warning("Thing has caught up", thing=thing)


def _places(readings: int) -> list[int]:
    """Where to look behind the first of so many: at the next three, then ever farther, and at the last."""
    close, far = range(1, 4), (2**power for power in range(2, readings.bit_length()))
    return sorted({place for place in (*close, *far, readings - 1) if 0 < place < readings})
