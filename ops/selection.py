"""Which held readings a command is about."""

from __future__ import annotations

import heapq
import sys
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.held_items import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.held_items import HeldItem, HeldItems

__all__ = ["Selection"]

_PAGE = 500
_PROGRESS_EVERY = 50_000
_LAST_TIME = 10**13 - 1


class Selection(NamedTuple):
    """What was asked for.

    Attributes:
        states: `unrouted`, `rejected`, `parked`, or some of them.
        thing: only this Thing; None: all.
        since: earliest time, milliseconds since 1970.
        until: latest time.
        reason: only this reason; None: all.
    """

    states: tuple[str, ...] = STATES
    thing: str | None = None
    since: int = 0
    until: int = _LAST_TIME
    reason: str | None = None

    def things(self, items: HeldItems) -> list[str]:
        """Things that have held readings in these states, in alphabetical order.

        Without a Thing's name this reads the whole table; the names are all that is kept of it.
        """
        if self.thing is not None:
            return [self.thing]
        found = set()
        for number, (state, thing) in enumerate(items.partitions(), 1):
            if state in self.states:
                found.add(thing)
            if number % _PROGRESS_EVERY == 0:
                sys.stderr.write(f"{number} held readings seen, {len(found)} Things\n")
        return sorted(found)

    def of(self, thing: str, items: HeldItems) -> Iterator[HeldItem]:
        """The selected readings of a Thing, oldest first; a page of each state is in memory."""
        found = heapq.merge(*(self._of(state, thing, items) for state in self.states), key=_by_time)
        return (item for item in found if self.reason in (None, item.reading.reason))

    def _of(self, state: str, thing: str, items: HeldItems) -> Iterator[HeldItem]:
        for page in items.pages(state, thing, _PAGE, since=self.since, until=self.until):
            yield from page


def _by_time(item: HeldItem) -> str:
    return item.sk
