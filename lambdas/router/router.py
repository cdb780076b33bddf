"""One batch of Kinesis records, from envelopes to parcels on the slot queues.

The order is decode, look up, convert, pack, send, hold. A fault of a record is that record's: it goes
to the held store. A fault of the infrastructure (registry, queues, held store, time running out)
ends the batch at the earliest record that isn't settled; Kinesis gives it and all after it again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.router.envelope import Presence, RejectedRecord, Telemetry, read_record, rejected_record
from lambdas.shared.chunks import chunks
from lambdas.shared.convert import Converted, convert_payload
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.held_store import HeldReading, HeldStoreUnavailable
from lambdas.shared.pack import Routed, pack
from lambdas.shared.parcel import Reading, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from lambdas.router.routes import Destination, Routes
    from lambdas.shared.pack import Chunk
    from lambdas.shared.send import Sent
    from lambdas.shared.shape import Shape

    class ChunkSender(Protocol):
        """What is needed of `lambdas.shared.send.Sender`."""

        def send(
            self, chunks: Sequence[Chunk], queue_urls: Mapping[str, str], may_go_on: Callable[[], bool]
        ) -> Sent:
            """Send chunks, each lane's in order."""

    class Holder(Protocol):
        """What is needed of `lambdas.shared.held_store.HeldStore`."""

        def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
            """Store readings; how many were dropped, by reason."""


__all__ = ["Outcome", "Router"]

#: Nothing is sent any more with less time left (or less than half of a shorter invocation): the last
#: call's own time-outs and the held store need it.
SEND_RESERVE_SECONDS = 15.0
#: As much of that reserve the held store leaves, to report what is unsettled.
_HOLD_RESERVE = 1 / 3
#: Readings held between two looks at the clock.
_HELD_AT_ONCE = 200

_UNKNOWN = "unknown_thing"
_REFUSED = "value_refused"


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        unsettled: position of the earliest record to be given again, None when all are settled.
        counters: of the records before it, unit one reading unless the name says otherwise:
            `readings_in` = `routed` + `held_unrouted` + `held_rejected` + `dropped_unregistered` +
            `dropped_held_full`. Apart from these: `presence_in` (events), `values_refused`,
            `values_null`, `values_unmapped` (values), `parcels` (messages sent, of any record).
        cause: why a record is unsettled; empty when none is.
    """

    unsettled: int | None
    counters: dict[str, int]
    cause: str


class Router:
    """Routes batches.

    Args:
        routes: where Things' readings go.
        sender: sends to the slot queues.
        held: takes what can't go on.
        hold_unregistered: whether readings of unknown Things are held; they are dropped otherwise.
    """

    def __init__(self, routes: Routes, sender: ChunkSender, held: Holder, *, hold_unregistered: bool) -> None:
        self._routes = routes
        self._sender = sender
        self._held = held
        self._hold_unregistered = hold_unregistered

    def route(self, records: Sequence[Mapping[str, Any]], seconds_left: Callable[[], float]) -> Outcome:
        """Settle `records`, or as many from the first on as possible.

        Args:
            records: `Records` of a Lambda Kinesis event, all of one shard.
            seconds_left: how long the invocation may still run.
        """
        batch = _Batch(records)
        try:
            destinations = self._routes.find(batch.things()) if batch.telemetry else {}
        except RegistryUnavailable as error:
            return Outcome(0, {}, str(error))
        batch.convert(destinations, hold_unregistered=self._hold_unregistered)
        packed = pack(batch.routed, batch.shapes)
        for fault in packed.unpackable:
            batch.reject(fault.position, fault.reason, fault.detail)
        reserve = min(SEND_RESERVE_SECONDS, seconds_left() / 2)
        sent = self._sender.send(packed.chunks, batch.queue_urls, lambda: seconds_left() > reserve)
        if sent.queue_missing:
            self._routes.forget()
        end, cause = (len(records), "") if sent.unsent is None else (sent.unsent, sent.cause)
        kept = self._hold(batch, end, lambda: seconds_left() > reserve * _HOLD_RESERVE)
        if kept.cause:
            end, cause = kept.end, kept.cause
        counters = batch.counters(end, kept.dropped) | {"parcels": sent.messages}
        return Outcome(end if cause else None, counters, cause)

    def _hold(self, batch: _Batch, end: int, may_go_on: Callable[[], bool]) -> _Kept:
        """Hold what is to be held of the records before `end`, from the first on."""
        dropped: Counter[str] = Counter()
        positions = sorted(position for position in batch.held if position < end)
        for part in chunks(positions, _HELD_AT_ONCE):
            if not may_go_on():
                return _Kept(part[0], dropped, "the time of the invocation runs out")
            try:
                dropped.update(self._held.hold([batch.held[position] for position in part]))
            except (HeldStoreUnavailable, ClientError, BotoCoreError) as error:
                return _Kept(part[0], dropped, f"held store: {error}")
        return _Kept(end, dropped, "")


class _Kept(NamedTuple):
    """How far holding came: the earliest position not held, what was dropped before it, why it ended."""

    end: int
    dropped: Counter[str]
    cause: str


class _Batch:
    """What is known of each record of a batch, by its position."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.telemetry: dict[int, Telemetry] = {}
        self.routed: list[Routed] = []
        self.held: dict[int, HeldReading] = {}
        self.shapes: dict[str, Shape] = {}
        self.queue_urls: dict[str, str] = {}
        self._kinds: list[str] = []
        self._converted: dict[int, Converted] = {}
        for position, record in enumerate(records):
            self._decode(position, record)

    def things(self) -> set[str]:
        """Names to look up."""
        return {entry.thing for entry in self.telemetry.values()}

    def convert(self, destinations: Mapping[str, Destination], *, hold_unregistered: bool) -> None:
        """Give every telemetry record its way: routed, held or dropped."""
        for position, telemetry in self.telemetry.items():
            destination = destinations.get(telemetry.thing)
            if destination is None:
                self._unregistered(position, telemetry, hold=hold_unregistered)
                continue
            try:
                self._convert(position, telemetry, destination)
            except Exception as error:  # noqa: BLE001 - a fault in one record must not stop its neighbours
                self.reject(position, "internal", f"{type(error).__name__}: {error}")

    def reject(self, position: int, reason: str, detail: str) -> None:
        """Hold a telemetry record as one that can never be delivered."""
        self._kinds[position] = "held_rejected"
        self.held[position] = _held("rejected", self.telemetry[position], reason, detail)

    def counters(self, end: int, dropped: Mapping[str, int]) -> dict[str, int]:
        """Counters of the records before `end`; `dropped` of the held ones were not stored."""
        kinds = Counter(self._kinds[:end])
        full = 0
        for reason, number in dropped.items():
            if reason != _REFUSED:  # the rest of that reading was routed
                kinds["held_unrouted" if reason == _UNKNOWN else "held_rejected"] -= number
                full += number
        converted = [entry for position, entry in self._converted.items() if position < end]
        return {
            "readings_in": end - kinds["presence_in"],
            "presence_in": kinds["presence_in"],
            "routed": kinds["routed"],
            "held_unrouted": kinds["held_unrouted"],
            "held_rejected": kinds["held_rejected"],
            "dropped_unregistered": kinds["dropped_unregistered"],
            "dropped_held_full": full,
            "values_refused": sum(len(entry.refused) for entry in converted),
            "values_null": sum(entry.nulls for entry in converted),
            "values_unmapped": sum(entry.unmapped for entry in converted),
        }

    def _decode(self, position: int, record: Mapping[str, Any]) -> None:
        try:
            decoded = read_record(record)
        except Exception as error:  # noqa: BLE001 - a fault in one record must not stop its neighbours
            decoded = rejected_record(record, "internal", f"{type(error).__name__}: {error}")
        if isinstance(decoded, Telemetry):
            self._kinds.append("routed")  # until something else is found
            self.telemetry[position] = decoded
        elif isinstance(decoded, Presence):
            self._kinds.append("presence_in")
        else:
            self._kinds.append("held_rejected")
            self.held[position] = _held("rejected", decoded, decoded.reason, decoded.detail)

    def _unregistered(self, position: int, telemetry: Telemetry, *, hold: bool) -> None:
        if not hold:
            self._kinds[position] = "dropped_unregistered"
            return
        self._kinds[position] = "held_unrouted"
        detail = "the registry has no Thing of this name"
        self.held[position] = _held("unrouted", telemetry, _UNKNOWN, detail)

    def _convert(self, position: int, telemetry: Telemetry, destination: Destination) -> None:
        converted = convert_payload(telemetry.payload, destination.shape)
        self._converted[position] = converted
        if converted.reason:
            self.reject(position, converted.reason, converted.detail)
            return
        thing = telemetry.thing
        reading = Reading(thing, telemetry.time, telemetry.id, destination.shape_id, converted.values)
        lane = lane_of(thing, destination.lanes)
        self.routed.append(Routed(position, reading, destination.slot, lane))
        self.shapes[destination.shape_id] = destination.shape
        self.queue_urls[destination.slot] = destination.queue_url
        if converted.refused:
            self.held[position] = _held("rejected", telemetry, _REFUSED, "; ".join(converted.refused))


def _held(state: Any, source: Telemetry | RejectedRecord, reason: str, detail: str) -> HeldReading:
    return HeldReading(
        state, source.thing, source.time, source.id, reason, detail, source.topic, source.payload
    )
