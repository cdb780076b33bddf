"""Which slots' connectors are dead, and when to start them again: pure decisions.

A slot without a live lease may be between two connectors, or its state machine may be waiting out its
back-off: it never gives up by itself. So a slot is dead only when it has had no lease for a while and no
execution of its present epoch runs. One that somebody has stopped stays so until a discovery run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.connectors import SERVED, lately_started

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lambdas.watch.table import WatchedSlot

__all__ = ["Executions", "Life", "may_be_dead", "named", "noted", "served"]

#: Milliseconds between two starts of the same slot, at most.
_MOST_PAUSE = 3_600_000
#: One that was served for so long after its start is well again.
_WELL = 600_000
_MOST_DOUBLINGS = 16
_NAME = re.compile(r"([0-9]+)-([0-9]+)-[0-9]+")


class Life(NamedTuple):
    """What to note on a slot's item."""

    unserved_since: int
    restarts: int


class Executions(NamedTuple):
    """Executions of the connector machine: slot and epoch of those that run, and that were stopped."""

    running: frozenset[tuple[str, int]]
    stopped: frozenset[tuple[str, int]]

    def dead(self, slot: WatchedSlot) -> bool:
        """Whether nothing will serve the slot again, and nobody wanted that."""
        key = (slot.slot.id, slot.slot.epoch)
        return key not in self.running and key not in self.stopped


def named(names: Iterable[str]) -> frozenset[tuple[str, int]]:
    """Slot and epoch of execution names; those that aren't of a connector are left out."""
    found = (_NAME.fullmatch(name) for name in names)
    return frozenset((match[1], int(match[2])) for match in found if match)


def served(slot: WatchedSlot, now: int) -> bool:
    """Whether somebody serves the slot, or nobody has to."""
    return slot.slot.state not in SERVED or slot.slot.until >= now


def noted(slot: WatchedSlot, now: int) -> Life:
    """What to remember of the slot from now on."""
    if not served(slot, now):
        return Life(slot.unserved_since or now, slot.restarts)
    well = now - slot.slot.last_start >= _WELL
    return Life(0, 0 if well else slot.restarts)


def may_be_dead(slot: WatchedSlot, now: int, grace: int) -> bool:
    """Whether the slot has had no lease for `grace` milliseconds, and no start for long enough.

    A start of just now may have got lost on its way to Step Functions: it is repeated under its name.
    """
    if served(slot, now) or not slot.unserved_since or slot.slot.queue_url is None:
        return False
    pause = min(grace * 2 ** min(slot.restarts, _MOST_DOUBLINGS), _MOST_PAUSE)
    due = now - slot.slot.last_start >= pause
    return now - slot.unserved_since >= grace and (due or lately_started(slot.slot, now))
