"""Reads and deletes what the held table keeps, page by page, oldest first."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.chunks import chunks
from lambdas.shared.dynamo import from_item, to_item
from lambdas.shared.held_store import BATCH, NAMELESS, HeldReading, partition, write_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["STATES", "HeldItem", "HeldItems", "Page"]

#: Every state that a held reading can be in.
STATES = ("unrouted", "rejected", "parked")

_LONGEST_TIME = 10**13 - 1  # as many digits as a key has


class HeldItem(NamedTuple):
    """A held reading and its key."""

    pk: str
    sk: str
    reading: HeldReading


class Page(NamedTuple):
    """Held readings in time order; `more` tells whether others follow them."""

    items: list[HeldItem]
    more: bool


class HeldItems:
    """The other side of `HeldStore`.

    Args:
        table: the held table.
        client: boto3 DynamoDB client; it is used from several threads at once.
        threads: how many delete requests go at once.
        sleep: pauses for so many seconds.
    """

    def __init__(
        self,
        table: str,
        client: DynamoDBClient,
        *,
        threads: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._client = client
        self._threads = threads
        self._sleep = sleep

    def page(
        self,
        state: str,
        thing: str,
        limit: int,
        *,
        after: str | None = None,
        since: int = 0,
        until: int = _LONGEST_TIME,
    ) -> Page:
        """At most `limit` readings of a Thing, and 1 MB, as they are at this moment.

        Args:
            state: `unrouted`, `rejected` or `parked`.
            thing: Thing name; empty for what came without one.
            limit: how many.
            after: sort key that the page begins after.
            since: earliest time, milliseconds since 1970.
            until: latest time.
        """
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "Limit": limit,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": to_item(
                {
                    ":pk": partition(state, thing),
                    ":first": _time_key(since),
                    ":last": _time_key(min(until, _LONGEST_TIME - 1) + 1),
                }
            ),
        }
        if after is not None:
            request["ExclusiveStartKey"] = to_item({"pk": partition(state, thing), "sk": after})
        answer = self._client.query(**request)
        return Page([_held_item(from_item(item)) for item in answer["Items"]], "LastEvaluatedKey" in answer)

    def pages(
        self, state: str, thing: str, limit: int, *, since: int = 0, until: int = _LONGEST_TIME
    ) -> Iterator[list[HeldItem]]:
        """All of a Thing's readings in time order, page by page; what was read may be deleted meanwhile."""
        after: str | None = None
        while True:
            page = self.page(state, thing, limit, after=after, since=since, until=until)
            if page.items:
                yield page.items
                after = page.items[-1].sk
            if not page.more:
                return

    def partitions(self) -> Iterator[tuple[str, str]]:
        """State and Thing of every held reading, in no order, each as often as it has readings.

        Reads the whole table, one page of at most 1 MB at a time.
        """
        for item in self.scan("pk"):
            state, _, thing = item["pk"].partition("#")
            if state in STATES:
                yield state, "" if thing == NAMELESS else thing

    def scan(self, *attributes: str) -> Iterator[dict[str, Any]]:
        """Attributes of every item of the table, allowances included."""
        names = {f"#{index}": name for index, name in enumerate(attributes)}
        request: dict[str, Any] = {
            "TableName": self._table,
            "ProjectionExpression": ", ".join(names),
            "ExpressionAttributeNames": names,
        }
        while True:
            answer = self._client.scan(**request)
            yield from map(from_item, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def delete(self, items: Iterable[HeldItem]) -> None:
        """Delete readings; those that are gone already are as good as deleted.

        Raises:
            HeldStoreUnavailable: some weren't deleted after several attempts.
            botocore.exceptions.ClientError: DynamoDB refused.
        """
        requests = [{"DeleteRequest": {"Key": to_item({"pk": item.pk, "sk": item.sk})}} for item in items]
        if not requests:
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._delete, chunks(requests, BATCH)))

    def _delete(self, requests: Sequence[Any]) -> None:
        write_batch(self._client, self._table, requests, self._sleep)


def _time_key(milliseconds: int) -> str:
    return f"{milliseconds:013d}"


def _held_item(item: Mapping[str, Any]) -> HeldItem:
    pk, sk = item["pk"], item["sk"]
    state = pk.partition("#")[0]
    # Time in front, reason behind, neither with a separator inside: what is between is the id.
    reading_id = sk.split("#", 1)[1].rpartition("#")[0]
    reading = HeldReading(
        state=state,
        thing=item.get("thing", ""),
        time=item["time"],
        id=reading_id,
        reason=item["reason"],
        detail=item["detail"],
        topic=item.get("topic", ""),
        payload=item.get("payload"),
        values=item.get("values"),
        shape=item.get("shape"),
        replay=item.get("replay", ""),
    )
    return HeldItem(pk, sk, reading)
