"""What is known of each record of a batch of Kinesis records, from its envelope to where it goes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lambdas.router.envelope import (
    BAD_PRESENCE,
    NO_CLIENT,
    OtherEvent,
    Presence,
    RejectedRecord,
    Telemetry,
    read_record,
    rejected_record,
)
from lambdas.router.presence import route_presence
from lambdas.shared.convert import Converted, convert_payload, time_in
from lambdas.shared.held_store import HeldReading, HeldState
from lambdas.shared.pack import Routed
from lambdas.shared.parcel import Reading, lane_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lambdas.router.routes import Destination
    from lambdas.shared.client_state import ClientState, KnownClient
    from lambdas.shared.own_time import OwnTime, OwnTimes
    from lambdas.shared.shape import Shape

__all__ = ["Batch"]

_UNKNOWN = "unknown_thing"
_REFUSED = "value_refused"
#: Held items that are no reading: of a refused value, whose reading was routed, and of a lifecycle event.
_NO_READING = frozenset({_REFUSED, BAD_PRESENCE})
_PRESENCE_KINDS = ("presence_routed", "presence_unknown", "presence_ignored", "presence_rejected")
_NO_CLIENT = frozenset({NO_CLIENT, ""})


class Batch:
    """What is known of each record of a batch, by its position.

    Args:
        records: `Records` of a Lambda Kinesis event.
        own_times: which payloads tell their time themselves.

    Attributes:
        telemetry: what came for Things.
        presence: lifecycle events.
        spoke: client and Thing where a client spoke for a Thing of another name.
        routed: on its way, in the order of `telemetry`.
        held: to be held.
        shapes: shape id -> shape, of all that is routed.
        queue_urls: slot id -> queue, of all that is routed.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], own_times: OwnTimes) -> None:
        self.telemetry: dict[int, Telemetry] = {}
        self.presence: dict[int, Presence] = {}
        self.spoke: set[tuple[str, str]] = set()
        self.routed: list[Routed] = []
        self.held: dict[int, HeldReading] = {}
        self.shapes: dict[str, Shape] = {}
        self.queue_urls: dict[str, str] = {}
        self._own_times = own_times
        self._kinds: list[str] = []
        self._converted: dict[int, Converted] = {}
        self._times: dict[int, OwnTime] = {}
        self._changes: list[Routed] = []
        for position, record in enumerate(records):
            self._decode(position, record)

    def things(self) -> set[str]:
        """Names to look up."""
        return {entry.thing for entry in self.telemetry.values()}

    def clients(self) -> set[str]:
        """Clients that lifecycle events are about."""
        return {event.client for event in self.presence.values()}

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

    def route_presence(
        self, known: Mapping[str, KnownClient], destinations: Mapping[str, Destination]
    ) -> dict[str, ClientState]:
        """Give every lifecycle event its way; the newest states of clients that no Thing is known for."""
        routes = route_presence(self.presence, known, self.spoke, destinations)
        self._changes = routes.routed
        for entry in routes.routed:
            self.queue_urls[entry.slot] = destinations[entry.item.thing].queue_url
        for position in routes.unrouted:
            self._kinds[position] = "presence_unknown"
        return routes.unknown

    def ordered(self) -> list[Routed]:
        """All that is on its way, in the order of the records."""
        if not self._changes:
            return self.routed
        return sorted([*self.routed, *self._changes], key=lambda entry: entry.position)

    def reject(self, position: int, reason: str, detail: str) -> None:
        """Hold a record as one that can never be delivered."""
        if position in self.telemetry:
            self._kinds[position] = "held_rejected"
            self._hold(position, "rejected", reason, detail)
        else:
            self._kinds[position] = "presence_rejected"

    def counters(self, end: int, dropped: Mapping[str, int]) -> dict[str, int]:
        """Counters of the records before `end`; `dropped` of the held ones were not stored."""
        kinds = Counter(self._kinds[:end])
        readings = {reason: number for reason, number in dropped.items() if reason not in _NO_READING}
        for reason, number in readings.items():
            kinds["held_unrouted" if reason == _UNKNOWN else "held_rejected"] -= number
        presence = {kind: kinds[kind] for kind in _PRESENCE_KINDS}
        converted = [entry for position, entry in self._converted.items() if position < end]
        times = [entry for position, entry in self._times.items() if position < end]
        return {
            "readings_in": end - sum(presence.values()),
            "presence_in": sum(presence.values()),
            **presence,
            "routed": kinds["routed"],
            "held_unrouted": kinds["held_unrouted"],
            "held_rejected": kinds["held_rejected"],
            "dropped_unregistered": kinds["dropped_unregistered"],
            "dropped_held_full": sum(readings.values()),
            **{f"dropped_held_full:{reason}": number for reason, number in dropped.items()},
            "times_clamped": sum(entry.clamped for entry in times),
            "times_unreadable": sum(entry.unreadable for entry in times),
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
            self._kinds.append("presence_routed")  # as above
            self.presence[position] = decoded
        elif isinstance(decoded, OtherEvent):
            self._kinds.append("presence_ignored")
        else:
            presence = decoded.reason == BAD_PRESENCE
            self._kinds.append("presence_rejected" if presence else "held_rejected")
            self.held[position] = _held("rejected", decoded, decoded.reason, decoded.detail)

    def _unregistered(self, position: int, telemetry: Telemetry, *, hold: bool) -> None:
        if not hold:
            self._kinds[position] = "dropped_unregistered"
            return
        self._kinds[position] = "held_unrouted"
        if time_path := self._own_times.path(telemetry.topic):
            self._times[position] = self._own_times.time(
                time_in(telemetry.payload, time_path), telemetry.time
            )
        self._hold(position, "unrouted", _UNKNOWN, "the registry has no Thing of this name")

    def _convert(self, position: int, telemetry: Telemetry, destination: Destination) -> None:
        thing, client = telemetry.thing, telemetry.client
        if client != thing and client not in _NO_CLIENT:
            self.spoke.add((client, thing))
        time_path = self._own_times.path(telemetry.topic)
        converted = convert_payload(telemetry.payload, destination.shape, time_path)
        self._converted[position] = converted
        time, broker_time = telemetry.time, None
        if time_path:
            own = self._times[position] = self._own_times.time(converted.time, time)
            if own.time != time:
                time, broker_time = own.time, time
        if converted.reason:
            self.reject(position, converted.reason, converted.detail)
            return
        reading = Reading(thing, time, telemetry.id, destination.shape_id, converted.values, broker_time)
        lane = lane_of(thing, destination.lanes)
        self.routed.append(Routed(position, reading, destination.slot, lane))
        self.shapes[destination.shape_id] = destination.shape
        self.queue_urls[destination.slot] = destination.queue_url
        if converted.refused:
            self._hold(position, "rejected", _REFUSED, "; ".join(converted.refused))

    def _hold(self, position: int, state: HeldState, reason: str, detail: str) -> None:
        """Hold a telemetry record with the time of its reading, under which it is sent again."""
        source = self.telemetry[position]
        if own := self._times.get(position):
            source = source._replace(time=own.time)
        self.held[position] = _held(state, source, reason, detail)


def _held(state: HeldState, source: Telemetry | RejectedRecord, reason: str, detail: str) -> HeldReading:
    return HeldReading(
        state, source.thing, source.time, source.id, reason, detail, source.topic, source.payload
    )
