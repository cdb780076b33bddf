"""Sends chunks to the slot queues, keeping each lane's order.

A lane's chunks go one after another: never two in one call, never one before the answer to the one
before it. SendMessageBatch answers entry by entry; when an entry fails its lane stops there, because a
later chunk would overtake it on the retry. Slots are independent and are sent to side by side.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.parcel import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from lambdas.shared.pack import Chunk

__all__ = ["Sender", "Sent"]

_ENTRIES = 10  # the most that SendMessageBatch takes
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class Sent(NamedTuple):
    """What became of the chunks.

    Attributes:
        unsent: position of the earliest record that isn't sent, None if all are.
        messages: how many chunks were sent.
        queue_missing: a queue didn't exist, so what is known of the slots is out of date.
        cause: why something isn't sent; empty if all is.
    """

    unsent: int | None
    messages: int
    queue_missing: bool
    cause: str


class Sender:
    """Sends to many queues at once.

    Args:
        client: boto3 SQS client; it is used from several threads at once.
        concurrency: how many slots are sent to at the same time.
    """

    def __init__(self, client: SQSClient, concurrency: int = 8) -> None:
        self._client = client
        self._concurrency = concurrency

    def send(
        self, chunks: Sequence[Chunk], queue_urls: Mapping[str, str], may_go_on: Callable[[], bool]
    ) -> Sent:
        """Send all chunks, or as many as errors and time allow.

        Args:
            chunks: those of one lane in their order.
            queue_urls: slot id -> queue, for every slot in `chunks`.
            may_go_on: false once no further call may begin; asked by several threads.
        """
        slots: dict[str, dict[int, deque[Chunk]]] = {}
        for chunk in chunks:
            slots.setdefault(chunk.slot, {}).setdefault(chunk.lane, deque()).append(chunk)
        runs = [
            _SlotRun(self._client, queue_urls[slot], list(lanes.values())) for slot, lanes in slots.items()
        ]
        with ThreadPoolExecutor(self._concurrency) as pool:  # it starts no more threads than there are runs
            list(pool.map(lambda run: run.go(may_go_on), runs))
        unsent = [chunk.first for run in runs for chunk in run.unsent]
        return Sent(
            unsent=min(unsent, default=None),
            messages=len(chunks) - len(unsent),
            queue_missing=any(run.queue_missing for run in runs),
            cause="; ".join(sorted({run.cause for run in runs if run.cause})),
        )


class _SlotRun:
    """The sending of one batch to one queue."""

    def __init__(self, client: SQSClient, queue_url: str, lanes: list[deque[Chunk]]) -> None:
        self._client = client
        self._queue_url = queue_url
        self._lanes = lanes
        self.unsent: list[Chunk] = []
        self.queue_missing = False
        self.cause = ""

    def go(self, may_go_on: Callable[[], bool]) -> None:
        """Call until nothing is left, or nothing may go on."""
        while self._lanes:
            if not may_go_on():
                self._stop(self._lanes, "the time of the invocation runs out")
                return
            called = self._next_lanes()
            try:
                failures = self._call([lane[0] for lane in called])
            except ClientError as error:
                self.queue_missing = error.response["Error"]["Code"] in _NO_QUEUE
                self._stop(self._lanes, f"{self._queue_url}: {error}")
                return
            except BotoCoreError as error:
                self._stop(self._lanes, f"{self._queue_url}: {error}")
                return
            self._stop([called[index] for index in failures], "; ".join(sorted(set(failures.values()))))
            for index, lane in enumerate(called):
                if index not in failures:
                    lane.popleft()
            self._lanes = [lane for lane in self._lanes if lane]

    def _next_lanes(self) -> list[deque[Chunk]]:
        """Lanes whose next chunks fit in one call, longest lanes first: they need the most calls."""
        called: list[deque[Chunk]] = []
        room = MAX_BYTES
        for lane in sorted(self._lanes, key=len, reverse=True):
            size = len(lane[0].body)
            if size <= room:
                called.append(lane)
                room -= size
            if len(called) == _ENTRIES:
                break
        return called

    def _call(self, chunks: list[Chunk]) -> dict[int, str]:
        """Send one batch; index in `chunks` -> why it failed."""
        answer = self._client.send_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(index), "MessageBody": chunk.body.decode(), "MessageGroupId": f"lane-{chunk.lane}"}
                for index, chunk in enumerate(chunks)
            ],
        )
        failures = dict.fromkeys(range(len(chunks)), "the answer doesn't name the message")
        for success in answer.get("Successful", []):
            failures.pop(int(success["Id"]), None)
        for failure in answer.get("Failed", []):
            failures[int(failure["Id"])] = f"{failure['Code']}: {failure.get('Message', '')}"
        return failures

    def _stop(self, lanes: list[deque[Chunk]], cause: str) -> None:
        """Leave what `lanes` still hold unsent."""
        for lane in list(lanes):
            self.unsent.extend(lane)
            lane.clear()
            self.cause = cause
