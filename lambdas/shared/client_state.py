"""What is known of MQTT clients, and which of two lifecycle events says more.

AWS IoT's lifecycle events may be duplicated, come in any order, and carry times that are some minutes
off. `versionNumber` orders them, connect before disconnect, until it begins again at 0 once the client
was away for about an hour (AWS IoT developer guide, "Lifecycle events"). So events less than ten minutes
apart are ordered by version, others by time.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NOTHING_KNOWN", "ClientState", "KnownClient", "is_newer"]

#: Further apart than clocks can be wrong, nearer than the broker forgets a version number.
_EPOCH_MS = 600_000


class ClientState(NamedTuple):
    """The presence of a client by one lifecycle event.

    Attributes:
        connected: false when it has left.
        time: the event's, milliseconds since 1970, UTC.
        version: the event's `versionNumber`.
    """

    connected: bool
    time: int
    version: int


class KnownClient(NamedTuple):
    """What is remembered of a client: the Things it spoke for, sorted, and its presence if no Thing was."""

    things: list[str]
    state: ClientState | None


#: Of a client that nothing is remembered of.
NOTHING_KNOWN = KnownClient([], None)


def is_newer(event: ClientState, known: ClientState | None) -> bool:
    """Whether an event says more than what is known; a duplicate doesn't."""
    if known is None:
        return True
    apart = event.time - known.time
    if abs(apart) > _EPOCH_MS:
        return apart > 0
    return (event.version, not event.connected) > (known.version, not known.connected)
