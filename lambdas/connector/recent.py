"""Ids of readings delivered lately, to leave out repeats.

An optimisation, never a watermark: forgetting an id costs a repeated write of the same value at the
same time, nothing else.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RecentIds"]


class RecentIds:
    """The last `limit` ids added."""

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, reading_id: str) -> bool:
        return reading_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, reading_id: str) -> None:
        """Remember an id and forget the oldest beyond the limit."""
        self._ids[reading_id] = None
        self._ids.move_to_end(reading_id)
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)
