"""An SQS FIFO queue in memory, without I/O, as the SQS developer guide describes it.

A message group is handed out in order and to one receiver at a time: while a message of it is in flight,
none after it is. One whose own visibility timeout has ended is handed out again, though messages after it
are still in flight. A receive that repeats its attempt id gets the same messages again. Equal bodies within
five minutes are one message. A receipt counts until its message's visibility timeout ends.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FifoQueue", "Message", "StaleReceipt"]

_DEDUPLICATION_SECONDS = 300.0


class StaleReceipt(Exception):  # noqa: N818 - a state of the queue, told to the caller entry by entry
    """The receipt's visibility timeout has ended, or a later receive has replaced it."""


@dataclass
class Message:
    """One message.

    Attributes:
        sent: milliseconds since 1970, for attribute `SentTimestamp`.
        visible_at: when it may be received again, on the queue's clock.
        receipt: that of the last receive.
    """

    id: str
    sequence: int
    body: str
    group: str
    sent: int
    visible_at: float = 0.0
    receipt: str = ""
    receives: int = 0


class FifoQueue:
    """One queue with content-based deduplication.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.attributes: dict[str, str] = {}
        self._clock = clock
        self._messages: dict[str, Message] = {}
        self._by_receipt: dict[str, str] = {}
        self._recent: dict[str, tuple[float, Message]] = {}
        self._attempts: dict[str, list[tuple[Message, str]]] = {}
        self._sequences = itertools.count(1)

    def send(self, body: str, group: str, sent: int = 0) -> tuple[Message, bool]:
        """Take a message; whether it is a new one, or the repetition of one of the last five minutes."""
        now = self._clock()
        digest = hashlib.sha256(body.encode()).hexdigest()
        known = self._recent.get(digest)
        if known is not None and now - known[0] < _DEDUPLICATION_SECONDS:
            return known[1], False
        message = Message(str(uuid.uuid4()), next(self._sequences), body, group, sent)
        self._recent[digest] = (now, message)
        self._messages[message.id] = message
        return message, True

    def receive(self, most: int, visibility: float, attempt: str = "") -> list[Message]:
        """Hand out messages in order, each group to one receiver, hidden for `visibility` seconds."""
        now = self._clock()
        again = self._attempts.get(attempt, [])
        if again and all(self._held(message, receipt) for message, receipt in again):
            for message, _ in again:
                message.visible_at = now + visibility
            return [message for message, _ in again]
        taken: list[Message] = []
        flying = {message.group for message in self._messages.values() if message.visible_at > now}
        locked: set[str] = set()
        for message in self._messages.values():
            if len(taken) == most:
                break
            if message.visible_at > now or (message.group in flying and not message.receives):
                locked.add(message.group)
            if message.group in locked:
                continue
            message.visible_at = now + visibility
            message.receipt = str(uuid.uuid4())
            message.receives += 1
            self._by_receipt[message.receipt] = message.id
            taken.append(message)
        if attempt:
            self._attempts[attempt] = [(message, message.receipt) for message in taken]
        return taken

    def change_visibility(self, receipt: str, seconds: float) -> None:
        """Hide a message for `seconds` from now on; 0 gives it back.

        Raises:
            StaleReceipt: it isn't this receiver's any more.
        """
        message = self._messages.get(self._by_receipt.get(receipt, ""))
        if message is None or not self._held(message, receipt):
            raise StaleReceipt(receipt)
        message.visible_at = self._clock() + seconds

    def delete(self, receipt: str) -> None:
        """Delete a message; one that is gone already is no error.

        Raises:
            StaleReceipt: it isn't this receiver's any more.
        """
        message = self._messages.get(self._by_receipt.get(receipt, ""))
        if message is None and receipt in self._by_receipt:
            return
        if message is None or not self._held(message, receipt):
            raise StaleReceipt(receipt)
        del self._messages[message.id]

    def expire(self) -> int:
        """End the visibility timeout of everything in flight; of how many messages."""
        now = self._clock()
        flying = [message for message in list(self._messages.values()) if message.visible_at > now]
        for message in flying:
            message.visible_at = now
        return len(flying)

    def depth(self) -> tuple[int, int]:
        """Messages that wait, and messages in flight."""
        now = self._clock()
        messages = list(self._messages.values())  # the queue is at work in another thread
        flying = sum(message.visible_at > now for message in messages)
        return len(messages) - flying, flying

    def bodies(self) -> list[str]:
        """What it holds, in order."""
        return [message.body for message in list(self._messages.values())]

    def _held(self, message: Message, receipt: str) -> bool:
        return (
            message.id in self._messages and message.receipt == receipt and message.visible_at > self._clock()
        )
