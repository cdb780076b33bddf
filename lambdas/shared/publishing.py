"""One publisher of the registry at a time, whatever run it belongs to, and when it last was right.

A repair publishes while another run may be waiting for ThingWorx, so the run lock doesn't keep them
apart. Whoever publishes reads the control table only under this lock: the last one to publish has then
also read the newest. It is one item of the control table, `run`/`publishing`.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.errors import Conflict
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Publishing"]

_KEY = {"pk": "run", "sk": "publishing"}
#: Milliseconds for which others wait after the last sign of a publisher.
LEASE = 30_000
_RENEWALS = 3
_LOOK_SECONDS = 1.0


class Publishing:
    """The lock of publishers.

    Args:
        table: name of the control table.
        client: boto3 DynamoDB client.
        now: milliseconds since 1970 UTC.
    """

    def __init__(
        self, table: str, client: DynamoDBClient, now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._table = table
        self._client = client
        self._now = now

    def last(self) -> int:
        """When the last publisher that ended well began, 0 when none did: all older changes are published."""
        answer = self._client.get_item(TableName=self._table, Key=to_item(_KEY), ConsistentRead=True)
        return int(from_item(answer.get("Item", {})).get("done", 0))

    @contextmanager
    def hold(self, owner: str, patience: float) -> Iterator[None]:
        """Be the only publisher inside; when nothing is raised there, the registry counts as published.

        Args:
            owner: unique for ever.
            patience: seconds to wait for others.

        Raises:
            Conflict: another one still publishes after that.
        """
        deadline = time.monotonic() + patience
        while not self._taken(owner):
            if time.monotonic() >= deadline:
                raise Conflict(f"{owner}: another run publishes; try again")
            time.sleep(_LOOK_SECONDS)
        began = self._now()
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(owner, over), daemon=True)
        keeper.start()
        try:
            yield
        except BaseException:
            self._stop(keeper, over)
            try:
                self._update(owner, "SET #until = :zero", {":zero": 0})
            except (Conflict, ClientError, BotoCoreError) as error:
                logger.warning("the lock of publishers ends by its lease", reason=str(error))
            raise
        self._stop(keeper, over)
        self._update(owner, "SET #until = :zero, done = :began", {":zero": 0, ":began": began})

    @staticmethod
    def _stop(keeper: threading.Thread, over: threading.Event) -> None:
        over.set()
        keeper.join()

    def _taken(self, owner: str) -> bool:
        try:
            with conditional("publish"):
                self._client.update_item(
                    TableName=self._table,
                    Key=to_item(_KEY),
                    UpdateExpression="SET #owner = :owner, #until = :until",
                    # Ours already: a call whose answer got lost is repeated by the client.
                    ConditionExpression="attribute_not_exists(#until) OR #until < :now OR #owner = :owner",
                    ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
                    ExpressionAttributeValues=to_item(
                        {":owner": owner, ":now": self._now(), ":until": self._now() + LEASE}
                    ),
                )
        except Conflict:
            return False
        return True

    def _keep(self, owner: str, over: threading.Event) -> None:
        while not over.wait(LEASE / 1000 / _RENEWALS):
            try:
                self._update(owner, "SET #until = :until", {":until": self._now() + LEASE})
            except (Conflict, ClientError, BotoCoreError) as error:
                # There is no way to stop a publisher half-way; whoever took over makes up for it.
                logger.warning("publishing goes on without its lock", reason=str(error))

    def _update(self, owner: str, update: str, values: dict[str, Any]) -> None:
        with conditional(f"publish as {owner}"):
            self._client.update_item(
                TableName=self._table,
                Key=to_item(_KEY),
                UpdateExpression=update,
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
                ExpressionAttributeValues=to_item({":owner": owner} | values),
            )
