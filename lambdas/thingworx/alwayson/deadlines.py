"""Many deadlines, one timer: which of them have passed, and when the next one does."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Deadlines"]

_Key = TypeVar("_Key")
#: Entries that were discarded stay in the heap until they are this many more than the live ones.
_SLACK = 64


class Deadlines(Generic[_Key]):
    """A deadline a key; setting it again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Key]] = []
        self._live: dict[_Key, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        """How many keys have a deadline."""
        return len(self._live)

    def set(self, key: _Key, when: float) -> None:
        """Give `key` this deadline."""
        self._serial += 1
        self._live[key] = self._serial
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def discard(self, key: _Key) -> None:
        """Take the deadline of `key` away, if it has one."""
        self._live.pop(key, None)

    def clear(self) -> None:
        """Take all deadlines away."""
        self._live.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def passed(self, now: float) -> Iterator[_Key]:
        """Keys whose deadline is not after `now`, earliest first; each is taken away as it is given."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._live[key]
            yield key
