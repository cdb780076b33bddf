"""The control table: the truth about slots, Things and their shapes.

Forms of its items: docs/reference/data-formats.md. Every change is a conditional write that raises
`Conflict` when somebody else was first; reads that decide something are consistent. Times are
milliseconds since 1970 UTC and come from the caller. The run lock is in `run_lock`.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.errors import Conflict
from lambdas.shared.raw_scan import raw_scan
from lambdas.shared.shape import Shape, shape_from_item
from lambdas.shared.shape import to_item as shape_to_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["ASSIGNED", "REMOVED", "ControlTable", "Slot", "ThingChange", "ThingRecord", "slot_from_item"]

ASSIGNED = "assigned"
REMOVED = "removed"

_VERSION = 1
_BY_SLOT = "by_slot"
#: Limits of TransactWriteItems and BatchGetItem.
_TRANSACTION_ITEMS = 100
_BATCH_KEYS = 100
#: Tries of a transaction that met another one on the same item, and of keys a batch left over.
_TRIES = 6


class Slot(NamedTuple):
    """One slot: its queue, its connector's epoch and who holds its lease.

    Attributes:
        id: slot id, decimal digits; never reused.
        state: `active`, `draining` or `stopping`.
        lanes: message groups of its queue; fixed for the queue's life.
        queue_url: None until the queue exists.
        epoch: how often its connector was started anew; 0 before the first start.
        last_start: when that was last done, 0 before the first start.
        owner: lease: who serves it, None when nobody ever did or the lease was given back.
        until: lease: when it ends, 0 when there is none.
        successor: lease: who takes over next, None when nobody is about to.
    """

    id: str
    state: str
    lanes: int
    queue_url: str | None = None
    epoch: int = 0
    last_start: int = 0
    owner: str | None = None
    until: int = 0
    successor: str | None = None


class ThingRecord(NamedTuple):
    """One Thing's assignment.

    Attributes:
        name: Thing name.
        slot: id of its slot.
        shape: id of its shape.
        state: `assigned`, or `removed`: no longer served, but its place is kept for a while.
        changed: when this record was last written.
    """

    name: str
    slot: str
    shape: str
    state: str
    changed: int


class ThingChange(NamedTuple):
    """A Thing's record as it was read (None: none) and as it shall be (None: forgotten)."""

    before: ThingRecord | None
    after: ThingRecord | None


class ControlTable:
    """Reads and conditional writes of the control table; usable from many threads.

    Args:
        table: table name.
        client: boto3 DynamoDB client.
        threads: how many requests a large read or write has under way at once.
    """

    def __init__(self, table: str, client: DynamoDBClient, *, threads: int = 4) -> None:
        self._table = table
        self._client = client
        self._threads = threads

    def slots(self) -> list[Slot]:
        """All slots in the order of their ids."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": to_item({":pk": "slots"}),
        }
        found = [slot_from_item(item) for item in _pages(self._client.query, query)]
        return sorted(found, key=lambda slot: int(slot.id))

    def slots_sharing(self, now: int) -> int:
        """How many slots deliver, or are about to: active ones, and those with a live lease.

        About a second behind the writes, at half the price.
        """
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk",
            "FilterExpression": "#state = :active OR #until >= :now",
            "ExpressionAttributeNames": {"#state": "state", "#until": "until"},
            "ExpressionAttributeValues": to_item({":pk": "slots", ":active": "active", ":now": now}),
            "Select": "COUNT",
        }
        return sum(page["Count"] for page in _answers(self._client.query, query))

    def slot(self, slot_id: str) -> Slot | None:
        """One slot, or None when there is none of this id."""
        answer = self._client.get_item(
            TableName=self._table, Key=to_item({"pk": "slots", "sk": slot_id}), ConsistentRead=True
        )
        return slot_from_item(from_item(answer["Item"])) if "Item" in answer else None

    def things(self) -> list[ThingRecord]:
        """All Things, removed ones included, in no order."""
        with ThreadPoolExecutor(self._threads) as pool:
            parts = pool.map(self._scan_things, range(self._threads))
            return [record for part in parts for record in part]

    def _scan_things(self, segment: int) -> list[ThingRecord]:
        scan: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "Segment": segment,
            "TotalSegments": self._threads,
            "FilterExpression": "begins_with(pk, :thing)",
            "ProjectionExpression": ", ".join(f"#{field}" for field in ThingRecord._fields),
            "ExpressionAttributeNames": {f"#{field}": field for field in ThingRecord._fields},
            "ExpressionAttributeValues": to_item({":thing": "thing#"}),
        }
        return [_scanned(item) for item in raw_scan(self._client, scan)]

    def thing(self, name: str) -> ThingRecord | None:
        """One Thing, removed or not, or None when it isn't known."""
        answer = self._client.get_item(TableName=self._table, Key=_thing_key(name), ConsistentRead=True)
        return _thing(from_item(answer["Item"])) if "Item" in answer else None

    def things_of(self, slot_id: str) -> list[ThingRecord]:
        """Things assigned to a slot, by name; an index answers, about a second behind the writes."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": _BY_SLOT,
            "KeyConditionExpression": "slot = :slot",
            "FilterExpression": "#state = :assigned",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": to_item({":slot": slot_id, ":assigned": ASSIGNED}),
        }
        return sorted(_thing(item) for item in _pages(self._client.query, query))

    def shapes(self, ids: Iterable[str]) -> dict[str, Shape]:
        """Shapes by id; an id that isn't stored is left out."""
        keys = [to_item({"pk": f"shape#{shape}", "sk": "shape"}) for shape in sorted(set(ids))]
        found: dict[str, Shape] = {}
        with ThreadPoolExecutor(self._threads) as pool:
            for items in pool.map(self._batch_get, chunks(keys, _BATCH_KEYS)):
                found.update(
                    (item["pk"].split("#", 1)[1], shape_from_item(item["properties"])) for item in items
                )
        return found

    def _batch_get(self, keys: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        left: list[Any] = list(keys)
        for pause in _pauses():
            answer = self._client.batch_get_item(
                RequestItems={self._table: {"Keys": left, "ConsistentRead": True}}
            )
            found.extend(from_item(item) for item in answer["Responses"].get(self._table, []))
            unread = answer["UnprocessedKeys"].get(self._table)
            left = list(unread["Keys"]) if unread else []
            if not left:
                return found
            time.sleep(pause)
        raise Conflict(f"{len(left)} shapes left unread by DynamoDB after {_TRIES} tries")

    def put_shapes(self, shapes: Mapping[str, Shape]) -> int:
        """Store the shapes that aren't stored yet; their number. An id's content never changes."""
        new = sorted(shapes.keys() - self.shapes(shapes).keys())
        with ThreadPoolExecutor(self._threads) as pool:
            return sum(pool.map(lambda shape: self._put_shape(shape, shapes[shape]), new))

    def _put_shape(self, shape_id: str, shape: Shape) -> bool:
        item = {"pk": f"shape#{shape_id}", "sk": "shape", "v": _VERSION, "properties": shape_to_item(shape)}
        try:
            self._put_new(item, f"store shape {shape_id}")
        except Conflict:
            return False  # somebody stored the same content: the id is its digest
        return True

    def next_slot_id(self) -> int:
        """The id the next slot will get."""
        answer = self._client.get_item(TableName=self._table, Key=_COUNTER_KEY, ConsistentRead=True)
        return int(from_item(answer["Item"])["next"]) if "Item" in answer else 1

    def allot_slot_ids(self, count: int, expected: int) -> list[str]:
        """Take `count` slot ids that nobody will get again.

        Args:
            count: how many, at least 1.
            expected: what `next_slot_id` said.

        Raises:
            Conflict: somebody else took ids since.
        """
        unchanged = "#next = :expected" + (" OR attribute_not_exists(#next)" if expected == 1 else "")
        with conditional(f"take slot ids {expected} to {expected + count - 1}"):
            self._client.update_item(
                TableName=self._table,
                Key=_COUNTER_KEY,
                UpdateExpression="SET #next = :next",
                ConditionExpression=unchanged,
                ExpressionAttributeNames={"#next": "next"},
                ExpressionAttributeValues=to_item({":next": expected + count, ":expected": expected}),
            )
        return [str(number) for number in range(expected, expected + count)]

    def create_slots(self, slot_ids: Iterable[str], lanes: int) -> None:
        """Create active slots, without queue yet.

        Raises:
            Conflict: one of them exists.
        """
        slot = {"pk": "slots", "v": _VERSION, "state": "active", "lanes": lanes, "epoch": 0}
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(lambda id_: self._put_new(slot | {"sk": id_}, f"create slot {id_}"), slot_ids):
                pass

    def _put_new(self, item: Mapping[str, Any], what: str) -> None:
        with conditional(what):
            self._client.put_item(
                TableName=self._table, Item=to_item(item), ConditionExpression="attribute_not_exists(pk)"
            )

    def set_queue_url(self, slot_id: str, queue_url: str) -> None:
        """Remember a slot's queue.

        Raises:
            Conflict: the slot is gone, or has another queue.
        """
        with conditional(f"set the queue of slot {slot_id}"):
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": "slots", "sk": slot_id}),
                UpdateExpression="SET queue_url = :url",
                ConditionExpression="attribute_exists(pk) AND "
                "(attribute_not_exists(queue_url) OR queue_url = :url)",
                ExpressionAttributeValues=to_item({":url": queue_url}),
            )

    def stop_slot(self, slot_id: str) -> None:
        """Mark a slot `stopping`, whatever it was: its connector ends, and none is started any more.

        Raises:
            Conflict: the slot is gone.
        """
        with conditional(f"stop slot {slot_id}"):
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": "slots", "sk": slot_id}),
                UpdateExpression="SET #state = :stopping",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues=to_item({":stopping": "stopping"}),
            )

    def next_epoch(self, slot_id: str, epoch: int, now: int, *, min_age: int = 120_000) -> int:
        """Begin a slot's next epoch, which makes its running connector, if any, an old one.

        Args:
            slot_id: an active or draining slot: what is left in its queue is still served.
            epoch: the epoch it was read with.
            now: time of this start.
            min_age: milliseconds that must have passed since the last start.

        Returns:
            The new epoch.

        Raises:
            Conflict: it has a live lease, was started lately, is stopping or has another epoch.
        """
        with conditional(f"start epoch {epoch + 1} of slot {slot_id}"):
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": "slots", "sk": slot_id}),
                UpdateExpression="SET epoch = :new, last_start = :now",
                ConditionExpression="#state IN (:active, :draining) AND epoch = :old"
                " AND (attribute_not_exists(#until) OR #until < :now)"
                " AND (attribute_not_exists(last_start) OR last_start < :oldest)",
                ExpressionAttributeNames={"#state": "state", "#until": "until"},
                ExpressionAttributeValues=to_item(
                    {
                        ":active": "active",
                        ":draining": "draining",
                        ":old": epoch,
                        ":new": epoch + 1,
                        ":now": now,
                        ":oldest": now - min_age,
                    }
                ),
            )
        return epoch + 1

    def assign(self, changes: Sequence[ThingChange]) -> None:
        """Apply changes in transactions of at most 100: each of them whole or not at all.

        Raises:
            Conflict: a record isn't as it was read; parts applied before stay.
        """
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(self._transact, chunks(changes, _TRANSACTION_ITEMS)):
                pass

    def _transact(self, changes: Sequence[ThingChange]) -> None:
        writes: list[Any] = [self._write(change) for change in changes]
        for pause in _pauses():
            try:
                self._client.transact_write_items(TransactItems=writes)
            except self._client.exceptions.TransactionCanceledException as error:
                reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
                if "ConditionalCheckFailed" in reasons:
                    raise Conflict(f"assign {_first(changes, reasons)}: changed since it was read") from error
                time.sleep(pause)
            else:
                return
        raise Conflict(f"assign {len(changes)} Things: other writers held them for {_TRIES} tries")

    def _write(self, change: ThingChange) -> dict[str, Any]:
        before, after = change
        name = _name(change)
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before is not None:
            fields = before._asdict()
            del fields["name"]
            condition = {
                "ConditionExpression": " AND ".join(f"#{field} = :{field}" for field in fields),
                "ExpressionAttributeNames": {f"#{field}": field for field in fields},
                "ExpressionAttributeValues": to_item({f":{field}": value for field, value in fields.items()}),
            }
        if after is None:
            return {"Delete": {"TableName": self._table, "Key": _thing_key(name), **condition}}
        item = to_item({"v": _VERSION, **after._asdict()}) | _thing_key(name)
        return {"Put": {"TableName": self._table, "Item": item, **condition}}


_COUNTER_KEY = to_item({"pk": "counters", "sk": "slots"})


def _thing_key(name: str) -> dict[str, dict[str, Any]]:
    return to_item({"pk": f"thing#{name}", "sk": "thing"})


def _name(change: ThingChange) -> str:
    record = change.after or change.before
    if record is None:
        raise ValueError("a change needs a record before or after it")
    return record.name


def _first(changes: Sequence[ThingChange], reasons: Sequence[str | None]) -> str:
    return _name(changes[reasons.index("ConditionalCheckFailed")])


def slot_from_item(item: Mapping[str, Any]) -> Slot:
    """A slot, of its item as `from_item` gives it."""
    optional = {name: item[name] for name in Slot._fields[3:] if name in item}
    return Slot(item["sk"], item["state"], item["lanes"], **optional)


def _scanned(item: Mapping[str, Mapping[str, str]]) -> ThingRecord:
    # Many Things share their slot and shape: in a large fleet their records share the text of them.
    return ThingRecord(
        item["name"]["S"],
        intern(item["slot"]["S"]),
        intern(item["shape"]["S"]),
        intern(item["state"]["S"]),
        int(item["changed"]["N"]),
    )


def _thing(item: Mapping[str, Any]) -> ThingRecord:
    return ThingRecord(*(item[name] for name in ThingRecord._fields))


def _pages(call: Callable[..., Any], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Items of all pages of a query or scan."""
    for page in _answers(call, request):
        yield from map(from_item, page["Items"])


def _answers(call: Callable[..., Any], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All pages of a query or scan."""
    while True:
        page = call(**request)
        yield page
        if "LastEvaluatedKey" not in page:
            return
        request = request | {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _pauses() -> Iterator[float]:
    """Seconds to wait between tries: random, up to twice as long each time."""
    for number in range(_TRIES):
        yield random.uniform(0, 0.05 * 2**number)
