"""Where Things' readings go and in which shape: the registry, remembered for a short while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lambdas.shared.destination import Destination
from lambdas.shared.errors import RegistryLost

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Protocol

    from lambdas.shared.registry import Entry, Route
    from lambdas.shared.shape import Shape

    class RegistryReader(Protocol):
        """What is needed of `lambdas.shared.registry.Registry`."""

        def lookup(self, names: Sequence[str]) -> list[Entry | None]:
            """Entries of Things, in one round trip."""

        def shapes(self, ids: Sequence[str]) -> Mapping[str, Shape]:
            """Shapes by id."""

        def slots(self) -> Mapping[str, Route]:
            """Slots by id."""


__all__ = ["Destination", "Routes"]


class Routes:
    """Reads of the registry, with what was found kept for `cache_seconds`.

    All of it is forgotten together, so that no Thing is ever older than that. An unknown Thing isn't
    remembered: it goes through as soon as discovery has published it. Shapes never change under
    their id and are kept for good.

    Args:
        registry: reading side of the registry.
        cache_seconds: how long Things and slots are kept; 0 reads them for every batch.
        clock: seconds, never going back.
    """

    def __init__(
        self, registry: RegistryReader, cache_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._since = -float("inf")
        self._things: dict[str, Destination] = {}
        self._slots: Mapping[str, Route] = {}
        self._shapes: dict[str, Shape] = {}

    def find(self, names: Collection[str]) -> Mapping[str, Destination]:
        """Destinations by Thing name, at least those of `names` that the registry knows.

        Raises:
            RegistryUnavailable: Redis doesn't answer.
            RegistryLost: it does, but a Thing's slot or shape isn't there.
        """
        now = self._clock()
        if now - self._since >= self._cache_seconds:
            self.forget()
            self._since = now
        missing = [name for name in names if name not in self._things]
        if missing:
            self._read(missing)
        return self._things

    def forget(self) -> None:
        """Read Things and slots anew from now on."""
        self._things = {}
        self._slots = {}

    def _read(self, names: Sequence[str]) -> None:
        entries = {
            name: entry
            for name, entry in zip(names, self._registry.lookup(names), strict=True)
            if entry is not None
        }
        if any(entry.slot not in self._slots for entry in entries.values()):
            self._slots = self._registry.slots()
        unread = {entry.shape for entry in entries.values()} - self._shapes.keys()
        if unread:
            self._shapes.update(self._registry.shapes(sorted(unread)))
        for name, entry in entries.items():
            slot, shape = self._slots.get(entry.slot), self._shapes.get(entry.shape)
            if slot is None or shape is None:
                # Written shapes first, slots next, Things last: a gap means that Redis lost something.
                absent = f"slot {entry.slot}" if slot is None else f"shape {entry.shape}"
                raise RegistryLost(
                    f"the registry has {name} but not its {absent}; a discovery run rebuilds it"
                )
            self._things[name] = Destination(entry.slot, slot.queue_url, slot.lanes, entry.shape, shape)
