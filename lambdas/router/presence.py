"""Lifecycle events of clients to changes of presence of the Things that they speak for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.client_state import NOTHING_KNOWN, ClientState, is_newer
from lambdas.shared.pack import Routed
from lambdas.shared.parcel import PresenceChange, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Protocol

    from lambdas.router.envelope import Presence
    from lambdas.router.routes import Destination
    from lambdas.shared.client_state import KnownClient

    class ClientMemory(Protocol):
        """What is needed of `lambdas.shared.clients.Clients`."""

        def read(self, names: Collection[str]) -> dict[str, KnownClient]:
            """What is remembered of clients."""

        def write(self, spoke: Mapping[str, Collection[str]], states: Mapping[str, ClientState]) -> None:
            """Note the Things that clients spoke for, and the presence of clients."""


__all__ = ["PresenceRoutes", "Spoken", "route_presence"]

#: How often a process notes again that a client speaks for a Thing: often enough to be remembered.
_NOTE_AGAIN_SECONDS = 86_400
_MOST_NOTED = 200_000


class Spoken:
    """Who spoke for whom, as far as this process has noted it.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: set[tuple[str, str]] = set()
        self._since = clock()

    def unnoted(self, pairs: Collection[tuple[str, str]]) -> dict[str, set[str]]:
        """Client -> Things, of the pairs of client and Thing that are to be noted."""
        now = self._clock()
        if now - self._since >= _NOTE_AGAIN_SECONDS or len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
            self._since = now
        found: dict[str, set[str]] = {}
        for client, thing in pairs:
            if (client, thing) not in self._noted:
                found.setdefault(client, set()).add(thing)
        return found

    def note(self, pairs: Collection[tuple[str, str]]) -> None:
        """These are noted."""
        self._noted.update(pairs)


class PresenceRoutes(NamedTuple):
    """What becomes of lifecycle events.

    Attributes:
        routed: changes on their way, in the order of their records.
        unknown: newest state of clients that no Thing is known for, where it is news.
        unrouted: positions of the events of clients that no Thing is known for.
    """

    routed: list[Routed]
    unknown: dict[str, ClientState]
    unrouted: list[int]


def route_presence(
    events: Mapping[int, Presence],
    known: Mapping[str, KnownClient],
    pairs: Collection[tuple[str, str]],
    destinations: Mapping[str, Destination],
) -> PresenceRoutes:
    """A change for the Thing of the client's name and for each that it spoke for, as far as there are any.

    Args:
        events: by position of the record.
        known: what is remembered of the clients.
        pairs: client and Thing, as spoken for in this very batch.
        destinations: of all Things that the registry knows, at least among those named here.
    """
    spoken: dict[str, set[str]] = {}
    for client, thing in pairs:
        spoken.setdefault(client, set()).add(thing)
    routes = PresenceRoutes([], {}, [])
    for position, event in events.items():
        remembered = known.get(event.client, NOTHING_KNOWN)
        names = {event.client, *remembered.things, *spoken.get(event.client, ())}
        things = sorted(name for name in names if name in destinations)
        for thing in things:
            to = destinations[thing]
            change = PresenceChange(thing, event.connected, event.time, event.version, event.client, event.id)
            routes.routed.append(Routed(position, change, to.slot, lane_of(thing, to.lanes)))
        if not things:
            routes.unrouted.append(position)
            state = ClientState(event.connected, event.time, event.version)
            if is_newer(state, routes.unknown.get(event.client, remembered.state)):
                routes.unknown[event.client] = state
    return routes
