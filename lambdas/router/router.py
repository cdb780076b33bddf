"""One batch of Kinesis records, from envelopes to parcels on the slot queues.

The order is decode, look up, convert, note, pack, send, hold. A fault of a record is that record's: it goes
to the held store. A fault of the infrastructure (registry, queues, held store, time running out)
ends the batch at the earliest record that isn't settled; Kinesis gives it and all after it again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.router.batch import Batch
from lambdas.router.presence import Spoken
from lambdas.shared.chunks import chunks
from lambdas.shared.errors import RegistryLost, RegistryUnavailable
from lambdas.shared.held_store import HeldReading, HeldStoreUnavailable
from lambdas.shared.observability import logger
from lambdas.shared.pack import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from lambdas.router.presence import ClientMemory
    from lambdas.router.routes import Routes
    from lambdas.shared.client_state import ClientState
    from lambdas.shared.own_time import OwnTimes
    from lambdas.shared.pack import Chunk
    from lambdas.shared.send import Sent

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


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        unsettled: position of the earliest record to be given again, None when all are settled.
        counters: of the records before it, unit one reading unless the name says otherwise:
            `readings_in` = `routed` + `held_unrouted` + `held_rejected` + `dropped_unregistered` +
            `dropped_held_full`. Lifecycle events: `presence_in` = `presence_routed` +
            `presence_unknown` + `presence_ignored` + `presence_rejected`. Apart from these:
            `times_clamped`, `times_unreadable` (readings), `values_refused`, `values_null`,
            `values_unmapped` (values), `parcels` (messages sent, of any record), `registry_unavailable`
            (batches that couldn't be looked up, of which nothing else is counted).
        cause: why a record is unsettled; empty when none is.
        unknown: names that the registry doesn't know.
        registry_lost: the registry has to be rebuilt: it is incomplete, or names a queue that is gone.
    """

    unsettled: int | None
    counters: dict[str, int]
    cause: str
    unknown: frozenset[str] = frozenset()
    registry_lost: bool = False


class Router:
    """Routes batches.

    Args:
        routes: where Things' readings go.
        sender: sends to the slot queues.
        held: takes what can't go on.
        clients: remembers gateways, and the presence of clients that are no Thing.
        own_times: which payloads tell their time themselves.
        hold_unregistered: whether readings of unknown Things are held; they are dropped otherwise.
    """

    def __init__(
        self,
        routes: Routes,
        sender: ChunkSender,
        held: Holder,
        clients: ClientMemory,
        *,
        own_times: OwnTimes,
        hold_unregistered: bool,
    ) -> None:
        self._routes = routes
        self._sender = sender
        self._held = held
        self._clients = clients
        self._spoken = Spoken()
        self._own_times = own_times
        self._hold_unregistered = hold_unregistered

    def route(self, records: Sequence[Mapping[str, Any]], seconds_left: Callable[[], float]) -> Outcome:
        """Settle `records`, or as many from the first on as possible.

        Args:
            records: `Records` of a Lambda Kinesis event, all of one shard.
            seconds_left: how long the invocation may still run.
        """
        batch = Batch(records, self._own_times)
        names = batch.things()
        try:
            known = self._clients.read(batch.clients()) if batch.presence else {}
            speaking = {name for client, about in known.items() for name in (client, *about.things)}
            destinations = self._routes.find(names | speaking) if names or speaking else {}
        except RegistryUnavailable as error:
            counters = {"registry_unavailable": 1}
            return Outcome(0, counters, str(error), registry_lost=isinstance(error, RegistryLost))
        batch.convert(destinations, hold_unregistered=self._hold_unregistered)
        states = batch.route_presence(known, destinations)
        self._note(batch, states)
        packed = pack(batch.ordered(), batch.shapes)
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
        unknown = frozenset(names - destinations.keys())
        return Outcome(end if cause else None, counters, cause, unknown, sent.queue_missing)

    def _note(self, batch: Batch, states: Mapping[str, ClientState]) -> None:
        """Remember who spoke for whom, and the presence of clients that are no Thing.

        Telemetry doesn't wait for it: what isn't noted now is noted with the next batch, or event.
        """
        spoke = self._spoken.unnoted(batch.spoke) if batch.spoke else {}
        if not spoke and not states:
            return
        try:
            self._clients.write(spoke, states)
        except RegistryUnavailable as error:
            logger.warning("clients are not noted", extra={"cause": str(error)})
        else:
            self._spoken.note(batch.spoke)

    def _hold(self, batch: Batch, end: int, may_go_on: Callable[[], bool]) -> _Kept:
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
