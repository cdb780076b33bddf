"""Which Things are bound, which shall be, and in which BIND messages: the plan, without any wire.

Where the platform checks visibility, one Thing that it may not see fails the whole BIND. So a refused
group is halved until the refused names are alone; a lone name is tried once by its identifier, since a
Thing that has one can't be bound by name; then it is parked, and tried again later and later.

    WANTED -> BINDING -> SYNCHRONISING -> READY
      ^          |             |            |  (platform asks anew: still served)
      |          +--> PARKED <-+            |
      +-------- retry ---+     connection lost: WANTED again, PARKED stays
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lambdas.thingworx.alwayson.multipart import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lambdas.thingworx.alwayson.push_types import Subscription

__all__ = ["Bindings", "BoundThing", "Phase", "groups_of"]

#: What a BIND message has beside its names: header, chunk header, gateway marker, count.
_OVERHEAD = 15 + 6 + 1 + 2
_LONG_TEXT = 128


class Phase(Enum):
    """Where a Thing is on its way to being served."""

    WANTED = "wanted"
    BINDING = "binding"
    SYNCHRONISING = "synchronising"
    READY = "ready"
    PARKED = "parked"


@dataclass(slots=True, eq=False)
class BoundThing:
    """A Thing that shall be bound.

    Attributes:
        name: Thing name.
        phase: how far it is.
        identifier: set once it is known that it can be bound by that only.
        subscriptions: edge name -> what the platform wants of it; empty before it is ready.
        reason: why it is parked.
        status: status of the refusal; 0 when no response came.
        refusals: how often in a row it was parked.
        alone: a BIND of this Thing by itself was answered with success on this connection.
        overdue: its subscriptions are to be asked for: the platform didn't begin to synchronise it in time,
            or what it sends may be of the binding before.
        stale: bound on this connection before, or perhaps: until its BIND is answered, what the platform asks
            may belong to that binding, and what is pushed is lost.
        overtaken: to be bound once more when the BIND under way is answered.
        asked: request id of the latest GetPropertySubscriptions; an older one's answer doesn't count.
        ready_at: when it became ready, by the session's clock.
    """

    name: str
    phase: Phase = Phase.WANTED
    identifier: str | None = None
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    reason: str = ""
    status: int = 0
    refusals: int = 0
    alone: bool = False
    overdue: bool = False
    stale: bool = False
    overtaken: bool = False
    asked: int = 0
    ready_at: float = 0.0

    @property
    def bind_name(self) -> str:
        """The name in BIND messages: `*` and the identifier for one that has it."""
        return self.name if self.identifier is None else f"*{self.identifier}"


class Bindings:
    """The Things of one session, across its connections.

    Attributes:
        leaving: names of Things whose UNBIND isn't answered yet, and how many of each. What the platform
            asks of such a Thing belongs to the binding that ends; it is bound anew after the answer.
    """

    def __init__(self) -> None:
        self.leaving: Counter[str] = Counter()
        self._things: dict[str, BoundThing] = {}
        self._by_identifier: dict[str, BoundThing] = {}
        self._groups: deque[list[BoundThing]] = deque()
        self._fresh: list[BoundThing] = []
        self.counts = dict.fromkeys(Phase, 0)

    def __len__(self) -> int:
        """How many shall be bound."""
        return len(self._things)

    def get(self, name: str) -> BoundThing | None:
        """The Thing of this name, if it shall be bound."""
        return self._things.get(name)

    def all(self) -> list[BoundThing]:
        """All Things that shall be bound."""
        return list(self._things.values())

    def addressed(self, entity: str) -> BoundThing | None:
        """The Thing that the platform means: by name, by identifier, or by `*` and identifier."""
        found = (
            self._things.get(entity)
            or self._by_identifier.get(entity)
            or self._by_identifier.get(entity.removeprefix("*"))
        )
        return None if found is None or found.name in self.leaving else found

    def want(self, names: Iterable[str]) -> None:
        """Add Things; those that are known already stay as they are."""
        for name in names:
            if name not in self._things:
                thing = self._things[name] = BoundThing(name)
                self.counts[Phase.WANTED] += 1
                self._fresh.append(thing)

    def drop(self, name: str) -> BoundThing | None:
        """Take a Thing out; the Thing as it was, or None."""
        thing = self._things.pop(name, None)
        if thing is not None:
            self.counts[thing.phase] -= 1
            if thing.identifier is not None:
                self._by_identifier.pop(thing.identifier, None)
        return thing

    def knows(self, thing: BoundThing) -> bool:
        """Whether this very Thing is still to be bound: it may have been dropped, and even come back."""
        return self._things.get(thing.name) is thing

    def enter(self, thing: BoundThing, phase: Phase) -> None:
        """Move a Thing to a phase."""
        self.counts[thing.phase] -= 1
        self.counts[phase] += 1
        thing.phase = phase

    def identify(self, thing: BoundThing, identifier: str) -> None:
        """From now on bind the Thing by this identifier."""
        thing.identifier = identifier
        self._by_identifier[identifier] = thing

    def unidentify(self, thing: BoundThing) -> None:
        """From now on bind the Thing by its name again: identifiers change, and names come first."""
        if thing.identifier is not None:
            self._by_identifier.pop(thing.identifier, None)
            thing.identifier = None

    def again(self, thing: BoundThing) -> None:
        """Bind a Thing by itself: one that was refused must not spoil a group again."""
        self._once_more(thing)
        self._groups.append([thing])

    def anew(self, thing: BoundThing) -> None:
        """Bind a Thing once more, with others that are to be bound."""
        self._once_more(thing)
        self._fresh.append(thing)

    def _once_more(self, thing: BoundThing) -> None:
        # Its synchronisation may come even after the next BIND's answer, and says nothing about that binding.
        thing.overdue = thing.overdue or thing.overtaken or thing.phase is Phase.SYNCHRONISING
        self.enter(thing, Phase.WANTED)
        thing.stale, thing.overtaken, thing.asked = True, False, 0

    def halve(self, group: list[BoundThing]) -> None:
        """Bind a refused group in two halves, next."""
        middle = (len(group) + 1) // 2
        for half in (group[middle:], group[:middle]):
            self._groups.appendleft(half)
        for thing in group:
            self._once_more(thing)

    def restart(self) -> None:
        """The connection is gone: all have to be bound anew, but for those that are parked."""
        self._groups.clear()
        self._fresh.clear()
        self.leaving.clear()
        for thing in self._things.values():
            thing.alone = thing.overdue = thing.stale = thing.overtaken = False
            if thing.phase is not Phase.PARKED:
                if thing.phase is not Phase.WANTED:
                    self.enter(thing, Phase.WANTED)
                self._fresh.append(thing)

    def next_group(self) -> list[BoundThing] | None:
        """The Things of the next BIND message, or None; they are BINDING from now on."""
        if self._fresh:
            self._groups.extend(groups_of(thing for thing in self._fresh if thing.name not in self.leaving))
            self._fresh = [thing for thing in self._fresh if thing.name in self.leaving]
        while self._groups:
            # Meanwhile dropped, or found to be bound: the platform has asked for them.
            group = [
                thing
                for thing in self._groups.popleft()
                if thing.phase is Phase.WANTED and self._things.get(thing.name) is thing
            ]
            if group:
                for thing in group:
                    self.enter(thing, Phase.BINDING)
                return group
        return None


def groups_of(things: Iterable[BoundThing], size: int = CHUNK_SIZE) -> list[list[BoundThing]]:
    """Things in groups whose BIND messages have at most `size` bytes, one frame."""
    groups: list[list[BoundThing]] = []
    left = 0
    for thing in things:
        length = len(thing.bind_name.encode())
        length += 4 if length >= _LONG_TEXT else 1
        if length > left:
            groups.append([])
            left = size - _OVERHEAD
        groups[-1].append(thing)
        left -= length
    return groups
