"""Held readings of Things that become known: into their lanes before their newer ones can be.

While a Thing is unknown the router holds its readings. So when it becomes known they are sent first,
oldest first, then the Thing is published, and readings that were held in between follow. Things take
turns page by page, so that one with a large backlog keeps nobody waiting; one that isn't through when the
time is over is published by a later run, for its readings would be overtaken otherwise. One of which it
couldn't be found out what is held is published, and looked at again by later runs.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

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
#: Of so many new Things the first reading may come just while they are published; of more at once, which
#: are new to the registry rather than to the fleet, only those are looked at again that had readings held.
_MOST_NEW = 1000
#: A router that has looked a Thing up just before it was published has held its readings by then.
_IN_FLIGHT_SECONDS = 3.0
#: No invocation of the router is that old: whatever it held is there.
_STRAGGLER_MILLISECONDS = 300_000


class _Turn(NamedTuple):
    """What one page of a Thing came to: where the next one begins, None when there is none or it can't go."""

    counters: Counter[str]
    after: str | None
    left: bool


class HeldOfNewThings:
    """Sends what is held as `unrouted`.

    Args:
        items: reads what is held.
        held: knows whether anything can be.
        replayer: sends it.
        stragglers: remembers whom to look at again.
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
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._items = items
        self._held = held
        self._replayer = replayer
        self._stragglers = stragglers
        self._clock = clock
        self._sleep = sleep
        self._active: set[str] = set()
        self.counters: Counter[str] = Counter()

    def before(self, new: Mapping[str, Destination]) -> set[str]:
        """Send the held readings of Things that are about to be published.

        Returns:
            Things that have more, which must not be published yet.
        """
        if not new:
            return set()
        left, unseen = (set(), set()) if self._held.is_empty() else self._send(new, _BEFORE_SECONDS)
        follow = self._active | unseen | (new.keys() if len(new) <= _MOST_NEW else set())
        # Before they are published, or a run that dies in between leaves stragglers for nobody to look at.
        self._stragglers.add(follow)
        if left:
            logger.warning("Things not published yet, for more of their readings are held", things=len(left))
        return left

    def after(self, destinations: Mapping[str, Destination]) -> None:
        """Send what was held while Things were being published, now and in runs before."""
        waiting = self._stragglers.since()
        known = {thing: destinations[thing] for thing in waiting if thing in destinations}
        left = set().union(*self._send(known, _AFTER_SECONDS))
        fresh = {thing: known[thing] for thing in self._active & known.keys()}
        if fresh:
            self._sleep(_IN_FLIGHT_SECONDS)
            left = left.union(*self._send(fresh, _AFTER_SECONDS))
        oldest = time.time() * 1000 - _STRAGGLER_MILLISECONDS
        self._stragglers.remove(
            thing
            for thing, since in waiting.items()
            if thing not in left and (since < oldest or thing not in destinations)
        )

    def _send(self, things: Mapping[str, Destination], seconds: float) -> tuple[set[str], set[str]]:
        """Send pages in turns until all is sent or the time is over.

        Returns:
            Things that are known to have more, and those of which it isn't known what they have.
        """
        deadline = self._clock() + seconds

        def may_go_on() -> bool:
            return self._clock() < deadline

        turns: dict[str, str | None] = dict.fromkeys(things)
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
                turns = {thing: turn.after for thing, turn in done.items() if turn and turn.after}
                self._count(turn.counters for turn in done.values() if turn)
        left |= {thing for thing, after in turns.items() if after}
        return left, unseen | {thing for thing, after in turns.items() if not after}

    def _page(
        self, thing: str, destination: Destination, after: str | None, may_go_on: Callable[[], bool]
    ) -> _Turn | None:
        """Send one page; None when it isn't known what there is to send."""
        if not may_go_on():
            return _Turn(Counter(), after, left=True) if after else None
        try:
            page = self._items.page("unrouted", thing, _PAGE, after=after)
            if not page.items:
                return _Turn(Counter(), None, left=False)
            self._active.add(thing)
            replayed = self._replayer.send(page.items, destination, may_go_on)
        except Exception as error:  # noqa: BLE001 - one Thing's trouble must not keep others from being known
            logger.error("held readings could not be sent", thing=thing, reason=str(error))
            return None
        if replayed.cause:
            logger.warning("held readings could not be sent", thing=thing, reason=replayed.cause)
            return _Turn(replayed.counters, None, left=True)
        return _Turn(replayed.counters, page.items[-1].sk if page.more else None, left=False)

    def _count(self, results: Iterable[Counter[str]]) -> None:
        for counters in results:
            self.counters.update({f"replay_{name}": number for name, number in counters.items()})
