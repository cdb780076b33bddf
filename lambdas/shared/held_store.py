"""The held store: readings that can't go on now, one DynamoDB item each (docs/reference/data-formats.md).

What is stored is bounded by two daily allowances, one for each Thing and state and one for each state of
the whole stack. What comes without a Thing's name may be of any Thing: all of it together has a tenth of the
stack's. Readings beyond them are dropped, and the caller is told how many. Keys come from the reading, the
reason and the replay that it came by: holding a reading twice for one reason leaves one item, the values that
the router refused stay beside those that the platform refused, and what a replay sends is held anew beside
the item it was sent from, which the replay is about to delete. A reading that is held already is not
dropped, whatever is left of an allowance; holding it again may use some of the allowance twice.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from random import uniform
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = [
    "BATCH",
    "DETAIL_CHARACTERS",
    "NAMELESS",
    "PAYLOAD_BYTES",
    "HeldReading",
    "HeldState",
    "HeldStore",
    "HeldStoreUnavailable",
    "partition",
    "write_batch",
]

HeldState = Literal["unrouted", "rejected", "parked"]

#: Stands for the Thing of what came without one; no Thing's readings are held under it.
NAMELESS = "-"
#: Bytes of a payload that are stored; an item may have 400 KB in all.
PAYLOAD_BYTES = 300 * 1024
#: Characters of a detail that are stored.
DETAIL_CHARACTERS = 1000

_VERSION = 1
_TOPIC_CHARACTERS = 1024
#: The most requests that BatchWriteItem takes.
BATCH = 25
#: The most keys that BatchGetItem takes.
_KEYS = 100
_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.05
_DAY_SECONDS = 86_400
_TOTAL = "allowance#total"
#: Which part of the stack's allowance is there for all readings without a Thing's name.
_NAMELESS_PART = 10


class HeldStoreUnavailable(ConnectorError):  # noqa: N818 - read as a state, like RegistryUnavailable
    """DynamoDB kept leaving items unwritten; the caller keeps its input and tries again."""


class HeldReading(NamedTuple):
    """One reading to hold, or the part of it that was refused.

    Attributes:
        state: why it is here: Thing unknown, never deliverable as it is, or not deliverable now.
        thing: Thing name, empty when there is none.
        time: milliseconds since 1970, UTC.
        id: reading id, unique in the stack.
        reason: a code, for example `not_json`.
        detail: a sentence for a person; stored up to `DETAIL_CHARACTERS`.
        topic: MQTT topic, empty when unknown.
        payload: the original bytes; stored up to `PAYLOAD_BYTES`.
        values: a parcel's converted values as JSON, when `parked`.
        shape: with `values`, what they are: `{property: [base type, edge name]}` as JSON.
        replay: name of the replay that had sent it when it was held again; empty the first time.
    """

    state: HeldState
    thing: str
    time: int
    id: str
    reason: str
    detail: str
    topic: str
    payload: bytes | None = None
    values: str | None = None
    shape: str | None = None
    replay: str = ""


class _Allowance(NamedTuple):
    """How many items a day takes, and where it is written how many it has taken."""

    pk: str
    sk: str
    limit: int

    def key(self) -> dict[str, Any]:
        return to_item({"pk": self.pk, "sk": self.sk})


class _Taken(NamedTuple):
    allowance: _Allowance
    items: int


class HeldStore:
    """Writes the held table.

    Args:
        table_name: the held table.
        client: boto3 DynamoDB client; it is used from several threads at once.
        days: how long an item is kept.
        per_thing_per_day: items of one Thing and state that a UTC day takes.
        per_day: items of all Things in one state that a UTC day takes.
        threads: how many requests go at once.
        clock: seconds since 1970.
        sleep: pauses for so many seconds.
    """

    def __init__(
        self,
        table_name: str,
        client: DynamoDBClient,
        *,
        days: int,
        per_thing_per_day: int,
        per_day: int,
        threads: int = 8,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table_name
        self._client = client
        self._days = days
        self._per_thing_per_day = per_thing_per_day
        self._per_day = per_day
        self._threads = threads
        self._clock = clock
        self._sleep = sleep
        self._today = ""
        self._used_up: set[_Allowance] = set()

    def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
        """Store `items`; of those beyond an allowance the first stay and the rest are dropped.

        Returns:
            How many were dropped, by their `reason`; empty when all are stored.

        Raises:
            HeldStoreUnavailable: some weren't written after several attempts.
            botocore.exceptions.ClientError: DynamoDB refused.
            botocore.exceptions.BotoCoreError: DynamoDB didn't answer.
        """
        unique = {_key(item): item for item in items}
        return dict(Counter(unique[key].reason for key in self._hold(unique)))

    def hold_each(self, items: Sequence[HeldReading]) -> list[bool]:
        """Store `items`, as `hold` does, with its errors; whether each is stored now."""
        dropped = self._hold({_key(item): item for item in items})
        return [_key(item) not in dropped for item in items]

    def is_empty(self) -> bool:
        """Whether nothing has been held for as long as anything is kept."""
        answer = self._client.query(
            TableName=self._table,
            ConsistentRead=True,
            Limit=1,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": _TOTAL}),
        )
        return not answer["Items"]

    def _hold(self, unique: Mapping[tuple[str, str], HeldReading]) -> set[tuple[str, str]]:
        """Store readings by their keys; the keys of those that were dropped."""
        if not unique:
            return set()
        now = self._clock()
        self._start_day(now)
        taken: list[_Taken] = []
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                kept = self._allowed(list(unique.values()), pool, now, taken)
                expires = int(now) + self._days * _DAY_SECONDS
                requests = [{"PutRequest": {"Item": _item(item, expires)}} for item in kept]
                list(pool.map(self._write, chunks(requests, BATCH)))
        except Exception:
            self._give_back(taken)
            raise
        beyond = unique.keys() - {_key(item) for item in kept}
        # Who crashed, or was interrupted, holds again what it has held before.
        return beyond - self._there(sorted(beyond)) if beyond else beyond

    def _start_day(self, now: float) -> None:
        today = datetime.fromtimestamp(now, UTC).date().isoformat()
        if today != self._today:
            self._today = today
            self._used_up = set()

    def _allowed(
        self, items: list[HeldReading], pool: ThreadPoolExecutor, now: float, taken: list[_Taken]
    ) -> list[HeldReading]:
        """Those that there is room for; what is taken of allowances is added to `taken`."""

        def granted(allowance: _Allowance, wanted: list[HeldReading]) -> list[HeldReading]:
            return wanted[: self._take(allowance, len(wanted), now, taken)]

        groups: dict[_Allowance, list[HeldReading]] = {}
        for item in items:
            if self._total(item.state) not in self._used_up:
                groups.setdefault(self._of_its_own(item), []).append(item)
        by_state: dict[_Allowance, list[HeldReading]] = {}
        for group in pool.map(granted, groups.keys(), groups.values()):
            for item in group:
                by_state.setdefault(self._total(item.state), []).append(item)
        return [item for total, group in by_state.items() for item in granted(total, group)]

    def _of_its_own(self, item: HeldReading) -> _Allowance:
        """The allowance of a reading's Thing and state."""
        nameless = 0 if item.thing else self._per_day // _NAMELESS_PART
        return _Allowance(f"allowance#{_pk(item)}", self._today, max(self._per_thing_per_day, nameless))

    def _total(self, state: HeldState) -> _Allowance:
        """That of the stack for a state: what there is too much of in one must not cost the others."""
        return _Allowance(_TOTAL, f"{self._today}#{state}", self._per_day)

    def _take(self, allowance: _Allowance, wanted: int, now: float, taken: list[_Taken]) -> int:
        """How many of `wanted` are left of an allowance; nothing is written once it is used up."""
        if wanted == 0 or allowance in self._used_up:
            return 0
        # The one of the whole stack stays as long as what it counted: see `is_empty`.
        days = self._days + 2 if allowance.pk == _TOTAL else 2
        answer = self._client.update_item(
            TableName=self._table,
            Key=allowance.key(),
            UpdateExpression="ADD #used :wanted SET #expires = :expires",
            ExpressionAttributeNames={"#used": "used", "#expires": "expires"},
            ExpressionAttributeValues=to_item(
                {":wanted": wanted, ":expires": int(now) + days * _DAY_SECONDS}
            ),
            ReturnValues="UPDATED_NEW",
        )
        taken.append(_Taken(allowance, wanted))
        used = int(answer["Attributes"]["used"]["N"])
        if used >= allowance.limit:
            self._used_up.add(allowance)
        return max(0, min(wanted, allowance.limit - (used - wanted)))

    def _give_back(self, taken: Iterable[_Taken]) -> None:
        """Give back what was taken for readings that could not be stored: they will be tried again."""
        for allowance, wanted in taken:
            self._used_up.discard(allowance)
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=allowance.key(),
                    UpdateExpression="ADD #used :back",
                    ExpressionAttributeNames={"#used": "used"},
                    ExpressionAttributeValues=to_item({":back": -wanted}),
                )
            except (ClientError, BotoCoreError) as error:
                logger.warning("an allowance was not given back", allowance=allowance.pk, reason=str(error))

    def _there(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these keys have an item."""
        with ThreadPoolExecutor(self._threads) as pool:
            return set().union(*pool.map(self._found, chunks(keys, _KEYS)))

    def _found(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        left: Mapping[str, Any] = {
            self._table: {
                "Keys": [to_item({"pk": pk, "sk": sk}) for pk, sk in keys],
                "ProjectionExpression": "pk, sk",
                "ConsistentRead": True,
            }
        }
        found: set[tuple[str, str]] = set()
        for pause in _pauses():
            answer = self._client.batch_get_item(RequestItems=left)
            items = map(from_item, answer["Responses"].get(self._table, []))
            found.update((item["pk"], item["sk"]) for item in items)
            left = answer.get("UnprocessedKeys", {})
            if not left:
                return found
            self._sleep(pause)
        raise HeldStoreUnavailable(f"keys of {self._table} unread after {_ATTEMPTS} attempts")

    def _write(self, requests: Sequence[Any]) -> None:
        write_batch(self._client, self._table, requests, self._sleep)


def write_batch(
    client: DynamoDBClient, table: str, requests: Sequence[Any], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Write at most `BATCH` put or delete requests, all of them.

    Raises:
        HeldStoreUnavailable: DynamoDB kept leaving some unwritten.
        botocore.exceptions.ClientError: DynamoDB refused.
    """
    pending: Mapping[str, Sequence[Any]] = {table: requests}
    for pause in _pauses():
        answer = client.batch_write_item(RequestItems=pending)
        pending = answer.get("UnprocessedItems", {})
        if not pending:
            return
        sleep(pause)
    left = sum(len(entries) for entries in pending.values())
    raise HeldStoreUnavailable(f"{left} items of {table} unwritten after {_ATTEMPTS} attempts")


def partition(state: str, thing: str) -> str:
    """Hash key of what is held of a Thing in one state."""
    return f"{state}#{thing or NAMELESS}"


def _key(item: HeldReading) -> tuple[str, str]:
    return _pk(item), _sk(item)


def _pk(item: HeldReading) -> str:
    return partition(item.state, item.thing)


def _sk(item: HeldReading) -> str:
    key = f"{item.time:013d}#{item.id}#{item.reason}"
    return f"{key}~{item.replay}" if item.replay else key


def _item(item: HeldReading, expires: int) -> dict[str, Any]:
    payload, detail = item.payload, item.detail[:DETAIL_CHARACTERS]
    if payload is not None and len(payload) > PAYLOAD_BYTES:
        detail = f"{detail} (the first {PAYLOAD_BYTES} of {len(payload)} bytes are stored)"
        payload = payload[:PAYLOAD_BYTES]
    return to_item(
        {
            "pk": _pk(item),
            "sk": _sk(item),
            "v": _VERSION,
            "thing": item.thing or None,
            "reason": item.reason,
            "detail": detail,
            "topic": item.topic[:_TOPIC_CHARACTERS] or None,
            "time": item.time,
            "payload": payload,
            "values": item.values,
            "shape": item.shape,
            "replay": item.replay or None,
            "expires": expires,
        }
    )


def _pauses() -> Iterator[float]:
    """Seconds to wait after each attempt: doubling, with full jitter."""
    for attempt in range(_ATTEMPTS):
        yield uniform(0, _FIRST_PAUSE_SECONDS * 2**attempt)
