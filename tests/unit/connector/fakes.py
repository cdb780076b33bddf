"""Small stand-ins for what a connector talks to; each is driven by a function or a list."""

# ruff: noqa: D102 - the methods are those of what they stand for
from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lambdas.connector.backlog import Backlog
from lambdas.connector.slot_queue import Message
from lambdas.shared.held_items import HeldItem, Page
from lambdas.shared.parcel import Reading, encode
from lambdas.shared.shape import Property
from lambdas.thingworx.transport import PushResult, unchecked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lambdas.connector.stop import Stop
    from lambdas.shared.held_store import HeldReading
    from lambdas.thingworx.infotable import ValueRow
    from lambdas.thingworx.transport import Check

SHAPES = {"s": {"temp": Property("NUMBER", "Temp")}}
_DEADLINE_SECONDS = 10.0


def reading(thing: str, at: int, reading_id: str | None = None, **values: Any) -> Reading:
    return Reading(thing, at, reading_id or f"0:{thing}:{at}", "s", values or {"temp": float(at)})


def message(lane: str, *readings: Reading, message_id: str | None = None) -> Message:
    body = encode(readings, SHAPES).decode()
    name = message_id or f"m-{readings[0].id}"
    return Message(id=name, lane=lane, body=body, receipt=f"receipt-{name}")


def refused(code: str, operation: str = "Anything") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{code}, as told to"}}, operation)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.001)


class FakeTransport:
    """A platform: `answer(thing, rows)` raises or returns; what it accepted is in `accepted`.

    Attributes:
        result: what is answered to each push that is accepted, by its rows.
        bound_after: Thing -> seconds until it is ready.
    """

    limits = "none, it is not real"

    def __init__(
        self, answer: Callable[[str, Sequence[ValueRow]], Awaitable[None] | None] | None = None
    ) -> None:
        self._answer = answer
        self.accepted: list[tuple[str, list[ValueRow]]] = []
        self.tried: list[tuple[str, list[ValueRow]]] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.opened = self.closed = False
        self.result: Callable[[Sequence[ValueRow]], PushResult] = lambda _: PushResult()
        self.bound_after: dict[str, float] = {}

    async def open(self) -> None:
        self.opened = True

    async def ready(self, thing: str) -> None:
        await asyncio.sleep(self.bound_after.get(thing, 0))

    async def push(self, thing: str, rows: Sequence[ValueRow], check: Check = unchecked) -> PushResult:
        check()
        self.tried.append((thing, list(rows)))
        self.under_way[thing] += 1
        self.most_under_way |= self.under_way
        try:
            await asyncio.sleep(0)
            waits = self._answer(thing, rows) if self._answer else None
            if waits is not None:
                await waits
            self.accepted.append((thing, list(rows)))
            return self.result(rows)
        finally:
            self.under_way[thing] -= 1

    async def close(self) -> None:
        self.closed = True

    def times(self, thing: str) -> list[int]:
        return [row.time for name, rows in self.accepted for row in rows if name == thing]


class FakeHeld:
    """A held store of so much room; it fails while `failures` lasts."""

    def __init__(self, *, room: int = 10**9, failures: int = 0) -> None:
        self.held: list[HeldReading] = []
        self.room = room
        self.failures = failures
        self.calls = 0

    def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise refused("ThrottlingException")
        kept = items[: self.room]
        self.room -= len(kept)
        self.held.extend(kept)
        lost = items[len(kept) :]
        return dict(Counter(item.reason for item in lost))


class FakeBacklog:
    """Markers, and the parked readings of a `FakeHeld`; it fails while `failures` lasts.

    Attributes:
        marks: Thing -> reason.
        calls: method and Thing of each call, in order.
        elsewhere: Things of other slots, or of none.
    """

    def __init__(self, held: FakeHeld, **marks: str) -> None:
        self.marks = dict(marks)
        self.elsewhere: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.failures = 0
        self._held = held

    def things(self) -> dict[str, str]:
        self._begin("things", "")
        return dict(self.marks)

    def ours(self, thing: str) -> bool:
        self._begin("ours", thing)
        return thing not in self.elsewhere

    def mark(self, thing: str, reason: str) -> None:
        self._begin("mark", thing)
        self.marks[thing] = reason

    def unmark(self, thing: str) -> None:
        self._begin("unmark", thing)
        self.marks.pop(thing, None)

    def oldest(self, thing: str, limit: int) -> Page:
        self._begin("oldest", thing)
        parked = [entry for entry in self._held.held if (entry.thing, entry.state) == (thing, "parked")]
        parked.sort(key=lambda entry: (entry.time, entry.id))
        items = [HeldItem(f"parked#{thing}", f"{entry.time:013d}#{entry.id}", entry) for entry in parked]
        return Page(items[:limit], len(items) > limit)

    def delete(self, items: Sequence[HeldItem]) -> None:
        self._begin("delete", items[0].reading.thing if items else "")
        for item in items:
            self._held.held.remove(item.reading)

    def _begin(self, method: str, thing: str) -> None:
        self.calls.append((method, thing))
        if self.failures:
            self.failures -= 1
            raise refused("ThrottlingException")


def backlog_of(
    store: FakeBacklog, stop: Stop, seconds: float, owns: Callable[[], bool] = lambda: True
) -> Backlog:
    return Backlog(store, stop=stop, owns=owns, retry_seconds=seconds)


class FakeSqs:
    """One FIFO queue as SQS serves it to one consumer, without visibility timeouts.

    Attributes:
        failing: operation -> errors it raises first.
        refusing: operation -> how many entries of its batches it still refuses.
        stuck: receipts that can never be deleted or changed.
    """

    def __init__(self, *messages: Message) -> None:
        self.visible = list(messages)
        self.hidden: dict[str, Message] = {}
        self.deleted: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failing: dict[str, list[Exception]] = {}
        self.refusing: Counter[str] = Counter()
        self.stuck: set[str] = set()
        self.lock = threading.Lock()

    def _begin(self, operation: str, arguments: dict[str, Any]) -> None:
        self.calls.append((operation, arguments))
        if self.failing.get(operation):
            raise self.failing[operation].pop(0)

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == operation]

    def receive_message(self, **arguments: Any) -> dict[str, Any]:
        with self.lock:
            self._begin("receive", arguments)
            blocked = {entry.lane for entry in self.hidden.values()}
            given = [entry for entry in self.visible if entry.lane not in blocked]
            given = given[: arguments["MaxNumberOfMessages"]]
            for entry in given:
                self.visible.remove(entry)
                self.hidden[entry.receipt] = entry
        if not given:
            time.sleep(0.005)  # the shortest of long polls, so that an idle queue costs no processor
        return {
            "Messages": [
                {
                    "MessageId": entry.id,
                    "Body": entry.body,
                    "ReceiptHandle": entry.receipt,
                    "Attributes": {
                        "MessageGroupId": entry.lane,
                        "SentTimestamp": str(entry.sent),
                        "ApproximateReceiveCount": str(entry.receives),
                    },
                }
                for entry in given
            ]
        }

    def change_message_visibility_batch(self, **arguments: Any) -> dict[str, Any]:
        with self.lock:
            self._begin("extend", arguments)
            failed = self._refused("extend", arguments["Entries"])
            for entry in arguments["Entries"]:
                if entry["Id"] not in failed and entry["VisibilityTimeout"] == 0:
                    self._show(entry["ReceiptHandle"])
            return {"Failed": [{"Id": key} for key in failed]}

    def delete_message_batch(self, **arguments: Any) -> dict[str, Any]:
        with self.lock:
            self._begin("delete", arguments)
            failed = self._refused("delete", arguments["Entries"])
            for entry in arguments["Entries"]:
                known = self.hidden.pop(entry["ReceiptHandle"], None) if entry["Id"] not in failed else None
                if known:
                    self.deleted.append(known.id)
            return {"Failed": [{"Id": key} for key in failed]}

    def _refused(self, operation: str, entries: Sequence[dict[str, Any]]) -> list[str]:
        failed = [entry["Id"] for entry in entries][: self.refusing[operation]]
        self.refusing[operation] -= len(failed)
        return failed + [entry["Id"] for entry in entries if entry["ReceiptHandle"] in self.stuck]

    def _show(self, receipt: str) -> None:
        entry = self.hidden.pop(receipt, None)
        if entry:
            self.visible.insert(0, entry)
