"""What is known of a Thing's presence, and whether an event says more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared import client_state

if TYPE_CHECKING:
    from lambdas.shared.parcel import PresenceChange

__all__ = ["Answer", "Check", "Record", "is_newer"]


class Record(NamedTuple):
    """What is known of one Thing, and survives the connector.

    Attributes:
        thing: Thing name.
        connected: what the newest event or check said of its client; None: nothing did.
        version: `versionNumber` of the newest event; None where a check said more since.
        time: when the client connected or left, by that event or check.
        client: MQTT client id that it was about; empty: none was ever seen.
        spoke: when the broker had its newest reading.
        heard: when the last event or reading came, by our clock.
        checked: when its client's state was asked for, by our clock.
        bound: whether it is kept bound.
        told: what was written to its presence property; None: nothing was.
    """

    thing: str
    connected: bool | None = None
    version: int | None = None
    time: int = 0
    client: str = ""
    spoke: int = 0
    heard: int = 0
    checked: int = 0
    bound: bool = False
    told: bool | None = None


class Check(NamedTuple):
    """A Thing whose client's state is to be asked for."""

    thing: str
    client: str


class Answer(NamedTuple):
    """What the broker says of a client.

    Attributes:
        connected: whether it is connected now.
        since: since when; None: the broker doesn't know, so it has left long ago or was never there.
    """

    connected: bool
    since: int | None


def is_newer(change: PresenceChange, record: Record) -> bool:
    """Whether an event says more than what is known."""
    if record.connected is None:
        return True
    if change.client != record.client:
        # Each client counts for itself; while one speaks for the Thing, another's leaving means nothing.
        return change.time > record.time and (change.connected or not record.connected)
    if record.version is None:
        return change.time > record.time
    return client_state.is_newer(
        client_state.ClientState(change.connected, change.time, change.version),
        client_state.ClientState(record.connected, record.time, record.version),
    )
