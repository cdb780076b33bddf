"""Readings to the platform: grouped by Thing, tried again, parked or rejected, always counted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from lambdas.connector.gate import Gate, backoff
from lambdas.connector.outcome import Outcome, Verdict, outcome_of
from lambdas.connector.recent import RecentIds
from lambdas.connector.stop import Stopped, StopReason
from lambdas.shared.errors import MalformedParcel
from lambdas.shared.held_store import HeldReading
from lambdas.shared.observability import logger
from lambdas.shared.parcel import Parcel, Reading, decode
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.transport import PushResult

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine, Sequence

    from lambdas.connector.slot_queue import Message
    from lambdas.connector.stop import Stop
    from lambdas.shared.held_store import HeldStore
    from lambdas.thingworx.transport import Transport

__all__ = ["Delivery"]

#: Rows of one call: bounds a request's size and the time one Thing takes.
_ROWS_PER_CALL = 1000
#: Writes to the held store under way at once; each has several requests of its own.
_HOLDS = 4

_HeldState = Literal["rejected", "parked"]


class _Entry(NamedTuple):
    reading: Reading
    rows: list[ValueRow]


class Delivery:
    """Settles readings: each ends delivered, recognised as a repeat, or in the held store.

    Args:
        transport: way to the platform.
        held: store for what can't go on.
        stop: gives up waiting work.
        owns: whether this connector still owns its slot; asked before each push.
        concurrency: Things pushed at once.
        thing_retry_seconds: how long one Thing's failing call is tried before it is parked, and how
            long a parked Thing's later readings follow it before it is tried again.
        counters: what happened, by name.
    """

    def __init__(
        self,
        transport: Transport,
        held: HeldStore,
        *,
        stop: Stop,
        owns: Callable[[], bool],
        concurrency: int,
        thing_retry_seconds: float,
        counters: Counter[str],
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
        self._parked: dict[str, tuple[float, Verdict]] = {}
        self.gate = Gate(stop)

    async def settle(self, messages: Sequence[Message]) -> None:
        """Settle all readings of one lane's messages, given in queue order.

        Raises:
            Stopped: the connector gives up; what is not settled must stay in the queue.
        """
        by_thing: dict[str, list[_Entry]] = {}
        for message in messages:
            try:
                parcel = decode(message.body)
            except MalformedParcel as error:
                await self._set_aside(message, error)
                continue
            for entry in _entries(parcel):
                by_thing.setdefault(entry.reading.thing, []).append(entry)
        settled = await asyncio.gather(
            *(self._settle_thing(thing, entries) for thing, entries in by_thing.items()),
            return_exceptions=True,
        )
        # Only after all have ended: messages given back while one of their pushes is under way could be
        # delivered before it.
        for result in settled:
            if isinstance(result, BaseException):
                raise result

    async def _settle_thing(self, thing: str, entries: list[_Entry]) -> None:
        fresh: dict[str, _Entry] = {}
        for entry in entries:
            if entry.reading.id not in self._recent:
                fresh.setdefault(entry.reading.id, entry)
        self._count("duplicate", len(entries) - len(fresh))
        in_time_order = sorted(fresh.values(), key=lambda entry: entry.reading.time)
        for batch in _batches(in_time_order):
            await self._settle_batch(thing, batch)

    async def _settle_batch(self, thing: str, batch: list[_Entry]) -> None:
        rows = [row for entry in batch for row in entry.rows]
        verdict = self._still_parked(thing) or await self._push(thing, rows)
        if isinstance(verdict, PushResult):
            self._parked.pop(thing, None)
            await self._delivered(batch, verdict)
        elif verdict.outcome is not Outcome.REJECT:
            if self._still_parked(thing) is None:
                self._parked[thing] = (time.monotonic() + self._retry_seconds, verdict)
            await self._hold([_held(entry.reading, "parked", verdict) for entry in batch])
        elif len(batch) > 1:
            # The platform refuses a call as a whole: halve it until the refused readings stand alone.
            middle = len(batch) // 2
            await self._settle_batch(thing, batch[:middle])
            await self._settle_batch(thing, batch[middle:])
        else:
            await self._hold([_held(batch[0].reading, "rejected", verdict)])

    async def _delivered(self, batch: list[_Entry], result: PushResult) -> None:
        """The platform took the rows, but for those that `result` names: their values are rejected."""
        refused = {id(entry.row): entry for entry in result.refused}
        held = []
        for reading, rows in batch:
            named = zip(reading.values.items(), rows, strict=True)
            bad = {name: value for (name, value), row in named if id(row) in refused}
            if bad:
                why = next(refused[id(row)] for row in rows if id(row) in refused)
                verdict = Verdict(Outcome.REJECT, why.reason, why.detail)
                held.append(_held(reading._replace(values=bad), "rejected", verdict))
        if held:
            await self._hold(held)
        self._count("delivered", len(batch) - len(held))
        self._counters["values_suppressed"] += result.suppressed
        rows_given = sum(len(entry.rows) for entry in batch)
        self._counters["values_delivered"] += rows_given - result.suppressed - len(result.refused)
        for entry in batch:
            self._recent.add(entry.reading.id)

    def _still_parked(self, thing: str) -> Verdict | None:
        until, verdict = self._parked.get(thing, (0.0, None))
        return verdict if time.monotonic() < until else None

    async def _push(self, thing: str, rows: list[ValueRow]) -> Verdict | PushResult:
        """Push until it is decided."""
        # A Thing that was parked gets one try: its lane has waited for it long enough.
        patience = 0.0 if thing in self._parked else self._retry_seconds
        own_trouble_since: float | None = None
        last_failure: float | None = None
        for delay in backoff():
            try:
                return await self._call(thing, rows)
            except Stopped:
                raise
            except Exception as error:  # noqa: BLE001 - outcome_of says what to do with each
                verdict = outcome_of(error)
            self._counters["push_failed"] += 1
            now = time.monotonic()
            if verdict.outcome is Outcome.WAIT:
                self.gate.failed(verdict.detail)
                own_trouble = last_failure is not None and self.gate.served_since(last_failure)
            else:
                own_trouble = True
            last_failure = now
            if not own_trouble:
                own_trouble_since = None
                continue
            own_trouble_since = own_trouble_since or now
            final = verdict.outcome in (Outcome.PARK, Outcome.REJECT)
            if final or now - own_trouble_since >= patience:
                logger.warning(
                    "readings set aside", thing=thing, reason=verdict.reason, detail=verdict.detail
                )
                return verdict
            await self._stop.pause(delay)
        raise AssertionError  # pragma: no cover - backoff never ends

    async def _call(self, thing: str, rows: list[ValueRow]) -> PushResult:
        while rows:
            await self.gate.passed()
            async with self._window:
                if self.gate.closed:  # closed while this one waited for its turn
                    continue
                self._check_owner()
                result = await _uninterrupted(self._transport.push(thing, rows))
                self.gate.succeeded()
                return result
        return PushResult()

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
                    thing="-",
                    state="rejected",
                    time=int(time.time() * 1000),
                    id=message.id,
                    reason="undecodable_parcel",
                    detail=str(error),
                    topic="",
                    payload=message.body.encode(),
                )
            ]
        )

    async def _hold(self, readings: list[HeldReading]) -> None:
        """Write to the held store; what can't be written is not settled, so this tries on."""
        for delay in backoff():
            async with self._holds:
                self._check_owner()
                try:
                    dropped = await asyncio.to_thread(self._held.hold, readings)
                except Exception as error:  # noqa: BLE001 - any failure means: not held, try again
                    logger.error("held store failed", reason=str(error))
                else:
                    lost = sum(dropped.values())
                    self._count("dropped_held_full", lost)
                    self._count(f"held_{readings[0].state}", len(readings) - lost)
                    return
            await self._stop.pause(delay)

    def _count(self, outcome: str, readings: int) -> None:
        self._counters[outcome] += readings
        self._counters["taken"] += readings


def _entries(parcel: Parcel) -> list[_Entry]:
    return [
        _Entry(
            reading,
            [
                ValueRow(shape[name].edge, shape[name].base_type, value, reading.time)
                for name, value in reading.values.items()
            ],
        )
        for reading in parcel.readings
        for shape in (parcel.shapes[reading.shape],)
    ]


async def _uninterrupted(call: Coroutine[Any, Any, PushResult]) -> PushResult:
    """Await `call` to its end even when cancelled: it can't be called back, and the next comes after it."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _batches(entries: list[_Entry]) -> list[list[_Entry]]:
    """Entries in order, at most `_ROWS_PER_CALL` rows together unless one reading alone has more."""
    batches: list[list[_Entry]] = []
    rows = 0
    for entry in entries:
        rows += len(entry.rows)
        if not batches or rows > _ROWS_PER_CALL:
            batches.append([])
            rows = len(entry.rows)
        batches[-1].append(entry)
    return batches


def _held(reading: Reading, state: _HeldState, verdict: Verdict) -> HeldReading:
    return HeldReading(
        thing=reading.thing,
        state=state,
        time=reading.time,
        id=reading.id,
        reason=verdict.reason,
        detail=verdict.detail,
        topic="",
        values=orjson.dumps(dict(reading.values)).decode(),
    )
