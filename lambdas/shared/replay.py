"""Held readings on their way again: through today's shapes, with the times they had.

Each reading is deleted from the held table only after SQS took it, so what is cut off anywhere is at
worst sent twice. A reading that can't be converted as it is stays, or becomes, `rejected`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.convert import convert_payload
from lambdas.shared.held_store import DETAIL_CHARACTERS, HeldReading
from lambdas.shared.pack import Routed, pack
from lambdas.shared.parcel import Reading, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lambdas.shared.destination import Destination
    from lambdas.shared.held_items import HeldItem, HeldItems
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.send import Sender

__all__ = ["Replayed", "Replayer"]

_REFUSED = "value_refused"


class Replayed(NamedTuple):
    """What became of held readings of one Thing.

    Attributes:
        counters: `sent`; `rejected`, moved there; `still_rejected`, left there; `unsent`, left where they
            were. Their sum is the number of readings given, without those that had come back.
        cause: why some couldn't be sent; empty when the unsent only found no room as rejected.
    """

    counters: Counter[str]
    cause: str


class _Plan:
    """What is to be done with each reading of a page."""

    def __init__(self) -> None:
        self.routed: list[Routed] = []
        self.refused: dict[int, HeldReading] = {}
        self.still: set[int] = set()


class Replayer:
    """Sends held readings to the slot queues.

    Args:
        items: reads and deletes what is held.
        held: takes what turns out to be rejected.
        sender: sends to the slot queues.
        name: of this replay; it makes its parcels others than those of any other replay.
    """

    def __init__(self, items: HeldItems, held: HeldStore, sender: Sender, name: str) -> None:
        self._items = items
        self._held = held
        self._sender = sender
        self._name = name

    def send(
        self, given: Sequence[HeldItem], destination: Destination, may_go_on: Callable[[], bool]
    ) -> Replayed:
        """Send readings of one Thing, but for those that came back from this very replay.

        Args:
            given: in time order, all of one state.
            destination: where the Thing's readings go today.
            may_go_on: false once no further call may begin.

        Raises:
            HeldStoreUnavailable: DynamoDB left something undone; all that was given may be sent again.
            botocore.exceptions.ClientError: as above.
        """
        # Sent once more under the same name, they would be held under the same key, and then deleted.
        given = [item for item in given if item.reading.replay != self._name]
        plan = _Plan()
        for position, item in enumerate(given):
            _plan(plan, position, item, destination)
        packed = pack(plan.routed, {destination.shape_id: destination.shape}, self._name)
        for fault in packed.unpackable:
            _refuse(plan, fault.position, given[fault.position], fault.reason, fault.detail)
        sent = self._sender.send(packed.chunks, {destination.slot: destination.queue_url}, may_go_on)
        end = len(given) if sent.unsent is None else sent.unsent
        unpackable = {fault.position for fault in packed.unpackable}
        refused = {at: reading for at, reading in plan.refused.items() if at < end}
        moved = self._moved(refused)
        # One that is refused in part and finds no room stays whole: a repeat is better than a lost value.
        homeless = unpackable | (refused.keys() - moved)
        done = {entry.position for entry in plan.routed if entry.position < end} - homeless
        # Held again for the reason it had, it has the key it had.
        stay = {at for at in moved if _is_held_for(given[at], refused[at].reason)}
        self._items.delete([given[at] for at in sorted((done | moved) - stay)])
        counters = Counter(
            sent=len(done),
            rejected=len(moved - done),
            still_rejected=sum(at < end for at in plan.still),
        )
        counters["unsent"] = len(given) - counters.total()
        return Replayed(+counters, sent.cause)

    def _moved(self, refused: dict[int, HeldReading]) -> set[int]:
        """Positions of those that are held as rejected now; there was no room for the others."""
        kept = self._held.hold_each(list(refused.values()))
        return {position for position, held in zip(refused, kept, strict=True) if held}


def _plan(plan: _Plan, position: int, item: HeldItem, destination: Destination) -> None:
    held = item.reading
    payload = held.payload if held.payload is not None else (held.values or "").encode()
    converted = convert_payload(payload, destination.shape)
    if converted.reason:
        _refuse(plan, position, item, converted.reason, converted.detail)
        return
    if converted.refused:
        detail = "; ".join(converted.refused)
        if _is_held_for(item, _REFUSED) and _is_told(held, detail):
            plan.still.add(position)
            return  # the values that are none the worse for it went on when this one was held
        plan.refused[position] = _rejected(held, _REFUSED, detail)
    reading = Reading(held.thing, held.time, held.id, destination.shape_id, converted.values)
    plan.routed.append(Routed(position, reading, destination.slot, lane_of(held.thing, destination.lanes)))


def _refuse(plan: _Plan, position: int, item: HeldItem, reason: str, detail: str) -> None:
    """Have a reading held as rejected as a whole, unless it is that already, for this very reason."""
    if _is_held_for(item, reason):
        plan.refused.pop(position, None)
        plan.still.add(position)
    else:
        plan.refused[position] = _rejected(item.reading, reason, detail)


def _rejected(held: HeldReading, reason: str, detail: str) -> HeldReading:
    return held._replace(state="rejected", reason=reason, detail=detail)


def _is_held_for(item: HeldItem, reason: str) -> bool:
    """Whether a reading is rejected already, for this reason."""
    return (item.reading.state, item.reading.reason) == ("rejected", reason)


def _is_told(held: HeldReading, detail: str) -> bool:
    """Whether a held reading says this and no more; one that may have been cut doesn't tell."""
    return len(detail) < DETAIL_CHARACTERS and held.detail == detail
