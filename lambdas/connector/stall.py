"""A connector that is alive and delivers nothing is as good as dead: nobody else may serve its slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StallWatch"]


class StallWatch:
    """Notices that nothing is settled for so long, though there is something to settle.

    Args:
        seconds: how long; more than any call to the platform may take.
        now: monotonic clock in seconds.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._moved = now()

    def stalled(self, *, holds: bool, settled: bool, excused: bool, trouble: float) -> bool:
        """Tell it what has become since the last look.

        Args:
            holds: messages are held.
            settled: some readings were settled.
            excused: there is a reason to wait: ThingWorx is away, or the write budget is spent.
            trouble: when ThingWorx was last found to be away, on the clock; 0 for never.

        Returns:
            Whether the connector is to be replaced.
        """
        now = self._now()
        if settled or excused or not holds:
            self._moved = now
        self._moved = max(self._moved, trouble)
        return now - self._moved >= self._seconds
