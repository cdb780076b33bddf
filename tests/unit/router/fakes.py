"""Stand-ins for the services around the router: each small, each with a way to fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lambdas.shared.client_state import ClientState, KnownClient
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.parcel import MAX_BYTES
from lambdas.shared.registry import Entry, Route
from lambdas.shared.shape import Property, Shape, shape_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from lambdas.shared.held_store import HeldReading

__all__ = ["PUMP", "PUMP_ID", "FakeClients", "FakeHeldStore", "FakeRegistry", "FakeSqs", "client_error"]

PUMP: Shape = {
    "temp": Property("NUMBER", "temp"),
    "count": Property("INTEGER", "count"),
    "running": Property("BOOLEAN", "running"),
    "serial": Property("STRING", "serial"),
}
PUMP_ID = shape_id(PUMP)


def client_error(code: str) -> ClientError:
    """What boto3 raises when a service refuses."""
    return ClientError({"Error": {"Code": code, "Message": "refused"}}, "Operation")


class FakeSqs:
    """Takes messages as FIFO queues do; checks the limits of a batch call and what is in flight.

    Args:
        verdict: queue URL, entry -> None, the code with which the entry fails, or an error to raise.
    """

    def __init__(
        self, verdict: Callable[[str, dict[str, Any]], str | Exception | None] = lambda _queue, _entry: None
    ) -> None:
        self.verdict = verdict
        self.messages: list[tuple[str, str, str]] = []  # queue URL, group, body
        self.calls = 0
        self._in_flight: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        """One call."""
        groups = [(QueueUrl, entry["MessageGroupId"]) for entry in Entries]
        assert 1 <= len(Entries) <= 10
        assert sum(len(entry["MessageBody"].encode()) for entry in Entries) <= MAX_BYTES
        assert len(set(groups)) == len(groups), "two chunks of a lane in one call"
        with self._lock:
            self.calls += 1
            assert not self._in_flight & set(groups), "two chunks of a lane in flight"
            self._in_flight |= set(groups)
        try:
            return self._take(QueueUrl, Entries)
        finally:
            with self._lock:
                self._in_flight -= set(groups)

    def bodies(self, queue_url: str, group: str) -> list[str]:
        """Messages of a lane, in order."""
        return [body for queue, lane, body in self.messages if (queue, lane) == (queue_url, group)]

    def _take(self, queue_url: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        verdicts = [self.verdict(queue_url, entry) for entry in entries]
        for verdict in verdicts:
            if isinstance(verdict, Exception):
                raise verdict
        for entry, verdict in zip(entries, verdicts, strict=True):
            if verdict:
                answer["Failed"].append({"Id": entry["Id"], "Code": verdict, "SenderFault": False})
            else:
                self.messages.append((queue_url, entry["MessageGroupId"], entry["MessageBody"]))
                answer["Successful"].append({"Id": entry["Id"], "MessageId": entry["Id"]})
        return {key: value for key, value in answer.items() if value}


class FakeRegistry:
    """Things, shapes and slots in dictionaries; `reads` counts the round trips of each kind."""

    def __init__(self, things: Mapping[str, str] | None = None, lanes: int = 8) -> None:
        slots = set((things or {}).values())
        self.things = {name: Entry(slot, PUMP_ID) for name, slot in (things or {}).items()}
        self.shape_items: dict[str, Shape] = {PUMP_ID: PUMP}
        self.slot_items = {slot: Route(queue_url(slot), lanes) for slot in slots}
        self.down = False
        self.reads: list[str] = []

    def lookup(self, names: Sequence[str]) -> list[Entry | None]:
        """Entries of Things."""
        self._read(f"things {len(names)}")
        return [self.things.get(name) for name in names]

    def shapes(self, ids: Sequence[str]) -> dict[str, Shape]:
        """Shapes by id."""
        self._read("shapes")
        return {name: self.shape_items[name] for name in ids if name in self.shape_items}

    def slots(self) -> dict[str, Route]:
        """Slots by id."""
        self._read("slots")
        return dict(self.slot_items)

    def _read(self, what: str) -> None:
        if self.down:
            raise RegistryUnavailable("can't read: ConnectionError")
        self.reads.append(what)


class FakeClients:
    """Remembers clients in dictionaries; `reads` and `writes` count the calls."""

    def __init__(self) -> None:
        self.things: dict[str, set[str]] = {}
        self.states: dict[str, ClientState] = {}
        self.down = False
        self.full = False
        self.reads = 0
        self.writes = 0

    def read(self, names: Collection[str]) -> dict[str, KnownClient]:
        """What is remembered."""
        if self.down:
            raise RegistryUnavailable("can't read clients: ConnectionError")
        self.reads += 1
        return {name: KnownClient(sorted(self.things.get(name, ())), self.states.get(name)) for name in names}

    def write(self, spoke: Mapping[str, Collection[str]], states: Mapping[str, ClientState]) -> None:
        """Remember."""
        if self.full:
            raise RegistryUnavailable("can't note clients: OutOfMemoryError")
        self.writes += 1
        for client, things in spoke.items():
            self.things.setdefault(client, set()).update(things)
        self.states.update(states)


class FakeHeldStore:
    """Keeps readings by key; drops those whose reason has no room, fails while `error` is set."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], HeldReading] = {}
        self.room: dict[str, int] = {}
        self.error: Exception | None = None

    def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
        """Store them, or say how many had no room."""
        if self.error is not None:
            raise self.error
        dropped: dict[str, int] = {}
        for item in items:
            room = self.room.get(item.reason)
            if room == 0:
                dropped[item.reason] = dropped.get(item.reason, 0) + 1
                continue
            if room is not None:
                self.room[item.reason] = room - 1
            self.items[item.state, item.id] = item
        return dropped


def queue_url(slot: str) -> str:
    """URL of a slot's queue."""
    return f"https://sqs.us-east-1.amazonaws.com/000000000000/demo-slot-{slot}.fifo"
