"""One gate before the platform: closed while it serves nobody, so that nothing hammers it."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.connector.stop import Stop

__all__ = ["Gate", "backoff"]

_FIRST_SECONDS = 0.5
_GROWTH = 2.0
_MOST_SECONDS = 30.0


def backoff() -> Iterator[float]:
    """Delays in seconds for ever: random parts of 0.5, 1, 2, ... 30."""
    for turn in itertools.count():
        yield min(_MOST_SECONDS, _FIRST_SECONDS * _GROWTH ** min(turn, 10)) * random.uniform(0.5, 1.0)


class Gate:
    """Open while the platform answers; shared by all pushes of a connector.

    Args:
        stop: ends the waiting.

    Attributes:
        last_failure: when the platform was last found to serve nobody, on the monotonic clock; 0 for never.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._closed_until = 0.0
        self._last_success = 0.0
        self.last_failure = 0.0
        #: Thing -> when it failed last, since the platform served anybody.
        self._failures: dict[str, float] = {}
        self._delays = backoff()

    async def passed(self) -> None:
        """Wait until the platform may be tried.

        Raises:
            Stopped: the connector gives up first.
        """
        self._stop.check()
        while (left := self._closed_until - time.monotonic()) > 0:
            await self._stop.pause(left)

    @property
    def closed(self) -> bool:
        """Whether the platform is being left alone for a while."""
        return time.monotonic() < self._closed_until

    def failed(self, reason: str, thing: str = "") -> None:
        """The platform serves nobody, as a push of this Thing found: leave it alone for the next delay."""
        self.last_failure = self._failures[thing] = time.monotonic()
        if self.closed:
            return  # another push of the same window has told already
        delay = next(self._delays)
        self._closed_until = time.monotonic() + delay
        logger.error("ThingWorx can't be reached", reason=reason, next_try_in_seconds=round(delay, 1))

    def served_since(self, moment: float) -> bool:
        """Whether the platform has answered anybody after `moment` of the monotonic clock."""
        return self._last_success > moment

    def failed_for_others(self, thing: str, moment: float) -> bool:
        """Whether a push of another Thing has failed after `moment` of the monotonic clock."""
        return any(at > moment for other, at in self._failures.items() if other != thing)

    def succeeded(self) -> None:
        """The platform answers: the next trouble starts with the shortest delay."""
        self._last_success = time.monotonic()
        self._failures.clear()
        if self._closed_until:
            self._closed_until = 0.0
            self._delays = backoff()
