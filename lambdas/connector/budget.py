"""The platform's write budget: how many property writes a second this slot's share of it allows.

The budget is the stack's. It is shared evenly by the slots that are served or are to be, which the
control table tells; no connector speaks to another. So what waits after an outage comes back at the
budget, and not as fast as all connectors together can push.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.connector.stop import Stop

__all__ = ["WriteBudget", "keep_share"]

#: How often the number of slots is read. In large stacks less often: the read has the size of all slots.
_LOOK_SECONDS = 30.0
_SLOTS_PER_LOOK = 50
_RETRY_SECONDS = 5.0


class WriteBudget:
    """A token bucket of one second: a call of many rows may overdraw it, and the next ones wait for it.

    Args:
        rate: writes a second; 0 for no limit.
        stop: ends the waiting.
        now: monotonic clock in seconds.
    """

    def __init__(self, rate: float, stop: Stop, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._stop = stop
        self._now = now
        self._tokens = rate
        self._filled = now()
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Writes a second; 0 for no limit."""
        return self._rate

    @property
    def spent(self) -> bool:
        """Whether who asks now has to wait."""
        self._fill()
        return self._tokens <= 0 < self._rate

    def share(self, rate: float) -> None:
        """Change the rate; what was overdrawn stays so."""
        self._fill()
        self._rate = rate
        self._tokens = min(self._tokens, rate)

    async def take(self, writes: int) -> None:
        """Wait until so many writes are allowed; those that asked first go first.

        Raises:
            Stopped: the connector gives up first.
        """
        if not self._rate:
            return
        async with self._turn:
            while self.spent:
                await self._stop.pause(min(1.0, -self._tokens / self._rate + 0.001))
            self._tokens -= writes

    def _fill(self) -> None:
        now = self._now()
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


async def keep_share(budget: WriteBudget, total: float, slots: Callable[[], int]) -> None:
    """Keep the budget at this slot's share until cancelled.

    Args:
        budget: what to change.
        total: writes a second of the whole stack.
        slots: how many slots share it; blocks.
    """
    while True:
        try:
            number = max(1, await asyncio.to_thread(slots))
        except Exception as error:  # noqa: BLE001 - whatever it was, the share it had is still a good one
            logger.warning("the number of slots can't be read", reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            budget.share(total / number)
            await asyncio.sleep(_LOOK_SECONDS * -(-number // _SLOTS_PER_LOOK))
