"""Readings on their way to the platform: with the rows they are pushed as, and what is held of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from lambdas.shared.held_store import HeldReading
from lambdas.shared.parcel import Parcel, Reading
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lambdas.connector.outcome import Verdict

__all__ = ["Entry", "batches", "entries_of", "held", "parked_entry"]

#: Rows of one call: bounds a request's size and the time one Thing takes.
_ROWS_PER_CALL = 1000


class Entry(NamedTuple):
    """A reading to push.

    Attributes:
        reading: what the parcel, or the held store, says.
        rows: one a value, in the order of the values.
        replayed: it comes from the held store, so it was counted as taken before.
        replay: name of the replay that sent it, if it came by one.
        late: one of its values is older than what had been delivered of its property.
    """

    reading: Reading
    rows: list[ValueRow]
    replayed: bool = False
    replay: str = ""
    late: bool = False

    @property
    def broker_time(self) -> int:
        """When the broker had it; what came from the held store says so only without a time of its own."""
        reading = self.reading
        return reading.time if reading.broker_time is None else reading.broker_time


def entries_of(parcel: Parcel) -> list[Entry]:
    """All readings of a parcel."""
    return [
        Entry(
            reading,
            [
                ValueRow(shape[name].edge, shape[name].base_type, value, reading.time)
                for name, value in reading.values.items()
            ],
            replayed=bool(parcel.replay),
            replay=parcel.replay,
        )
        for reading in parcel.readings
        for shape in (parcel.shapes[reading.shape],)
    ]


def parked_entry(parked: HeldReading) -> Entry:
    """A parked reading as it was when it was parked.

    Raises:
        ValueError: the held store has not all of it.
    """
    values: dict[str, Any] = orjson.loads(parked.values or "")
    shape: dict[str, tuple[str, str]] = orjson.loads(parked.shape or "")
    reading = Reading(parked.thing, parked.time, parked.id, "", values)
    try:
        rows = [
            ValueRow(edge, base_type, value, parked.time)
            for name, value in values.items()
            for base_type, edge in (shape[name],)
        ]
    except KeyError as error:
        raise ValueError(f"no shape of {error}") from error
    return Entry(reading, rows, replayed=True, replay=parked.replay)


def batches(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Entries in order, at most 1,000 rows together unless one reading alone has more."""
    found: list[list[Entry]] = []
    rows = 0
    for entry in entries:
        rows += len(entry.rows)
        if not found or rows > _ROWS_PER_CALL:
            found.append([])
            rows = len(entry.rows)
        found[-1].append(entry)
    return found


def held(
    entry: Entry,
    state: Literal["rejected", "parked"],
    verdict: Verdict,
    only: Mapping[str, Any] | None = None,
) -> HeldReading:
    """A reading, or `only` some of its values, as the held store keeps it: with the shape it came with."""
    reading, rows = entry.reading, entry.rows
    values = reading.values if only is None else only
    shape = _shape(reading.values, rows)
    return HeldReading(
        thing=reading.thing,
        state=state,
        time=reading.time,
        id=reading.id,
        reason=verdict.reason,
        detail=verdict.detail,
        topic="",
        values=orjson.dumps(dict(values)).decode(),
        shape=orjson.dumps({name: shape[name] for name in values}).decode(),
        replay=entry.replay,
    )


def _shape(values: Mapping[str, Any], rows: Sequence[ValueRow]) -> dict[str, tuple[str, str]]:
    return {name: (row.base_type, row.name) for name, row in zip(values, rows, strict=True)}
