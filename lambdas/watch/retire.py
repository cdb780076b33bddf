"""How an empty slot goes, one small step a minute: pure decisions.

    active --empty for long--> draining --no router knows it, queue empty three times--> stopping
                                  ^                                                          |
                                  +------------- a message came after all -------------------+
                                                                                             |
                                     queue, items and slot deleted <--no lease, still empty--+

A draining slot is served like an active one, but gets no Things and no readings: it is not in what is
published. It never becomes active again: a Thing that returns is new to the router anyway, and gets
room elsewhere. So nothing has to be undone, and a step that is repeated or lost does no harm.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lambdas.watch.table import WatchedSlot

__all__ = ["READINGS", "Looked", "Step", "Times", "next_step"]

#: Readings of an empty queue in a row: SQS counts its messages approximately (GetQueueAttributes).
READINGS = 3


class Step(Enum):
    """What to do with a slot."""

    NOTHING = "nothing"
    OCCUPIED = "it has Things again"
    EMPTY = "it has no Things any more"
    DRAIN = "it has been empty for long"
    PUBLISH = "routers must be told that it drains"
    UNROUTED = "what is published doesn't name it any more"
    BUSY = "its queue holds messages"
    QUIET = "its queue holds nothing"
    STOP = "its queue held nothing at all readings"
    REOPEN = "its queue holds messages after all, or was never drained"
    DELETE = "nobody serves it and its queue holds nothing"


class Looked(NamedTuple):
    """What was seen of a slot.

    Attributes:
        things: whether any Thing's record names it, removed ones included.
        messages: in its queue, whether visible, received or delayed; 0 without a queue.
    """

    things: bool
    messages: int


class Times(NamedTuple):
    """Milliseconds.

    Attributes:
        empty: without Things until it drains.
        drain: from the publishing without it until its queue is watched: longer than routers remember.
        pause: between two readings of the queue, at least.
    """

    empty: int
    drain: int
    pause: int


def next_step(slot: WatchedSlot, looked: Looked, published: int, now: int, times: Times) -> Step:
    """What to do with a slot now.

    Args:
        slot: as just read.
        looked: as just seen.
        published: when the last publishing that ended well began.
        now: milliseconds since 1970 UTC.
        times: how long to wait.
    """
    if slot.slot.state == "active":
        return _active(slot, looked, now, times)
    if slot.slot.state == "draining":
        return _draining(slot, looked, published, now, times)
    return _stopping(slot, looked, now)


def _active(slot: WatchedSlot, looked: Looked, now: int, times: Times) -> Step:
    if looked.things:
        return Step.OCCUPIED if slot.empty_since else Step.NOTHING
    if not slot.empty_since:
        return Step.EMPTY
    return Step.DRAIN if now - slot.empty_since >= times.empty else Step.NOTHING


def _draining(slot: WatchedSlot, looked: Looked, published: int, now: int, times: Times) -> Step:
    if not slot.unrouted_since:
        return Step.UNROUTED if published > slot.draining_since else Step.PUBLISH
    if looked.things or looked.messages:
        # A plan that was made as it began to drain may have put Things here: the next one moves them.
        return Step.BUSY if slot.quiet_readings else Step.NOTHING
    if now - slot.unrouted_since < times.drain or now - slot.read_at < times.pause:
        return Step.NOTHING
    return Step.STOP if slot.quiet_readings + 1 >= READINGS else Step.QUIET


def _stopping(slot: WatchedSlot, looked: Looked, now: int) -> Step:
    if looked.messages or not slot.unrouted_since:
        # Also what an interrupted destroy has left: it must drain like any other.
        return Step.REOPEN
    if looked.things or slot.slot.until >= now:
        return Step.NOTHING
    return Step.DELETE
