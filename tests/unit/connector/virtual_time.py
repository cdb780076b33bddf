"""An event loop whose clock jumps to the next timer when nothing else is left to do."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for timers and each other alone: no threads, no sockets."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        """As every event loop's, in seconds."""
        return self._now

    def _run_once(self) -> None:
        loop: Any = self  # asyncio's own queues, which typeshed doesn't know
        while loop._scheduled and loop._scheduled[0]._cancelled:
            loop._timer_cancelled_count -= 1
            heapq.heappop(loop._scheduled)._scheduled = False
        if not loop._ready and loop._scheduled:
            self._now = max(self._now, loop._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc] # as above


def run_in_virtual_time(scenario: Coroutine[Any, Any, _T]) -> _T:
    """As `asyncio.run`; hours pass at once."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)
