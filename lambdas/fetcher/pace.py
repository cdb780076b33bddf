"""How fast the platform is asked: never faster than allowed, and slower while it is busy."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import ThingworxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.fetcher.listing import Services
    from lambdas.thingworx.infotable import InfoTable

__all__ = ["Pace", "Paced"]


class Pace:
    """A rate and a window of calls, shared by many threads.

    Each call that ends with the platform unavailable (429, 503, time-out) halves the window, once for
    all the calls that were under way with it; as many good ones as the window is wide widen it by one.

    Args:
        per_second: calls per second at most, started evenly; 0 for no limit.
        window: calls under way at once, at most.
        clock: seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        per_second: float,
        window: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._most = window
        self._clock = clock
        self._sleep = sleep
        self._free = threading.Condition()
        self.window = window
        self._running = 0
        self._good = 0
        self._started = 0
        self._halved_at = 0
        self._next = 0.0

    def begin(self) -> int:
        """Wait for a turn; its number, for `end`."""
        with self._free:
            while self._running >= self.window:
                self._free.wait()
            self._running += 1
            self._started += 1
            number = self._started
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
        return number

    def end(self, number: int, *, available: bool) -> None:
        """Give the turn back, and say whether the platform answered."""
        with self._free:
            self._running -= 1
            if not available:
                self._good = 0
                if number > self._halved_at:
                    self._halved_at = self._started
                    self.window = max(1, self.window // 2)
            else:
                self._good += 1
                if self._good >= self.window and self.window < self._most:
                    self.window += 1
                    self._good = 0
            self._free.notify(2)  # one for the turn given back, one where the window has widened


class Paced:
    """The platform's services, called at a pace.

    Args:
        services: the platform.
        pace: how fast.
    """

    def __init__(self, services: Services, pace: Pace) -> None:
        self._services = services
        self._pace = pace

    def service(
        self, collection: str, entity: str, service: str, parameters: dict[str, Any] | None = None
    ) -> InfoTable | None:
        """As the platform's own."""
        number = self._pace.begin()
        available = True
        try:
            return self._services.service(collection, entity, service, parameters)
        except ThingworxUnavailable:
            available = False
            raise
        finally:
            self._pace.end(number, available=available)
