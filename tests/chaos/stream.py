"""A Kinesis stream and its event source mapping in small.

Records of one key are in one shard, in order; a reshard ends a shard and puts later records into others,
which are read only once it is done with. One batch a shard is under way at a time. A batch whose answer
names a failure goes on there; one whose function failed is halved, and the halves are tried in order.
"""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.chaos.lambda_service import LambdaService

__all__ = ["Position", "Settled", "Stream"]

_ROUTER_SECONDS = 20.0
_PAUSE = 0.03
_STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/chaos-ingest"


class Position(NamedTuple):
    """Where a record is: its reading has the id `{shard}:{sequence}:0`."""

    shard: int
    sequence: str

    @property
    def reading(self) -> str:
        """Id of its reading."""
        return f"{self.shard}:{self.sequence}:0"


class Settled(NamedTuple):
    """One invocation of the router: how many records it was given and settled.

    `settled` is None when it failed or was killed, so that nobody knows.
    """

    given: int
    settled: int | None


class _Shard:
    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.next_sequence = first
        self.records: list[dict[str, Any]] = []
        self.closed = False
        self.done = 0


class Stream:
    """The stream; `put` from one thread, shards are read by threads of their own.

    Args:
        functions: runs the router.
        shards: how many there are at first.
        batch: records of a batch, at most.
        seed: of sequence numbers and of what goes wrong.

    Attributes:
        repeat: probability that a batch that was settled is given again.
        forget: probability that an answer which names a failure is lost: the whole batch comes again.
        invocations: every call of the router.
    """

    def __init__(self, functions: LambdaService, *, shards: int, batch: int, seed: int) -> None:
        self._functions = functions
        self._batch = batch
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._shards: list[_Shard] = []
        self._open: list[_Shard] = []
        self.repeat = 0.0
        self.forget = 0.0
        self.invocations: list[Settled] = []
        for _ in range(shards):
            self._open.append(self._shard(()))

    def put(self, key: str, data: dict[str, Any]) -> Position:
        """Append a record."""
        with self._lock:
            shard = self._open[sum(key.encode()) % len(self._open)]
            # Numbers of a shard say nothing about those of another one.
            shard.next_sequence += self._random.randrange(1, 1000)
            sequence = str(shard.next_sequence)
            shard.records.append(_record(shard.number, sequence, key, json.dumps(data).encode()))
            return Position(shard.number, sequence)

    def reshard(self, shards: int) -> None:
        """End all shards; later records go to new ones, which are read after those."""
        with self._lock:
            parents, self._open = tuple(self._open), []
            for parent in parents:
                parent.closed = True
        opened = [self._shard(parents) for _ in range(shards)]
        with self._lock:
            self._open = opened

    def lag(self) -> int:
        """Records that are not settled yet."""
        with self._lock:
            return sum(len(shard.records) - shard.done for shard in self._shards)

    def close(self) -> None:
        """Read no more."""
        self._closing.set()
        for thread in self._threads:
            thread.join(_ROUTER_SECONDS)

    def _shard(self, parents: tuple[_Shard, ...]) -> _Shard:
        # Descending on purpose: a child's numbers may be lower than its parent's as far as anybody may rely.
        first = (1000 - len(self._shards)) * 10**52 + self._random.randrange(10**50)
        shard = _Shard(len(self._shards), first)
        self._shards.append(shard)
        thread = threading.Thread(target=self._read, args=(shard, parents), daemon=True)
        self._threads.append(thread)
        thread.start()
        return shard

    def _read(self, shard: _Shard, parents: tuple[_Shard, ...]) -> None:
        while not all(parent.closed and parent.done == len(parent.records) for parent in parents):
            if self._closing.wait(_PAUSE):
                return
        while not self._closing.is_set():
            with self._lock:
                end = min(len(shard.records), shard.done + self._batch)
                over = shard.closed and shard.done == len(shard.records)
            if over:
                return
            if end == shard.done:
                self._closing.wait(_PAUSE)
                continue
            self._settle(shard, end)

    def _settle(self, shard: _Shard, end: int) -> None:
        """Get everything before `end` settled, or less when this is over."""
        ends = [end]
        while ends and not self._closing.is_set():
            first, last = shard.done, ends[-1]
            if first >= last:
                ends.pop()
                continue
            settled = self._invoke(shard, first, last)
            if settled is None:
                if last - first > 1:
                    ends.append(first + (last - first) // 2)
                self._closing.wait(_PAUSE)
            elif settled < last - first:
                if self._random.random() >= self.forget:
                    shard.done = first + settled
                self._closing.wait(_PAUSE)
            elif self._random.random() >= self.repeat:
                shard.done = last

    def _invoke(self, shard: _Shard, first: int, last: int) -> int | None:
        """How many records were settled, from the first on; None when the function failed."""
        records = shard.records[first:last]
        result = self._functions.invoke("router", {"Records": records}, _ROUTER_SECONDS)
        if result.error:
            self.invocations.append(Settled(len(records), None))
            return None
        failed = {entry["itemIdentifier"] for entry in result.answer["batchItemFailures"]}
        sequences = [record["kinesis"]["sequenceNumber"] for record in records]
        settled = next((index for index, number in enumerate(sequences) if number in failed), len(records))
        self.invocations.append(Settled(len(records), settled))
        return settled


def _record(shard: int, sequence: str, key: str, data: bytes) -> dict[str, Any]:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": time.time(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-{shard:012d}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/router",
        "awsRegion": "us-east-1",
        "eventSourceARN": _STREAM,
    }
