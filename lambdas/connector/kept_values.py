"""What a connector leaves to its successor about values that ThingWorx has not got, or not yet.

An item a Thing under `values#{slot}` (docs/reference/data-formats.md), written at the end of a life and
only where something changed: values that no push carried (push type NEVER, a dead band), which only a GET
gives, times pushed that are still to come, and how far a device's clock is behind. Times that more values
may come with change until the end, while readings wait: those of all Things are together in few items.
"""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.connector.push_times import LastTime
from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.observability import logger
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Kept", "KeptValues", "ValuesTable"]

_VERSION = 1
_BATCH = 25  # the most that BatchWriteItem takes
_THREADS = 8
_TRIES = 4
#: An item has at most 400 KB.
_MOST_BYTES = 300 * 1024
#: Of the items of last times, with their number; no Thing has such a name.
_LAST = "#last#"
#: What a release without last times finds there.
_NO_VALUES = '{"values":{},"times":{},"lag":0}'


class Kept(NamedTuple):
    """What is kept of one Thing.

    Attributes:
        values: edge name -> newest row that was not pushed.
        times: edge name -> time that was pushed and is still to come.
        lag: how far the times of its readings are behind, in ms; 0 when they aren't.
        last: edge name -> newest time that was pushed, where more values may come with it.
    """

    values: Mapping[str, ValueRow]
    times: Mapping[str, int]
    lag: int = 0
    last: Mapping[str, LastTime] = MappingProxyType({})

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.values or self.times or self.lag or self.last)


_NOTHING = Kept({}, {})


class ValuesTable:
    """The items in the control table. Methods block.

    Args:
        client: boto3 DynamoDB client.
        table: control table.
        slot: slot id.
    """

    def __init__(self, client: DynamoDBClient, table: str, slot: str) -> None:
        self._client = client
        self._table = table
        self._pk = f"values#{slot}"

    def read(self) -> dict[str, Kept]:
        """All of the slot, by Thing."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": self._pk}),
            ConsistentRead=True,
        )
        items = {item["sk"]: item for page in pages for item in map(from_item, page["Items"])}
        parts = int(items.get(f"{_LAST}0", {}).get("parts", 0))
        last = [
            orjson.loads(items[sk]["last"]) for sk in map(f"{_LAST}{{}}".format, range(parts)) if sk in items
        ]
        things = {
            sk: _kept(orjson.loads(item["properties"]))
            for sk, item in items.items()
            if not sk.startswith(_LAST)
        }
        for thing, edge, times in _entries(last):
            kept = things.get(thing, _NOTHING)
            things[thing] = kept._replace(last={**kept.last, edge: LastTime(*times)})
        return things

    def write_last(self, last: Mapping[str, Mapping[str, LastTime]]) -> None:
        """Write the last times of all Things, by Thing and edge name.

        Raises:
            ClientError, BotoCoreError: DynamoDB doesn't take them.
        """
        parts = _parts(last)
        if not parts:
            # Without the first, others count for nothing.
            self._batch([{"DeleteRequest": {"Key": to_item({"pk": self._pk, "sk": f"{_LAST}0"})}}])
            return
        items = [
            {
                "pk": self._pk,
                "sk": f"{_LAST}{number}",
                "v": _VERSION,
                "properties": _NO_VALUES,
                "last": part,
                "parts": len(parts),
            }
            for number, part in enumerate(parts)
        ]
        for some in chunks(items, _BATCH):
            self._batch([{"PutRequest": {"Item": to_item(item)}} for item in some])

    def write(self, things: Mapping[str, Kept]) -> None:
        """Write these Things' items, without last times; those with nothing to keep are deleted.

        Raises:
            ClientError, BotoCoreError: DynamoDB doesn't take them.
        """
        requests = [self._request(thing, kept) for thing, kept in things.items()]
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._batch, chunks(requests, _BATCH)):
                pass

    def _request(self, thing: str, kept: Kept) -> dict[str, Any]:
        key = {"pk": self._pk, "sk": thing}
        if not kept:
            return {"DeleteRequest": {"Key": to_item(key)}}
        item = {**key, "v": _VERSION, "properties": _properties(kept)}
        return {"PutRequest": {"Item": to_item(item)}}

    def _batch(self, requests: Iterable[dict[str, Any]]) -> None:
        left: Any = {self._table: list(requests)}
        for pause in _pauses():
            left = self._client.batch_write_item(RequestItems=left).get("UnprocessedItems")
            if not left:
                return
            time.sleep(pause)
        logger.warning("values not kept for the successor", things=len(left[self._table]))


class KeptValues:
    """What the predecessor left, read once until `forget`; for one event loop.

    Args:
        table: reads and writes; blocks.
    """

    def __init__(self, table: ValuesTable) -> None:
        self._table = table
        self._reading: asyncio.Future[dict[str, Kept]] | None = None
        self._written: dict[str, Kept] = {}
        self._last: Mapping[str, Mapping[str, LastTime]] | None = None

    async def all(self) -> Mapping[str, Kept]:
        """All of it, by Thing.

        Raises:
            Exception: the table can't be read now; the next call tries again.
        """
        failed = self._reading is not None and self._reading.done() and self._reading.exception() is not None
        if self._reading is None or failed:
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._table.read))
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Read again: what was read while another connector had the slot may be of before its end."""
        self._reading = None

    async def of(self, thing: str) -> Kept:
        """What was left of one Thing."""
        return (await self.all()).get(thing, _NOTHING)

    async def leave(
        self,
        unseen: Mapping[str, Mapping[str, ValueRow]],
        newest: Callable[[str], Mapping[str, ValueRow]],
        ahead: Mapping[str, Mapping[str, int]],
        lags: Mapping[str, int],
        last: Mapping[str, Mapping[str, LastTime]],
    ) -> None:
        """Write for the successor what differs from what is there; values of which nothing newer came stay.

        Args:
            unseen: newest rows that were not pushed, by Thing and edge name.
            newest: newest row of each edge property of a Thing that came.
            ahead: times pushed that are still to come, by Thing and edge name.
            lags: how far the times of Things are behind, in ms.
            last: newest times pushed that more values may come with, by Thing and edge name.

        Raises:
            Exception: the table can't be read or written now.
        """
        left = await self.all()
        there = {thing: kept._replace(last={}) for thing, kept in left.items()} | self._written
        changed: dict[str, Kept] = {}
        for thing in {*there, *unseen, *ahead, *lags}:
            before, came = there.get(thing, _NOTHING), newest(thing)
            values = {edge: row for edge, row in before.values.items() if edge not in came}
            kept = Kept(values | dict(unseen.get(thing, {})), dict(ahead.get(thing, {})), lags.get(thing, 0))
            if kept != before:
                changed[thing] = kept
        if changed:
            await asyncio.to_thread(self._table.write, changed)
            self._written |= changed
        if self._last is None:
            self._last = {thing: kept.last for thing, kept in left.items() if kept.last}
        if last != self._last:
            await asyncio.to_thread(self._table.write_last, last)
            self._last = last


def _properties(kept: Kept) -> str:
    """JSON of values and times by edge name; where that is too much, the oldest values go."""
    values = dict(sorted(kept.values.items(), key=lambda entry: -entry[1].time))
    document: dict[str, Any] = {
        "values": {edge: [row.base_type, row.value, row.time, row.quality] for edge, row in values.items()},
        "times": dict(kept.times),
        "lag": kept.lag,
    }
    while len(text := orjson.dumps(document)) > _MOST_BYTES and document["values"]:
        document["values"].popitem()
    return text.decode()


def _kept(document: dict[str, Any]) -> Kept:
    return Kept(
        {
            edge: ValueRow(edge, base_type, value, at, quality)
            for edge, (base_type, value, at, quality) in document["values"].items()
        },
        document["times"],
        document.get("lag", 0),
    )


def _parts(last: Mapping[str, Mapping[str, LastTime]]) -> list[str]:
    """JSON of edge name -> last time, by Thing, in as many parts as items are needed."""
    parts: list[dict[str, dict[str, Any]]] = []
    room = 0
    for thing, edge, times in _entries([last]):
        size = len(orjson.dumps([thing, edge, *times])) + 1
        if size > room:
            parts.append({})
            room = _MOST_BYTES
        room -= size
        parts[-1].setdefault(thing, {})[edge] = list(times)
    return [orjson.dumps(part).decode() for part in parts]


def _entries(parts: Iterable[Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, str, Any]]:
    for part in parts:
        for thing, properties in part.items():
            for edge, times in properties.items():
                yield thing, edge, times


def _pauses() -> Iterator[float]:
    for turn in count():
        if turn == _TRIES:
            return
        yield random.uniform(0, 0.05 * 2**turn)
