"""Readings to the platform: grouped by Thing, tried again, parked or rejected, always counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from lambdas.connector.backlog import Offered
from lambdas.connector.entries import Entry, batches, entries_of, held
from lambdas.connector.gate import Gate, backoff
from lambdas.connector.isolation import Isolation
from lambdas.connector.outcome import INTERNAL_ERROR, Outcome, Verdict, outcome_of
from lambdas.connector.push_times import PushTimes
from lambdas.connector.recent import RecentIds
from lambdas.connector.stop import Stopped, StopReason
from lambdas.shared.errors import MalformedParcel
from lambdas.shared.held_store import HeldReading
from lambdas.shared.observability import logger
from lambdas.shared.parcel import decode
from lambdas.thingworx.transport import PushResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from contextlib import AbstractContextManager

    from lambdas.connector.backlog import Backlog
    from lambdas.connector.isolation import Notes
    from lambdas.connector.present_things import PresentThings
    from lambdas.connector.slot_queue import Message
    from lambdas.connector.stop import Stop
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.parcel import PresenceChange
    from lambdas.thingworx.transport import Pushes

    Push = Callable[[str, list[Entry]], Awaitable["Verdict | PushResult"]]

__all__ = ["Delivery"]

#: Writes to the held store under way at once; each has several requests of its own.
_HOLDS = 4


class Delivery:
    """Settles readings: each ends delivered, recognised as a repeat, or in the held store.

    Args:
        transport: way to the platform.
        held: store for what can't go on.
        stop: gives up waiting work.
        owns: whether this connector still owns its slot; asked before each push.
        concurrency: Things pushed at once.
        backlog: Things whose readings are parked.
        presence: takes presence events; None: they are counted, and that is all.
        times: gives the rows their times.
        notes: what is known of parcels that may have ended a connector; None: all are trusted.
        thing_retry_seconds: how long one Thing's failing call is tried before it is parked.
        counters: what happened, by name (docs/reference/data-formats.md).
    """

    def __init__(
        self,
        transport: Pushes,
        held: HeldStore,
        *,
        stop: Stop,
        owns: Callable[[], bool],
        backlog: Backlog,
        concurrency: int,
        thing_retry_seconds: float,
        counters: Counter[str],
        presence: PresentThings | None = None,
        times: PushTimes | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._transport = transport
        self._held = held
        self._stop = stop
        self.owns = owns
        self._window = asyncio.Semaphore(concurrency)
        self._holds = asyncio.Semaphore(_HOLDS)
        self._retry_seconds = thing_retry_seconds
        self._counters = counters
        self._recent = RecentIds()
        self._backlog = backlog
        self._presence = presence
        self._times = times or PushTimes()
        self._isolation = None if notes is None else Isolation(notes, self)
        self.gate = Gate(stop)

    async def settle(self, messages: Sequence[Message]) -> None:
        """Settle all readings of one lane's messages, given in queue order.

        Raises:
            Stopped: the connector gives up; what is not settled must stay in the queue.
        """
        if self._isolation is None:
            await self.settle_parcels(messages)
        else:
            await self._isolation.settle(messages)

    async def settle_parcels(self, messages: Sequence[Message]) -> None:
        """See `Settles.settle_parcels`."""
        if self._presence is not None:
            await self._presence.ready()
        by_thing: dict[str, list[Entry]] = {}
        changes: list[PresenceChange] = []
        for message in messages:
            try:
                parcel = decode(message.body)
            except MalformedParcel as error:
                await self._set_aside(message, error)
                continue
            changes += parcel.presence
            for entry in entries_of(parcel):
                by_thing.setdefault(entry.reading.thing, []).append(entry)
        settled = await asyncio.gather(
            self.take_presence(changes),
            *(self._settle_thing(thing, entries) for thing, entries in by_thing.items()),
            return_exceptions=True,
        )
        # Only after all have ended: messages given back while one of their pushes is under way could be
        # delivered before it.
        for result in settled:
            if isinstance(result, BaseException):
                raise result

    async def settle_alone(self, entry: Entry) -> None:
        """See `Settles.settle_alone`."""
        await self._settle_thing(entry.reading.thing, [entry])

    async def reject(self, entry: Entry, verdict: Verdict) -> None:
        """See `Settles.reject`."""
        await self._hold_all([entry], "rejected", verdict)

    def count_repeat(self, entry: Entry) -> None:
        """See `Settles.count_repeat`."""
        self._count("held_rejected" if entry.replayed else "duplicate", 1, replayed=entry.replayed)

    async def take_presence(self, changes: Sequence[PresenceChange]) -> None:
        """Take presence events: they are settled once they are stored, or a crash would forget them."""
        if self._presence is None:
            self._counters["presence_ignored"] += len(changes)
            return
        if not changes:
            return
        self._presence.take(changes)
        for delay in backoff():
            self._check_owner()
            try:
                await self._presence.saved()
            except Exception as error:  # noqa: BLE001 - any failure means: not stored, try again
                logger.error("presence not stored", reason=str(error))
            else:
                return
            await self._stop.pause(delay)

    async def catch_up(self) -> None:
        """Have parked Things catch up until the connector is asked to stop."""
        await self._backlog.run(self)

    async def rest(self) -> None:
        """Let nothing catch up until `go_on`, and wait until none of it is under way."""
        await self._backlog.rest()

    def go_on(self) -> None:
        """Let Things catch up again."""
        self._backlog.go_on()

    async def _settle_thing(self, thing: str, entries: list[Entry]) -> None:
        fresh: dict[str, Entry] = {}
        replayed = []
        for entry in entries:
            if entry.replayed:  # somebody wants it sent again
                replayed.append(entry)
            elif entry.reading.id not in self._recent:
                fresh.setdefault(entry.reading.id, entry)
        self._count("duplicate", len(entries) - len(replayed) - len(fresh))
        in_time_order = sorted((*replayed, *fresh.values()), key=lambda entry: entry.reading.time)
        for batch in batches(in_time_order):
            await self._settle_batch(thing, batch)

    async def _settle_batch(self, thing: str, batch: list[Entry]) -> None:
        if thing in self._backlog:
            # While nobody is served the queue is the better place to wait, and has more room.
            await self.gate.passed()
            if await self._backlog.park(
                thing, None, lambda verdict: self._hold_all(batch, "parked", verdict)
            ):
                return
        batch = self._timed(thing, batch)
        settled, verdict = await self._offer(thing, batch, self._push)
        if verdict is not None:
            rest = batch[settled:]
            await self._backlog.park(thing, verdict, lambda verdict: self._hold_all(rest, "parked", verdict))

    async def offer_parked(self, thing: str, batch: list[Entry]) -> Offered:
        """See `Settler.offer_parked`."""
        stored = 0

        async def probe(thing: str, part: list[Entry]) -> Verdict | PushResult:
            nonlocal stored
            answer = await self._probe(thing, part)
            if isinstance(answer, PushResult):
                stored += _stored(part, answer)
            return answer

        settled, verdict = await self._offer(thing, self._timed(thing, batch), probe)
        return Offered(settled, stored > 0, verdict)

    async def reject_parked(self, parked: HeldReading, reason: str, detail: str) -> None:
        """See `Settler.reject_parked`."""
        reading = parked._replace(state="rejected", reason=reason, detail=detail)
        await self._hold([reading], replayed=True)

    def _timed(self, thing: str, batch: list[Entry]) -> list[Entry]:
        """The readings with the times that they are pushed with."""
        timed = []
        for entry in batch:
            rows, shifted, late = self._times.arrange(thing, entry.reading.id, entry.rows)
            if shifted:
                self._counters["times_shifted"] += shifted
            timed.append(entry._replace(rows=rows, late=late))
        return timed

    async def _offer(self, thing: str, batch: list[Entry], push: Push) -> tuple[int, Verdict | None]:
        """Have readings delivered, or rejected one by one, up to the first that the Thing can't take now.

        Returns:
            How many of them are settled, and why not more.
        """
        answer = await push(thing, batch)
        if isinstance(answer, PushResult):
            await self._delivered(batch, answer)
        elif answer.outcome is not Outcome.REJECT:
            return 0, answer
        elif len(batch) == 1:
            await self._hold_all(batch, "rejected", answer)
        else:
            # The platform refuses a call as a whole: halve it until the refused readings stand alone.
            middle = len(batch) // 2
            settled, verdict = await self._offer(thing, batch[:middle], push)
            if verdict is not None:
                return settled, verdict
            settled, verdict = await self._offer(thing, batch[middle:], push)
            return middle + settled, verdict
        return len(batch), None

    async def _delivered(self, batch: list[Entry], result: PushResult) -> None:
        """The platform took the rows, but for those that `result` names: their values are rejected."""
        refused = {id(entry.row): entry for entry in result.refused}
        bad: dict[bool, list[HeldReading]] = {True: [], False: []}
        late: Counter[bool] = Counter()
        for entry in batch:
            taken_rows = [row for row in entry.rows if id(row) not in refused]
            self._times.delivered(entry.reading.thing, taken_rows, entry.reading.time)
            named = zip(entry.reading.values.items(), entry.rows, strict=True)
            values = {name: value for (name, value), row in named if id(row) in refused}
            if values:
                why = next(refused[id(row)] for row in entry.rows if id(row) in refused)
                verdict = Verdict(Outcome.REJECT, why.reason, why.detail)
                bad[entry.replayed].append(held(entry, "rejected", verdict, values))
            elif entry.late:
                late[entry.replayed] += 1
        for replayed, readings in bad.items():
            await self._hold(readings, replayed=replayed)
            taken = sum(entry.replayed is replayed for entry in batch)
            self._count("late", late[replayed], replayed=replayed)
            self._count("delivered", taken - len(readings) - late[replayed], replayed=replayed)
        for entry in batch:
            self._recent.add(entry.reading.id)
            self._times.settled(entry.reading.id)
        self._counters["values_suppressed"] += result.suppressed
        self._counters["values_delivered"] += _stored(batch, result)

    async def _push(self, thing: str, batch: list[Entry]) -> Verdict | PushResult:
        """Push until it is decided."""
        # Its lane has waited long enough for a Thing that may not have been served since it was parked.
        patience = 0.0 if thing in self._backlog.on_trial else self._retry_seconds
        own_trouble_since: float | None = None
        for delay in backoff():
            began = time.monotonic()
            answer = await self._push_once(thing, batch)
            if isinstance(answer, PushResult):
                self._backlog.on_trial.discard(thing)
                return answer
            if answer.outcome is Outcome.WAIT:
                self.gate.failed(answer.detail, thing)
            if answer.outcome is Outcome.WAIT and not self._is_own(thing, answer, began):
                own_trouble_since = None
                continue
            own_trouble_since = own_trouble_since or began
            final = answer.outcome in (Outcome.PARK, Outcome.REJECT)
            if final or time.monotonic() - own_trouble_since >= patience:
                logger.warning("readings set aside", thing=thing, reason=answer.reason, detail=answer.detail)
                return answer
            await self._stop.pause(delay)
        raise AssertionError  # pragma: no cover - backoff never ends

    def _is_own(self, thing: str, verdict: Verdict, began: float) -> bool:
        """Whether a failure for which the platform is waited for is the Thing's own trouble."""
        if self.gate.served_since(began):
            return True
        # Its only Thing must not hold a slot for ever; an answer that is broken for all must not park them.
        return verdict.reason == INTERNAL_ERROR and not self.gate.failed_for_others(thing, began)

    async def _push_once(self, thing: str, batch: list[Entry]) -> Verdict | PushResult:
        try:
            return await self._call(thing, batch)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - outcome_of says what to do with each
            verdict = outcome_of(error)
        self._counters["push_failed"] += 1
        return verdict

    async def _probe(self, thing: str, batch: list[Entry]) -> Verdict | PushResult:
        """Push a Thing that was parked, once."""
        began = time.monotonic()
        answer = await self._push_once(thing, batch)
        # Many Things may be parked: as long as others are served, their trouble stops nobody.
        if (
            isinstance(answer, Verdict)
            and answer.outcome is Outcome.WAIT
            and not self._is_own(thing, answer, began)
        ):
            self.gate.failed(answer.detail, thing)
        return answer

    async def _call(self, thing: str, batch: list[Entry]) -> PushResult:
        rows = [row for entry in batch for row in entry.rows]
        while rows:
            await self.gate.passed()
            self._check_owner()
            with self._delivering(thing, batch):
                # Before it takes a place: Things that are slow to be bound must not stop all others.
                await self._transport.ready(thing)
                async with self._window:
                    if self.gate.closed:  # closed while this one waited for its turn
                        continue
                    self._check_owner()
                    result = await _uninterrupted(self._transport.push(thing, rows))
            self.gate.succeeded()
            return result
        return PushResult()

    def _delivering(self, thing: str, batch: list[Entry]) -> AbstractContextManager[None]:
        if self._presence is None:
            return nullcontext()
        # A device's own clock says nothing about whether it spoke before or after its disconnect.
        return self._presence.delivering(thing, max(entry.broker_time for entry in batch))

    def _check_owner(self) -> None:
        self._stop.check()
        if not self.owns():
            self._stop.ask(StopReason.LEASE_LOST)
            self._stop.check()

    async def _set_aside(self, message: Message, error: MalformedParcel) -> None:
        logger.error("parcel can't be read", message_id=message.id, reason=str(error))
        await self._hold(
            [
                HeldReading(
                    thing="",
                    state="rejected",
                    time=message.sent,
                    id=message.id,
                    reason="undecodable_parcel",
                    detail=str(error),
                    topic="",
                    payload=message.body.encode(),
                )
            ]
        )

    async def _hold_all(
        self, entries: list[Entry], state: Literal["rejected", "parked"], why: Verdict
    ) -> None:
        for replayed in (True, False):
            await self._hold(
                [held(entry, state, why) for entry in entries if entry.replayed is replayed],
                replayed=replayed,
            )

    async def _hold(self, readings: list[HeldReading], *, replayed: bool = False) -> None:
        """Write to the held store; what can't be written is not settled, so this tries on."""
        if not readings:
            return
        for delay in backoff():
            async with self._holds:
                self._check_owner()
                try:
                    dropped = await asyncio.to_thread(self._held.hold, readings)
                except Exception as error:  # noqa: BLE001 - any failure means: not held, try again
                    logger.error("held store failed", reason=str(error))
                else:
                    lost = sum(dropped.values())
                    self._count("dropped_held_full", lost, replayed=replayed)
                    self._count(f"held_{readings[0].state}", len(readings) - lost, replayed=replayed)
                    for reason, number in dropped.items():
                        self._counters[f"dropped_held_full:{reason}"] += number
                    return
            await self._stop.pause(delay)

    def _count(self, outcome: str, readings: int, *, replayed: bool = False) -> None:
        kind = "replayed_" if replayed else ""
        self._counters[kind + outcome] += readings
        self._counters[kind + "taken"] += readings


def _stored(batch: list[Entry], result: PushResult) -> int:
    """How many values of a call the platform has stored."""
    return sum(len(entry.rows) for entry in batch) - result.suppressed - len(result.refused)


async def _uninterrupted(call: Coroutine[Any, Any, PushResult]) -> PushResult:
    """Await `call` to its end even when cancelled: it can't be called back, and the next comes after it."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
