"""Puts records into a Kinesis stream without reordering those of a partition key.

PutRecords takes each record by itself: one that is refused lets those after it pass. So a call carries one
record of each partition key at most, and the next one of a key goes only when the one before it was taken.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.command import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mypy_boto3_kinesis import KinesisClient

    from ops.returning import Returning, StreamRecord

__all__ = ["Pending", "StreamWriter", "Waiting"]

#: Bounds of one PutRecords call (Kinesis API reference).
_MOST_RECORDS = 500
_MOST_BYTES = 5 * 2**20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Calls in a row of which nothing was taken; then it is given up, after a good minute.
_MOST_REFUSED = 20


class Waiting(NamedTuple):
    """A record that waits for the stream.

    Attributes:
        position: its place among all; lower ones go first.
        item: position of the message or object that it is of.
        record: the record.
    """

    position: int
    item: int
    record: StreamRecord


class Pending:
    """Records that wait, those of a partition key in their order.

    Args:
        items: what is put back, oldest first.
    """

    def __init__(self, items: Sequence[Returning]) -> None:
        positions = count()
        self._waiting: dict[str, deque[Waiting]] = {}
        #: How many records of each item wait.
        self._left = [len(item.records) for item in items]
        for number, item in enumerate(items):
            for record in item.records:
                entry = Waiting(next(positions), number, record)
                self._waiting.setdefault(record.key, deque()).append(entry)
        self._heads = [entries[0] for entries in self._waiting.values()]
        heapq.heapify(self._heads)

    def next_call(self) -> list[Waiting]:
        """The oldest records that can go together, one of a key; none when nothing waits.

        They wait on until `settle` tells what became of them.
        """
        call: list[Waiting] = []
        size = 0
        while self._heads and len(call) < _MOST_RECORDS:
            size += _size(self._heads[0].record)
            if call and size > _MOST_BYTES:
                break
            call.append(heapq.heappop(self._heads))
        return call

    def settle(self, call: Sequence[Waiting], taken: Sequence[bool]) -> list[int]:
        """Say which records of a call the stream took.

        Returns:
            Positions of the items of which no record waits any more.
        """
        done = []
        for entry, was_taken in zip(call, taken, strict=True):
            entries = self._waiting[entry.record.key]
            if was_taken:
                entries.popleft()
                self._left[entry.item] -= 1
                if self._left[entry.item] == 0:
                    done.append(entry.item)
            if entries:
                heapq.heappush(self._heads, entries[0])
        return done


class StreamWriter:
    """Puts records into one stream, one call at a time, at a bounded rate.

    Args:
        client: boto3 Kinesis client.
        stream: its name.
        per_second: records a second at most; each KiB of one counts for a record, as with a shard's limits.
        sleep: waits for so many seconds.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        client: KinesisClient,
        stream: str,
        per_second: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._stream = stream
        self._per_second = per_second
        self._sleep = sleep
        self._clock = clock

    def put(self, items: Sequence[Returning]) -> Iterator[list[int]]:
        """Put all records of `items`; after each call, positions of the items that are wholly in the stream.

        Args:
            items: oldest first.

        Raises:
            OperatorError: the stream keeps refusing; what was not named yet is not in it, or not as a whole.
            botocore.exceptions.ClientError: a call failed as a whole.
        """
        pending = Pending(items)
        refused = 0
        while call := pending.next_call():
            began = self._clock()
            answers = self._call(call)
            taken = [not answer.get("ErrorCode") for answer in answers]
            yield pending.settle(call, taken)
            refused = 0 if any(taken) else refused + 1
            if refused == _MOST_REFUSED:
                raise OperatorError(self._told(answers[0]))
            busy = self._clock() - began
            throttled = 0.0 if all(taken) else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**refused)
            self._sleep(max(0.0, self._units(call) / self._per_second - busy, throttled))

    def _call(self, call: Sequence[Waiting]) -> Sequence[Any]:
        return self._client.put_records(
            StreamName=self._stream,
            Records=[{"PartitionKey": entry.record.key, "Data": entry.record.data} for entry in call],
        )["Records"]

    def _told(self, answer: Any) -> str:
        return (
            f"the stream {self._stream} took no record in {_MOST_REFUSED} tries: "
            f"{answer['ErrorCode']}: {answer.get('ErrorMessage', 'no reason is told')}; what it did not take "
            "is left where it was. Run the same command again when the stream is less busy or has more "
            "shards, or with a lower --per-second"
        )

    @staticmethod
    def _units(call: Iterable[Waiting]) -> int:
        return sum(math.ceil(_size(entry.record) / 1024) for entry in call)


def _size(record: StreamRecord) -> int:
    """As Kinesis counts it."""
    return len(record.data) + len(record.key.encode())
