"""Which Things of a slot are bound: presence events, readings and checks in, binds and unbinds out.

No I/O, and the clock is given: times are milliseconds since 1970 UTC, `now` is this machine's clock.

A Thing is alive while its client is connected, or when it has spoken since the client left. Alive
Things are bound; one that is alive no longer stays bound for `unbind_delay` (the AWS IoT developer guide
advises to wait before acting on a disconnect), and while something is being delivered to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lambdas.connector.presence_record import Answer, Check, Record, is_newer
from lambdas.thingworx.alwayson.deadlines import Deadlines

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from lambdas.shared.parcel import PresenceChange

__all__ = ["Actions", "Presence", "Tell"]

#: A last will is published by the broker, a moment after the disconnect: it doesn't count as a sign of life.
_LAST_WILL_MS = 1000
#: How long a Thing is believed without a sign of it, until its client's state is asked for.
_CHECK_MS = 3_600_000
#: How much older a stored `heard` may be than the true one.
_HEARD_MS = 1_800_000
#: How long the broker knows when a client has left (IoT data plane, GetConnection: `disconnectedSince`).
_LEFT_KNOWN_MS = 1_800_000
#: What a new connector gives each Thing before it takes it for silent: readings have to come first.
_GRACE_MS = 60_000


class Tell(NamedTuple):
    """A presence to be written to a Thing's property; `Presence.told` has to follow."""

    thing: str
    connected: bool
    time: int


class Actions(NamedTuple):
    """What to do now; in this order."""

    bind: list[str]
    tell: list[Tell]
    unbind: list[str]


@dataclass(slots=True)
class _Thing:
    record: Record
    assigned: bool
    #: What the store has of `heard`; None: it has no record.
    saved_heard: int | None = None
    #: When the last event or check was taken.
    taken_at: int = 0
    #: Deliveries under way: it can't be unbound meanwhile.
    holds: int = 0
    #: Whether the transport has been told to keep it bound, and whether a delivery may have bound it.
    linked: bool = False
    touched: bool = False
    telling: bool = False


class Presence:
    """Presence of a slot's Things.

    Args:
        unbind_delay: how long a Thing stays bound after its client has left, in ms.
        silence: without a sign for so long a Thing isn't alive until its next reading, in ms; 0: never.
        tells: whether presence is written to a property.
        counters: `presence_taken`, `presence_stale`, `presence_bound`, `presence_unbound`.
    """

    def __init__(
        self, *, unbind_delay: int, silence: int = 0, tells: bool = False, counters: Counter[str]
    ) -> None:
        self._unbind_delay = unbind_delay
        self._silence = silence
        self._tells = tells
        self._counters = counters
        self._things: dict[str, _Thing] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._actions = Actions([], [], [])
        self._changed: set[str] = set()
        self._forgotten: set[str] = set()
        self._loaded_at = 0

    def load(self, records: Iterable[Record], now: int) -> None:
        """Take what the store has, instead of all that was known; not while anything is being delivered."""
        before = self.wanted()
        self._loaded_at = now
        self._deadlines.clear()
        self._things = {
            record.thing: _Thing(record, assigned=True, saved_heard=record.heard, taken_at=now)
            for record in records
        }
        self._actions.unbind.extend(sorted(before - self.wanted()))
        for thing in self._things.values():
            self._settle(thing, now)

    def wanted(self) -> frozenset[str]:
        """Things that are to be bound now."""
        return frozenset(name for name, thing in self._things.items() if thing.record.bound)

    def assign(self, names: frozenset[str], now: int) -> None:
        """Follow the assignment: Things that are not of the slot are forgotten and unbound."""
        for name in [name for name in self._things if name not in names]:
            thing = self._things[name]
            if not thing.holds:  # or at the next look
                self._forget(thing)
        for name in sorted(names):
            thing = self._known(name)
            if not thing.assigned:
                thing.assigned = True
                self._settle(thing, now)

    def take(self, changes: Iterable[PresenceChange], now: int) -> None:
        """Take events, in any order and any number of times."""
        for change in changes:
            thing = self._known(change.thing)
            if not is_newer(change, thing.record):
                self._counters["presence_stale"] += 1
                continue
            self._counters["presence_taken"] += 1
            self._set(
                thing,
                thing.record._replace(
                    connected=change.connected,
                    version=change.version,
                    time=change.time,
                    client=change.client,
                    heard=now,
                ),
                now,
            )

    def begin(self, name: str, newest: int, now: int) -> None:
        """Readings of a Thing are about to be pushed; `end` has to follow.

        Args:
            name: Thing.
            newest: when the broker had the newest of them. When it is no news, they tell nothing about now.
            now: clock.
        """
        thing = self._known(name)
        thing.holds += 1
        thing.touched = True
        if newest > thing.record.spoke:
            thing.record = thing.record._replace(spoke=newest, heard=now)
            if now - (thing.saved_heard or 0) > _HEARD_MS:
                self._changed.add(name)
        self._settle(thing, now)

    def end(self, name: str, now: int) -> None:
        """The delivery has ended, however it did."""
        thing = self._things[name]
        thing.holds -= 1
        self._settle(thing, now)

    def told(self, tell: Tell, now: int, *, done: bool = True) -> None:
        """A `Tell` is done, or there is nowhere to write it to; or it was given up and is due again."""
        thing = self._things[tell.thing]
        thing.holds -= 1
        thing.telling = False
        if done:
            thing.record = thing.record._replace(told=tell.connected)
            self._changed.add(tell.thing)
            self._settle(thing, now)

    def to_check(self, now: int) -> list[Check]:
        """Things whose client is to be asked for: new ones, and those long without a sign."""
        return [
            Check(name, thing.record.client or name)
            for name, thing in self._things.items()
            if thing.assigned and _is_doubtful(thing.record, now)
        ]

    def answered(self, check: Check, answer: Answer, asked: int, now: int) -> None:
        """Take the broker's answer to a check that was sent at `asked`."""
        thing = self._things.get(check.thing)
        if thing is None:
            return
        thing.record = thing.record._replace(checked=now)
        self._changed.add(check.thing)
        since = answer.since
        if since is None:
            since = asked if answer.connected else asked - _LEFT_KNOWN_MS
        if answer.connected is thing.record.connected or thing.taken_at > asked:
            return
        if not answer.connected and thing.record.connected and thing.record.time > since:
            return
        seen = answer.connected or answer.since is not None
        self._set(
            thing,
            thing.record._replace(
                connected=answer.connected,
                version=None,
                time=since,
                client=check.client if seen else thing.record.client,
                heard=now if seen else thing.record.heard,
            ),
            now,
        )

    def again(self, now: int) -> None:
        """What was given up is due again."""
        for thing in self._things.values():
            self._settle(thing, now)

    def tick(self, now: int) -> None:
        """Do what is due."""
        for name in self._deadlines.passed(now):
            if name in self._things:
                self._settle(self._things[name], now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        return self._deadlines.next()

    def actions(self) -> Actions:
        """What to do now; each is given once."""
        actions, self._actions = self._actions, Actions([], [], [])
        return actions

    def changed(self, *, last: bool = False) -> tuple[list[Record], list[str]]:
        """Records to be stored, and names to be removed from the store; each is given once.

        Args:
            last: nothing follows: then also what is worth storing only once.
        """
        names = self._changed & self._things.keys()
        if last and self._silence:
            names |= {
                name
                for name, thing in self._things.items()
                if thing.saved_heard not in (None, thing.record.heard)
            }
        records = [self._things[name].record for name in sorted(names)]
        for record in records:
            self._things[record.thing].saved_heard = record.heard
        forgotten = sorted(self._forgotten - self._things.keys())
        self._changed.clear()
        self._forgotten.clear()
        return records, forgotten

    def not_stored(self, records: Iterable[Record], forgotten: Iterable[str]) -> None:
        """What `changed` gave could not be stored: it is given again."""
        self._changed.update(record.thing for record in records)
        self._forgotten.update(forgotten)

    def _known(self, name: str) -> _Thing:
        thing = self._things.get(name)
        if thing is None:
            thing = self._things[name] = _Thing(Record(name), assigned=False)
        return thing

    def _set(self, thing: _Thing, record: Record, now: int) -> None:
        thing.record = record
        thing.taken_at = now
        self._changed.add(record.thing)
        self._settle(thing, now)

    def _forget(self, thing: _Thing) -> None:
        name = thing.record.thing
        del self._things[name]
        self._deadlines.discard(name)
        if thing.linked or thing.touched:
            self._actions.unbind.append(name)
        self._forgotten.add(name)

    def _settle(self, thing: _Thing, now: int) -> None:
        """Decide about one Thing after anything that happened to it."""
        name, alive = thing.record.thing, _is_alive(thing)
        until = self._bound_until(thing, alive=alive)
        bound = thing.record.bound
        if alive and not bound and (until is None or now < until):
            self._turn(thing, bound=True)
        elif bound and until is not None and now >= until:
            self._turn(thing, bound=False)
        if thing.record.bound and until is not None:
            self._deadlines.set(name, until)
        else:
            self._deadlines.discard(name)
        self._tell(thing, now)
        if thing.record.bound and not thing.linked:
            thing.linked = True
            self._actions.bind.append(name)
        elif not thing.record.bound and not thing.holds and (thing.linked or thing.touched):
            thing.linked = thing.touched = False
            self._actions.unbind.append(name)

    def _bound_until(self, thing: _Thing, *, alive: bool) -> int | None:
        if not alive:
            return thing.taken_at + self._unbind_delay
        if not self._silence:
            return None
        return max(thing.record.heard + self._silence, self._loaded_at + _GRACE_MS)

    def _turn(self, thing: _Thing, *, bound: bool) -> None:
        self._counters["presence_bound" if bound else "presence_unbound"] += 1
        thing.record = thing.record._replace(bound=bound)
        self._changed.add(thing.record.thing)

    def _tell(self, thing: _Thing, now: int) -> None:
        record = thing.record
        # Nothing was told of a Thing that was never there.
        if not self._tells or thing.telling or bool(record.told) is record.bound:
            return
        thing.telling = thing.touched = True  # telling binds, also to say that a Thing is away
        thing.holds += 1
        if record.bound:
            at = record.time if record.connected else record.spoke
        else:
            at = now if record.connected else record.time
        self._actions.tell.append(Tell(record.thing, record.bound, at))


def _is_alive(thing: _Thing) -> bool:
    record = thing.record
    if record.connected is False:
        return record.spoke > record.time + _LAST_WILL_MS
    # An event doesn't bind a Thing that isn't of the slot: it may be another connector's by now.
    return bool(record.connected and thing.assigned) or record.spoke > 0


def _is_doubtful(record: Record, now: int) -> bool:
    if record.connected is None and not record.checked:
        return True
    return max(record.heard, record.checked) <= now - _CHECK_MS
