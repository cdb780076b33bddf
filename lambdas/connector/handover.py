"""How a slot goes from one connector to the next without its Things being seen to go away.

Both are connected. The incumbent has stopped receiving and has nothing under way; it offers the lease.
Which of two connections has a Thing is the platform's policy, so the successor tries it with one Thing
that the incumbent has bound:

    last-in-wins    it binds all of them: they change hands without being disconnected
    first-in-wins   group by group, the incumbent unbinds and the successor binds: each is away for
                    the time of a few messages

Then the successor takes the lease; the incumbent closes, without UNBIND. Each step has a time limit. An
incumbent that sees nothing happen takes the lease back and serves on; a successor that does takes the
lease, and binds when the platform lets it. The table decides between them: `lease` says why both can't
win.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Call", "HandsOver", "Patience", "group_of", "groups_for"]

#: Runs a blocking call of the lease in a thread.
Call: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]

#: Things of a group, about: their names share one frame, and one answer. Each group takes some writes and
#: reads of the table, while readings wait; a larger one is away for longer.
_GROUP = 200
#: Bounds how long the Things of a large slot take, at some ten milliseconds a group.
_MOST_GROUPS = 50


class Patience(NamedTuple):
    """How long each step of a hand-over may take, in seconds.

    Attributes:
        probe: the first Thing, from BIND until it is synchronised.
        step: any other step of the other connector, or of the platform.
        sign: how long the incumbent waits for a sign of the successor: for more than a probe and a step.
        poll: pause between two looks at the slot.
    """

    probe: float = 1.5
    step: float = 3.0
    sign: float = 6.0
    poll: float = 0.02


@runtime_checkable
class HandsOver(Protocol):
    """A transport whose Things can change hands."""

    def bind(self, things: Iterable[str]) -> None:
        """Keep these Things bound; returns at once."""

    def unbind(self, things: Iterable[str]) -> None:
        """Bind these Things no longer; returns at once."""

    def rebind(self, things: Iterable[str]) -> None:
        """Bind these once more, whoever has them now; returns at once."""

    def bound_things(self) -> list[str]:
        """Things that the platform has bound here; surely bound ones first."""

    async def release(self, things: Iterable[str]) -> None:
        """Unbind these Things and wait for the platform's answer; raises without one."""

    async def bound(self, things: Iterable[str]) -> None:
        """Wait until the platform has answered a BIND for each; raises without connection."""

    async def ready(self, thing: str) -> object:
        """Wait until a Thing is bound and synchronised; raises when it can't be."""


def group_of(thing: str, groups: int) -> int:
    """The group of a Thing: the same for both connectors, though one may know Things the other doesn't."""
    return zlib.crc32(thing.encode()) % groups


def groups_for(things: int) -> int:
    """In how many groups so many Things are handed over."""
    return min(_MOST_GROUPS, -(-things // _GROUP))
