"""Times of a property's values: no two values in one millisecond, and late ones told from current ones.

ThingWorx keeps one value of a property and millisecond, and shows the value with the latest time as the
current one. So of two values in one millisecond the later gets the next one, and a value that was
written in ThingWorx comes back with a time that makes it current without hiding the device's next one.
A reading that comes again before ThingWorx has answered for it has the times of before: it may be stored.

A successor goes on where its predecessor ended (`last`), or the next value of a millisecond, a second with
devices that tell no more, would overwrite the first. It knows no readings of before: one that comes again
and isn't its property's last value is stored once more, which is better than one overwritten.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lambdas.thingworx.infotable import ValueRow

__all__ = ["LastTime", "PushTimes", "Timed"]

#: Properties that are remembered; of the Thing that was silent for longest they are forgotten first.
_MOST_PROPERTIES = 200_000
#: Readings not answered for whose times are remembered; those that came first are forgotten first.
_MOST_READINGS = 20_000
#: Age of a Thing's latest reading at its arrival from which its times aren't taken for the broker's.
_BEHIND_MS = 5_000
#: How long after a reading another may come with the same time, in times and in arrivals.
_FOLLOWS_MS = 60_000
#: Longest text that a successor gets as a last value.
_MOST_TEXT = 64
_NEVER = -1
#: Equals no value.
_UNKNOWN = object()


class Timed(NamedTuple):
    """A reading's rows with the times they are pushed with.

    Attributes:
        rows: the rows, in the order they were given.
        shifted: how many have another time than they came with.
        late: whether one is older than what had been delivered of its property.
    """

    rows: list[ValueRow]
    shifted: int
    late: bool


class LastTime(NamedTuple):
    """The newest delivered value of a property.

    Attributes:
        at: the time that it came with.
        given: the time that it was pushed with; the next value that came with `at` gets a later one.
        value: the value, where it is a number, a boolean or a short text; else None.
    """

    at: int
    given: int
    value: float | str | None = None


class _Moment:
    """The last millisecond in which a property had a value.

    Attributes:
        at: the time that its values came with.
        last: the time that the last of them was given.
        value: the last of them.
    """

    __slots__ = ("at", "last", "value")

    def __init__(self, at: int, value: Any) -> None:
        self.at = self.last = at
        self.value = value

    def place(self, at: int, value: Any) -> int:
        """A time for a value that came with `at`; the very same value again has the same time.

        Only the last one: an earlier value again may be new (on, off, on), and must become current.
        """
        if not self.at <= at <= self.last:
            return at
        return self.last if at == self.at and value == self.value else self.last + 1

    def keep(self, at: int, given: int, value: Any) -> None:
        self.at, self.last, self.value = at, given, value


class _Property:
    __slots__ = ("came_with", "delivered", "late", "newest")

    def __init__(self) -> None:
        #: Newest time that the platform has taken, and the time that its value came with.
        self.delivered = self.came_with = _NEVER
        self.newest: _Moment | None = None
        #: Last of the values that were older than the newest.
        self.late: _Moment | None = None

    def place(self, at: int, value: Any) -> int:
        """A time of its own for a value that came with `at`."""
        given = at
        for moment in (self.newest, self.late):
            if moment is not None:
                given = max(given, moment.place(at, value))
        if self.newest is None:
            self.newest = _Moment(at, value)
        elif at >= self.newest.at:
            self.newest.keep(at, given, value)
        elif self.late is None:
            self.late = _Moment(at, value)
        else:
            self.late.keep(at, given, value)
        return given

    def taken(self, at: int, given: int) -> None:
        """The platform has a value that came with `at` and was pushed as of `given`."""
        if given > self.delivered:
            self.came_with, self.delivered = at, given

    def last(self, since: int) -> LastTime | None:
        """What a successor needs, if another value may come with this time, which is not before `since`."""
        at, given = self.came_with, self.delivered
        if given == _NEVER or at < since or (given == at and at % 1000):
            return None
        value = self.newest.value if self.newest is not None and self.newest.last == given else None
        short = isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _MOST_TEXT)
        return LastTime(at, given, value if short else None)

    def restore(self, last: LastTime) -> None:
        self.taken(last.at, last.given)
        newest = self.newest
        if newest is None or (newest.at, newest.last) < (last.at, last.given):
            value = _UNKNOWN if last.value is None else last.value
            newest = self.newest = _Moment(last.at, value)
            newest.last = last.given


class _Thing:
    __slots__ = ("came", "lag", "newest", "properties")

    def __init__(self) -> None:
        self.properties: dict[str, _Property] = {}
        #: Newest time of all its readings, and how long ago that was when it arrived.
        self.newest = _NEVER
        self.lag = 0
        #: When one of them came last, by our clock.
        self.came = _NEVER

    def of(self, edge: str) -> _Property:
        found = self.properties.get(edge)
        if found is None:
            found = self.properties[edge] = _Property()
        return found


class PushTimes:
    """Times of all Things of one connector, by Thing and edge name.

    Args:
        clock: seconds since 1970.
        most_properties: how many are remembered.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, *, most_properties: int = _MOST_PROPERTIES
    ) -> None:
        self._clock = clock
        self._most = most_properties
        self._things: OrderedDict[str, _Thing] = OrderedDict()
        self._properties = 0
        #: When a reading came last.
        self._came = _NEVER
        #: Reading id -> edge name -> time given.
        self._given: OrderedDict[str, dict[str, int]] = OrderedDict()

    def arrange(self, thing: str, reading: str, rows: Sequence[ValueRow]) -> Timed:
        """Give the rows of one reading their times; a Thing's readings come here in time order.

        To be called each time that a reading comes, however often it is pushed then; until it is `settled`,
        it has the same times again.
        """
        known = self._known(thing)
        before = self._given.pop(reading, {})
        self._given[reading] = given_now = {}
        if len(self._given) > _MOST_READINGS:
            self._given.popitem(last=False)
        arranged: list[ValueRow] = []
        shifted = 0
        late = False
        for row in rows:
            entry = known.of(row.name)
            at = row.time
            given = before[row.name] if row.name in before else entry.place(at, row.value)
            given_now[row.name] = given
            late = late or given < entry.delivered
            if given != at:
                shifted += 1
                row = row._replace(time=given)  # noqa: PLW2901 - the row as it is pushed
            arranged.append(row)
        known.came = self._came = now = self._now()
        if rows and rows[-1].time >= known.newest:
            known.newest = rows[-1].time
            known.lag = now - known.newest
        self._bound(known, thing)
        return Timed(arranged, shifted, late)

    def settled(self, reading: str) -> None:
        """The platform has answered for this reading."""
        self._given.pop(reading, None)

    def delivered(self, thing: str, rows: Iterable[ValueRow], came_with: int | None = None) -> None:
        """The platform has taken these rows, with the times that `arrange` or `echo` gave them.

        Args:
            thing: Thing name.
            rows: as they were pushed.
            came_with: the time that they came with, if that may be another.
        """
        known = self._things.get(thing)
        if known is None:
            return
        for row in rows:
            entry = known.properties.get(row.name)
            if entry is not None:
                entry.taken(row.time if came_with is None else came_with, row.time)

    def echo(self, thing: str, edge: str, value: Any) -> int:
        """A time for a value that was written in ThingWorx.

        It is now; for a Thing whose own times are behind, just after the last one that came, or now by
        its clock where none came to this connector: what the device sends next must become current again.
        Always later than anything of this property.
        """
        known = self._known(thing)
        entry = known.of(edge)
        at = self._now()
        if known.lag > _BEHIND_MS:
            at = at - known.lag if known.newest == _NEVER else known.newest + 1
        if entry.newest is not None:
            at = max(at, entry.newest.last + 1)
        at = max(at, entry.delivered + 1)
        entry.newest = _Moment(at, value)
        self._bound(known, thing)
        return at

    def ahead(self) -> dict[str, dict[str, int]]:
        """Times delivered that are still to come, by Thing and edge name: a successor needs them."""
        now = self._now()
        found = {
            thing: {
                edge: entry.delivered for edge, entry in known.properties.items() if entry.delivered > now
            }
            for thing, known in self._things.items()
        }
        return {thing: times for thing, times in found.items() if times}

    def last(self) -> dict[str, dict[str, LastTime]]:
        """Times delivered that more values may come with, by Thing and edge name: a successor needs them.

        Those are times that were moved on, and whole seconds, since a device may tell no more; only of the
        minute before the last arrival, however long ago that was: what waits now follows on it.
        """
        found = {
            thing: {
                edge: last
                for edge, entry in known.properties.items()
                if (last := entry.last(known.newest - _FOLLOWS_MS)) is not None
            }
            for thing, known in self._things.items()
            if known.came >= self._came - _FOLLOWS_MS
        }
        return {thing: times for thing, times in found.items() if times}

    def lags(self) -> dict[str, int]:
        """How far the times of Things are behind, those that are, in steps of 5 s; for a successor."""
        return {
            thing: known.lag // _BEHIND_MS * _BEHIND_MS
            for thing, known in self._things.items()
            if known.lag > _BEHIND_MS
        }

    def restore_lag(self, thing: str, lag: int) -> None:
        """Take over how far a Thing's times are behind, until its next reading tells."""
        known = self._known(thing)
        if known.newest == _NEVER:
            known.lag = lag
        self._bound(known, thing)

    def restore(self, thing: str, edge: str, at: int) -> None:
        """Take over a time that another connector has delivered."""
        known = self._known(thing)
        known.of(edge).taken(at, at)
        self._bound(known, thing)

    def restore_last(self, thing: str, edge: str, last: LastTime) -> None:
        """Go on after the newest value that another connector has delivered."""
        known = self._known(thing)
        known.of(edge).restore(last)
        # As if it had come here: a connector that soon ends again leaves it to the next.
        known.came = self._came = self._now()
        self._bound(known, thing)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _known(self, thing: str) -> _Thing:
        known = self._things.get(thing)
        if known is None:
            known = self._things[thing] = _Thing()
        else:
            self._things.move_to_end(thing)
        # Counted again in `_bound`, after the caller has added to it.
        self._properties -= len(known.properties)
        return known

    def _bound(self, known: _Thing, thing: str) -> None:
        self._properties += len(known.properties)
        while self._properties > self._most and next(iter(self._things)) != thing:
            _, oldest = self._things.popitem(last=False)
            self._properties -= len(oldest.properties)
