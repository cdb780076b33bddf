"""What happened in one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Client", "HeldPut", "History", "Hold", "Offer", "Sent", "Write", "line", "timeline"]


class Offer(NamedTuple):
    """A reading that a device published.

    Attributes:
        thing: Thing name.
        reading: id of the reading.
        time: its time, unique for its Thing.
        values: what must arrive, by property.
        optional: what may arrive: properties that the Thing may not have had then.
        broken: the payload is no reading; it must be held.
        twice: id of another record with the same reading, for a device that published it twice.
    """

    thing: str
    reading: str
    time: int
    values: Mapping[str, Any]
    optional: Mapping[str, Any] = {}
    broken: bool = False


class Write(NamedTuple):
    """A value that the platform stored: by which process, over which session, when its frame arrived."""

    sequence: int
    thing: str
    property: str
    value: Any
    time: int
    service: str
    client: str
    session: int
    arrived: float


class HeldPut(NamedTuple):
    """An item that was put into the held table."""

    at: float
    state: str
    thing: str
    reading: str
    reason: str
    caller: str


class Hold(NamedTuple):
    """A slot's lease after a change: `owner` is empty when nobody has it."""

    at: float
    slot: str
    owner: str
    until: float
    caller: str
    state: str


class Sent(NamedTuple):
    """A message that a slot queue took."""

    at: float
    queue: str
    group: str
    readings: tuple[str, ...]
    replay: str = ""


class Client(NamedTuple):
    """A process: when it was killed (0: never), its counters by stage, in the order it reported them."""

    killed: float
    counters: list[tuple[str, dict[str, int]]]


@dataclass
class History:
    """Everything that was noted of one run.

    Attributes:
        offers: what was published.
        writes: what the platform stored, in order.
        puts: what was put into the held table, in order.
        held: what is in the held table at the end.
        holds: changes of leases, in order.
        sent: what the slot queues took, in order.
        clients: processes by name.
        slots: the slots that each Thing ever had.
        values: current values and times at the end, by Thing and property.
        settled: readings that the router's completed invocations settled.
        crashes: invocations that ended with an error of the code itself: environment, error and text.
        stuck: why the run didn't come to rest; empty when it did.
        deaf: spans in which the platform read nothing: what arrives after one may have been sent before it.
        pace: by what all times were stretched.
    """

    offers: list[Offer] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    puts: list[HeldPut] = field(default_factory=list)
    held: list[HeldPut] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    clients: dict[str, Client] = field(default_factory=dict)
    slots: dict[str, set[str]] = field(default_factory=dict)
    values: dict[str, dict[str, tuple[Any, int]]] = field(default_factory=dict)
    settled: int = 0
    crashes: list[str] = field(default_factory=list)
    stuck: str = ""
    deaf: list[tuple[float, float]] = field(default_factory=list)
    pace: float = 1.0


def line(write: Write) -> str:
    """A write in one line, for people."""
    return (
        f"#{write.sequence} {write.thing}.{write.property}={write.value}@{write.time} "
        f"({write.client}, session {write.session})"
    )


def timeline(history: History, things: Iterable[str]) -> str:
    """What happened to some Things, for people: offers, writes and puts of each, in order of time."""
    wanted = set(things)
    lines = [(w.arrived, f"stored   {line(w)}") for w in history.writes if w.thing in wanted]
    lines += [
        (put.at, f"held     {put.thing} {put.reading} {put.state} {put.reason} by {put.caller}")
        for put in history.puts
        if put.thing in wanted
    ]
    lines += [(hold.at, f"lease    slot {hold.slot}: {_lease(hold)}") for hold in history.holds]
    return "\n".join(f"{at:.3f} {text}" for at, text in sorted(lines))


def _lease(hold: Hold) -> str:
    return f"{hold.state}, owner {hold.owner or 'nobody'} until {hold.until:.3f}, by {hold.caller}"
