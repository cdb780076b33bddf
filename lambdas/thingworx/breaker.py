"""The breaker: a refused application key is tried once a minute by the whole fleet, not by each slot.

It is one record that all connectors share. A refusal trips it for the version of the secret that was
refused; while it is tripped for that version, the first connector to come after each minute tries. It
closes when a try succeeds, and doesn't concern a key of another version.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lambdas.shared.errors import ThingworxRefused

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "BreakerStore", "KeyRefused", "Tripped"]

_PAUSE_MS = 60_000


class KeyRefused(ThingworxRefused):
    """The platform refuses the application key."""


class Tripped(NamedTuple):
    """The record.

    Attributes:
        until: when the next try may be made, milliseconds since 1970, UTC.
        version: version of the secret that was refused.
    """

    until: int
    version: str


class BreakerStore(Protocol):
    """Keeps the record; calls block and may come from any thread."""

    def read(self) -> Tripped | None:
        """The record as it is now (consistent), or None."""

    def replace(self, before: Tripped | None, after: Tripped | None) -> bool:
        """Write `after` (None: delete) if the record is still `before`; whether that was so."""


class Breaker:
    """Decides whether a key may be tried.

    Args:
        store: the shared record.
        now: milliseconds since 1970, UTC, a clock that connectors agree on.
        pause: milliseconds between two tries of a refused key.
    """

    def __init__(
        self,
        store: BreakerStore,
        *,
        now: Callable[[], int] = lambda: int(time.time() * 1000),
        pause: int = _PAUSE_MS,
    ) -> None:
        self._store = store
        self._now = now
        self._pause = pause

    def admit(self, version: str) -> None:
        """Return when the key of this version may be tried now, by this caller.

        Raises:
            ThingworxRefused: it was refused, and the next try is not due or another connector's.
        """
        tripped = self._store.read()
        if tripped is None or tripped.version != version:
            return
        now = self._now()
        if now >= tripped.until and self._store.replace(tripped, Tripped(now + self._pause, version)):
            return
        raise ThingworxRefused(
            "the application key was refused; it is tried once a minute until the secret has a new version"
        )

    def refused(self, version: str) -> None:
        """The key of this version was refused."""
        self._store.replace(self._store.read(), Tripped(self._now() + self._pause, version))

    def accepted(self, version: str) -> None:
        """The key of this version was accepted."""
        tripped = self._store.read()
        if tripped is not None and tripped.version == version:
            self._store.replace(tripped, None)
