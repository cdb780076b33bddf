"""Asking for discovery runs: when devices come that nobody knows, and when Redis has lost its content.

Asking is a write to the control table; the watch function starts the run within a minute. A name is
asked for once in a while only, so that a device that ThingWorx will never know doesn't keep discovery
running; what is remembered of names is bounded. Failing to ask never fails a batch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    class Wishes(Protocol):
        """What is needed of `lambdas.shared.wanted.WantedRuns`."""

        def ask(self, *wishes: str, now: int) -> None:
            """Ask for a run."""


__all__ = ["DiscoveryAsks"]

#: Seconds after which the same unknown name is worth another run: somebody may have made the Thing.
_NAME_SECONDS = 600.0
#: Names remembered; while there are more, they are asked for once a minute all together.
_MOST_NAMES = 10_000
_MINUTE = 60.0
_REPAIR_SECONDS = 20.0


class DiscoveryAsks:
    """What an execution environment has asked for lately.

    Args:
        wanted: takes the wishes.
        clock: seconds, never going back.
        now: milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        wanted: Wishes,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._wanted = wanted
        self._clock = clock
        self._now = now
        self._asked: dict[str, float] = {}
        self._unknown_at = self._repair_at = -float("inf")

    def unknown(self, names: Collection[str]) -> None:
        """Ask for a run over all Things when one of these names is new; at most one write."""
        clock = self._clock()
        new = [name for name in names if clock - self._asked.get(name, -float("inf")) >= _NAME_SECONDS]
        if not new:
            return
        if len(self._asked) + len(new) > _MOST_NAMES:
            self._asked = {name: at for name, at in self._asked.items() if clock - at < _NAME_SECONDS}
        full = len(self._asked) + len(new) > _MOST_NAMES
        if full and clock - self._unknown_at < _MINUTE:
            return
        self._unknown_at = clock
        if self._ask("unknown") and not full:
            self._asked.update(dict.fromkeys(new, clock))

    def repair(self) -> None:
        """Ask for the registry to be rebuilt from the control table."""
        clock = self._clock()
        if clock - self._repair_at < _REPAIR_SECONDS:
            return
        self._repair_at = clock
        self._ask("repair")

    def _ask(self, wish: str) -> bool:
        try:
            self._wanted.ask(wish, now=self._now())
        except (ClientError, BotoCoreError) as error:
            logger.warning("discovery can't be asked for", wish=wish, reason=str(error))
            return False
        return True
