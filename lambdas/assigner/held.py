"""Held readings of Things that become known: into their lanes before their newer ones can be.

While a Thing is unknown the router holds its readings; and what was parked of one that had gone is nobody's
to send. So when a Thing becomes known both are sent first, oldest first, then the Thing is published, and
readings that were held in between follow. Things take turns page by page, so that one with a large backlog
keeps nobody waiting; one that isn't through when the time is over is published by a later run, for its
readings would be overtaken otherwise. One of which it couldn't be found out what is held is published, and
looked at again by later runs.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.held_items import Page
from lambdas.shared.held_store import HeldStoreUnavailable
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lambdas.assigner.stragglers import Stragglers
    from lambdas.shared.destination import Destination
    from lambdas.shared.held_items import HeldItems
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.replay import Replayer

__all__ = ["HeldOfNewThings"]

_PAGE = 500
_THREADS = 8
#: Seconds for what goes before the Things are published, while other runs wait to publish, and after.
_BEFORE_SECONDS = 45.0
_AFTER_SECONDS = 30.0
#: A router that has looked a Thing up just before it was published has held its readings by then.
_IN_FLIGHT_SECONDS = 3.0
#: No invocation of the router is that old: whatever it held is there.
_STRAGGLER_MILLISECONDS = 300_000


#: What is sent of a Thing, in this order: it was parked before it went, and unrouted since.
_STATES = ("parked", "unrouted")


class _Place(NamedTuple):
    """Where a page of a Thing begins: in which of `_STATES`, after which sort key."""

    state: int = 0
    after: str | None = None


class _Turn(NamedTuple):
    """What one page of a Thing came to: where the next may begin, None when there is none or it can't go."""

    counters: Counter[str]
    following: _Place | None
    left: bool


_BEFORE, _AFTER = _Place(), _Place(_STATES.index("unrouted"))


class HeldOfNewThings:
    """Sends what is held as `unrouted`, and as `parked` where no connector does it.

    Args:
        items: reads what is held.
        held: knows whether anything can be.
        replayer: sends it.
        stragglers: remembers whom to look at again.
        catches_up: whether a slot's connector sends a Thing's parked readings itself: slot, Thing.
        clock: seconds, never going back.
        sleep: pauses for so many seconds.

    Attributes:
        counters: `replay_sent`, `replay_rejected`, `replay_unsent`: readings.
    """

    def __init__(
        self,
        items: HeldItems,
        held: HeldStore,
        replayer: Replayer,
        stragglers: Stragglers,
        catches_up: Callable[[str, str], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._items = items
        self._held = held
        self._replayer = replayer
        self._stragglers = stragglers
        self._catches_up = catches_up
        self._clock = clock
        self._sleep = sleep
        self._active: set[str] = set()
        self.counters: Counter[str] = Counter()

    def before(self, new: Mapping[str, Destination], fresh: Iterable[str]) -> set[str]:
        """Send the held readings of Things that are about to be published.

        Args:
            new: Things that the registry doesn't have.
            fresh: those of them that are unknown to the router now: their first readings may be held just
                while they are published. Of others, which a lost registry has forgotten, only those are
                looked at again that had readings held: without a registry the router holds nothing.

        Returns:
            Things that have more, which must not be published yet.
        """
        if not new:
            return set()
        left, unseen = (set(), set()) if self._held.is_empty() else self._send(new, _BEFORE, _BEFORE_SECONDS)
        follow = self._active.union(unseen, fresh)
        # Before they are published, or a run that dies in between leaves stragglers for nobody to look at.
        self._stragglers.add(follow)
        if left:
            logger.warning("Things not published yet, for more of their readings are held", things=len(left))
        return left

    def after(self, destinations: Mapping[str, Destination]) -> None:
        """Send what was held while Things were being published, now and in runs before."""
        waiting = self._stragglers.since()
        known = {thing: destinations[thing] for thing in waiting if thing in destinations}
        left = set().union(*self._send(known, _AFTER, _AFTER_SECONDS))
        fresh = {thing: known[thing] for thing in self._active & known.keys()}
        if fresh:
            self._sleep(_IN_FLIGHT_SECONDS)
            left = left.union(*self._send(fresh, _AFTER, _AFTER_SECONDS))
        oldest = time.time() * 1000 - _STRAGGLER_MILLISECONDS
        self._stragglers.remove(
            thing
            for thing, since in waiting.items()
            if thing not in left and (since < oldest or thing not in destinations)
        )

    def _send(
        self, things: Mapping[str, Destination], first: _Place, seconds: float
    ) -> tuple[set[str], set[str]]:
        """Send pages, from `first` on, in turns until all is sent or the time is over.

        Returns:
            Things that are known to have more, and those of which it isn't known what they have.
        """
        deadline = self._clock() + seconds

        def may_go_on() -> bool:
            return self._clock() < deadline

        turns = dict.fromkeys(things, first)
        left: set[str] = set()
        unseen: set[str] = set()
        with ThreadPoolExecutor(_THREADS) as pool:
            while turns and may_go_on():
                results = pool.map(
                    lambda turn: self._page(turn[0], things[turn[0]], turn[1], may_go_on), turns.items()
                )
                done = dict(zip(turns, results, strict=True))
                left |= {thing for thing, turn in done.items() if turn and turn.left}
                unseen |= {thing for thing, turn in done.items() if turn is None}
                turns = {thing: turn.following for thing, turn in done.items() if turn and turn.following}
                self._count(turn.counters for turn in done.values() if turn)
        left |= turns.keys() & self._active
        return left, unseen | (turns.keys() - self._active)

    def _page(
        self, thing: str, destination: Destination, place: _Place, may_go_on: Callable[[], bool]
    ) -> _Turn | None:
        """Send one page; None when it couldn't be found out what there is to send."""
        if not may_go_on():
            return _Turn(Counter(), place, left=False)
        try:
            place, page = self._next(thing, destination.slot, place)
            if not page.items:
                return _Turn(Counter(), None, left=False)
            self._active.add(thing)
            replayed = self._replayer.send(page.items, destination, may_go_on)
        except Exception as error:  # noqa: BLE001 - one Thing's trouble must not keep others from being known
            logger.error("held readings could not be sent", thing=thing, reason=str(error))
            # What passes is waited for, where it is known that there is something to send.
            waits = isinstance(error, (HeldStoreUnavailable, ClientError, BotoCoreError))
            return _Turn(Counter(), None, left=True) if waits and thing in self._active else None
        if replayed.cause:
            logger.warning("held readings could not be sent", thing=thing, reason=replayed.cause)
            return _Turn(replayed.counters, None, left=True)
        following = _Place(place.state, page.items[-1].sk) if page.more else _Place(place.state + 1)
        return _Turn(replayed.counters, following, left=False)

    def _next(self, thing: str, slot: str, place: _Place) -> tuple[_Place, Page]:
        """The next page with something to send, and where it began; an empty one when there is none."""
        for state, name in list(enumerate(_STATES))[place.state :]:
            begin = place if state == place.state else _Place(state)
            page = self._items.page(name, thing, _PAGE, after=begin.after)
            # In this order: whoever parks a reading has marked its Thing before.
            if page.items and not (name == "parked" and self._catches_up(slot, thing)):
                return begin, page
        return place, Page([], more=False)

    def _count(self, results: Iterable[Counter[str]]) -> None:
        for counters in results:
            self.counters.update({f"replay_{name}": number for name, number in counters.items()})
