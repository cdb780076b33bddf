"""Things whose readings wait in the held store, and how they catch up.

    live --park--> waiting --accepted again--> catching up --nothing left--> live
                      ^                            |
                      +---------- refused ---------+

While a Thing waits, its later readings follow the parked ones, so that none overtakes another. Every
`thing_retry_seconds` its oldest parked reading is tried; when the platform takes it, all of them are
pushed, oldest first, each deleted only after the answer; only then are readings delivered directly again.

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
from typing import TYPE_CHECKING, Protocol

from lambdas.connector.entries import batches, parked_entry
from lambdas.connector.gate import backoff
from lambdas.connector.outcome import INTERNAL_ERROR, Outcome, Verdict
from lambdas.connector.stop import Stopped
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lambdas.connector.entries import Entry
    from lambdas.connector.stop import Stop
    from lambdas.shared.held_items import HeldItem, Page
    from lambdas.shared.held_store import HeldReading

__all__ = ["Backlog", "Settler", "Store"]

#: Parked readings read at once; DynamoDB gives 1 MB at most.
_PAGE = 500
#: Things that catch up at the same time: bounds memory, and leaves most of the window to live readings.
_AT_ONCE = 8
#: How often the markers are read again: for those of a predecessor that was slow to die.
_LOOK_SECONDS = 30.0
_LONGEST_TICK_SECONDS = 1.0
#: How often the oldest reading may fail for no known reason.
_MOST_FAILURES = 3


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


class Settler(Protocol):
    """Settles parked readings."""

    async def offer_parked(self, thing: str, batch: list[Entry]) -> tuple[int, Verdict | None]:
        """Try once to have readings delivered or rejected, from the first on.

        Returns:
            How many are settled, and why the next one can't be now (None: all are settled).
        """

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
        oldest: key of the reading that was tried last, and how often in a row it failed for no known reason.
    """

    __slots__ = ("at_work", "marked", "oldest", "served", "until", "verdict")

    def __init__(self, verdict: Verdict, until: float) -> None:
        self.verdict = verdict
        self.until = until
        self.marked = self.at_work = self.served = False
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
                limit = 1  # a Thing that is still refused costs one small read
                while not self._pausing and await self._next_page(thing, waiting, limit, settler):
                    limit = _PAGE
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

    async def _next_page(self, thing: str, waiting: _Waiting, limit: int, settler: Settler) -> bool:
        """Settle the oldest readings; whether there may be more to do now."""
        async with self._locks[thing]:  # no half of what is being parked is seen
            page = await asyncio.to_thread(self._store.oldest, thing, limit)
            if not page.more:  # nothing may join what is left
                if await self._settle(thing, waiting, page.items, settler):
                    await self._finish(thing, waiting)
                return False
        return await self._settle(thing, waiting, page.items, settler)

    async def _settle(
        self, thing: str, waiting: _Waiting, items: Sequence[HeldItem], settler: Settler
    ) -> bool:
        """Push readings and delete them; whether all are gone."""
        readable: list[tuple[HeldItem, Entry]] = []
        for item in items:
            try:
                readable.append((item, parked_entry(item.reading)))
            except ValueError as error:
                await settler.reject_parked(item.reading, "unreadable_parked", str(error))
                await asyncio.to_thread(self._store.delete, [item])
        done = 0
        for batch in batches(entry for _, entry in readable):
            settled, verdict = await settler.offer_parked(thing, batch)
            gone = [item for item, _ in readable[done : done + settled]]
            await asyncio.to_thread(self._store.delete, gone)
            done += settled
            waiting.served = waiting.served or settled > 0
            if verdict is not None:
                waiting.verdict = verdict
                await self._suspect(waiting, readable[done][0], settler)
                return False
            if self._pausing:
                return False
        return True

    async def _suspect(self, waiting: _Waiting, item: HeldItem, settler: Settler) -> None:
        """Set a reading aside that keeps failing for no known reason: it would be in the way for ever."""
        if waiting.verdict.reason != INTERNAL_ERROR:
            return
        key, failures = waiting.oldest
        waiting.oldest = (item.sk, failures + 1 if key == item.sk else 1)
        if waiting.oldest[1] < _MOST_FAILURES:
            return
        await settler.reject_parked(item.reading, "crashes", waiting.verdict.detail)
        await asyncio.to_thread(self._store.delete, [item])

    async def _finish(self, thing: str, waiting: _Waiting) -> None:
        """Nothing is parked any more, and the lock keeps it so."""
        await asyncio.to_thread(self._store.unmark, thing)
        del self._waiting[thing]
        if not waiting.served:
            self.on_trial.add(thing)
        logger.warning("Thing has caught up", thing=thing)
