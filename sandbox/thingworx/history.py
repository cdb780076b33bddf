"""What was written: values by property and millisecond, and a log of accepted writes as received."""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sandbox.thingworx.model import VTQ

__all__ = ["History", "WriteLog", "WriteRecord"]


class WriteRecord(NamedTuple):
    """One accepted property write.

    `sequence` counts from 1 and has no gaps; `received` and `time` in ms since 1970 UTC; `service` is how it
    came (a service's name, or `PUT`).
    """

    sequence: int
    received: int
    thing: str
    property: str
    value: Any
    time: int
    quality: str
    service: str


@dataclass(slots=True)
class _Series:
    times: list[int] = field(default_factory=list)
    values: dict[int, VTQ] = field(default_factory=dict)


class History:
    """The logged values of one Thing: one per property and millisecond, a later write replaces."""

    __slots__ = ("_limit", "_series")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._series: dict[str, _Series] = {}

    def add(self, property_name: str, vtq: VTQ) -> None:
        """Keep a value; beyond the limit the oldest one goes."""
        series = self._series.get(property_name)
        if series is None:
            series = self._series[property_name] = _Series()
        if vtq.time not in series.values:
            if series.times and vtq.time < series.times[-1]:
                insort(series.times, vtq.time)
            else:
                series.times.append(vtq.time)
        series.values[vtq.time] = vtq
        if self._limit is not None and len(series.times) > self._limit * 2:
            # Twice the limit before cutting: one slice then costs as much as one write, not as many.
            for time in series.times[: -self._limit]:
                del series.values[time]
            series.times = series.times[-self._limit :]

    def of(self, property_name: str) -> list[VTQ]:
        """The values of a property, oldest first."""
        series = self._series.get(property_name)
        if series is None:
            return []
        times = series.times if self._limit is None else series.times[-self._limit :]
        return [series.values[time] for time in times]

    def properties(self) -> Iterator[str]:
        """The properties that have values."""
        return iter(self._series)


class WriteLog:
    """Accepted writes in order, and counts; `limit` bounds what is kept, never what is counted."""

    def __init__(self, limit: int | None = None) -> None:
        self._records: deque[WriteRecord] = deque(maxlen=limit)
        self.accepted = 0
        self.rejected: deque[dict[str, Any]] = deque(maxlen=1000)
        self.rejected_count = 0

    def accept(self, received: int, thing: str, property_name: str, vtq: VTQ, service: str) -> None:
        """Log a stored value."""
        self.accepted += 1
        self._records.append(WriteRecord(self.accepted, received, thing, property_name, *vtq, service))

    def reject(self, thing: str, property_name: str, why: str, service: str) -> None:
        """Log a row that was not stored; the last 1000 are kept."""
        self.rejected_count += 1
        self.rejected.append({"thing": thing, "property": property_name, "why": why, "service": service})

    def since(
        self, sequence: int = 0, *, thing: str | None = None, limit: int | None = None
    ) -> list[WriteRecord]:
        """Records after `sequence`, oldest first; of one Thing only, at most `limit`, when given."""
        found: Iterable[WriteRecord] = (
            r for r in self._records if r.sequence > sequence and (thing is None or r.thing == thing)
        )
        return list(islice(found, limit))

    def clear(self) -> None:
        """Forget records and counts."""
        self._records.clear()
        self.rejected.clear()
        self.accepted = self.rejected_count = 0
