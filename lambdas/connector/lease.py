"""The lease that makes one connector at a time the owner of a slot.

It lives on the slot's item of the control table. Owner strings are unique an invocation; `epoch` is
the fencing token: the scaler raises it only where no lease is live, and a holder of an older epoch
can neither take nor renew.

    free --acquire--> held(owner) --leave--> held(owner, leaving) --ask--> (.., successor)
      ^                                                                          |
      +-------------------------------- release --------------------------------+

The deadline is counted on the monotonic clock from *before* the renewal was sent, so a slow answer
never makes the holder believe longer than the table does.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Lease", "LeaseLost", "SlotView", "Taken"]


#: Part of a lease that its holder leaves unused: the clock of who waits for its end may be ahead.
CLOCK_MARGIN = 0.05


class LeaseLost(Exception):  # noqa: N818 - a state of the world, not a programming error
    """Somebody else owns the slot now, or a newer epoch exists."""


class Taken(Enum):
    """Why or how `acquire` ended."""

    HELD = "held"
    SUPERSEDED = "superseded"
    STOPPING = "stopping"
    BUSY = "busy"


class SlotView(NamedTuple):
    """What a connector needs to know of its slot's item.

    Attributes:
        state: `active`, `draining` or `stopping`; `gone` when there is no item.
        epoch: current epoch.
        queue_url: the slot's queue, or None while it does not exist.
        owner: current owner or None.
        until: end of the lease, milliseconds since 1970; 0 when nobody holds it.
        successor: who waits for the owner to leave, or None.
        leaving: the owner has announced that it will go.
    """

    state: str
    epoch: int
    queue_url: str | None
    owner: str | None
    until: int
    successor: str | None
    leaving: bool


class Lease:
    """One connector's view of its slot's lease. Methods block; call them from a thread.

    Args:
        client: boto3 DynamoDB client.
        table: control table.
        slot: slot id.
        epoch: epoch this connector was started for.
        owner: name of this invocation, unique for ever.
        seconds: how long a renewal is valid.
    """

    def __init__(
        self, client: DynamoDBClient, table: str, *, slot: str, epoch: int, owner: str, seconds: float
    ) -> None:
        self._client = client
        self._table = table
        self._key = {"pk": {"S": "slots"}, "sk": {"S": slot}}
        self._epoch = epoch
        self._owner = owner
        self._seconds = seconds
        self._deadline = 0.0
        self._released = False

    def valid(self) -> bool:
        """Whether side effects are still ours to make."""
        return not self._released and time.monotonic() < self._deadline

    def view(self) -> SlotView:
        """Consistent read of the slot."""
        answer = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        return _view(answer.get("Item"))

    def acquire(self) -> Taken:
        """Take the lease if it is free, has run out, or is ours already.

        When its owner has announced that it leaves, it is asked to go; the caller tries again soon.
        """
        slot = self.view()
        if slot.epoch > self._epoch:
            return Taken.SUPERSEDED
        if slot.state in ("stopping", "gone"):
            return Taken.STOPPING
        if slot.owner and slot.owner != self._owner and slot.until >= time.time() * 1000:
            if slot.leaving and slot.successor is None:
                self._ask_to_go(slot.owner)
            return Taken.BUSY
        before = time.monotonic()
        try:
            self._update(
                "SET #owner = :me, #until = :until REMOVE successor, leaving",
                "epoch = :epoch AND (attribute_not_exists(#owner) OR #until < :now OR #owner = :me)",
                ":until",
                ":now",
            )
        except LeaseLost:
            return Taken.BUSY  # somebody was quicker
        self._deadline = before + self._seconds * (1 - CLOCK_MARGIN)
        return Taken.HELD

    def renew(self) -> SlotView:
        """Prolong the lease.

        Returns:
            The slot as it is after the renewal.

        Raises:
            LeaseLost: the slot has another owner or a newer epoch.
        """
        before = time.monotonic()
        view = self._update("SET #until = :until", "#owner = :me AND epoch = :epoch", ":until")
        self._deadline = before + self._seconds * (1 - CLOCK_MARGIN)
        return view

    def leave(self) -> None:
        """Announce that this owner will go, so that a successor may ask for the slot.

        Prolongs nothing: it may reach the table after a later renewal.

        Raises:
            LeaseLost: the slot has another owner or a newer epoch.
        """
        self._update("SET leaving = :true", "#owner = :me AND epoch = :epoch", ":true")

    def release(self) -> None:
        """Give the slot free, for good; nothing happens when it is not ours any more."""
        self._released = True  # a renewal still under way can't make it valid again
        try:
            self._update("REMOVE #owner, #until, successor, leaving", "#owner = :me")
        except LeaseLost:
            return

    def _ask_to_go(self, owner: str) -> None:
        try:
            self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression="SET successor = :me",
                ConditionExpression="#owner = :owner AND attribute_not_exists(successor)",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":me": {"S": self._owner}, ":owner": {"S": owner}},
            )
        except ClientError as error:
            if not _condition_failed(error):
                raise

    def _update(self, update: str, condition: str, *values: str) -> SlotView:
        now = time.time()
        known: dict[str, Any] = {
            ":until": {"N": str(int((now + self._seconds) * 1000))},
            ":now": {"N": str(int(now * 1000))},
            ":true": {"BOOL": True},
            ":me": {"S": self._owner},
            ":epoch": {"N": str(self._epoch)},
        }
        used = {":me", *values} | ({":epoch"} if ":epoch" in condition else set())
        names = {"#owner": "owner"} | ({"#until": "until"} if "#until" in update + condition else {})
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={name: known[name] for name in used},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if _condition_failed(error):
                raise LeaseLost(f"slot {self._key['sk']['S']}: {condition} does not hold") from error
            raise
        return _view(answer.get("Attributes"))


def _condition_failed(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def _view(item: Any) -> SlotView:
    if not item:
        return SlotView("gone", 0, None, None, 0, None, leaving=False)
    return SlotView(
        state=item["state"]["S"],
        epoch=int(item.get("epoch", {"N": "0"})["N"]),
        queue_url=item.get("queue_url", {}).get("S"),
        owner=item.get("owner", {}).get("S"),
        until=int(item.get("until", {"N": "0"})["N"]),
        successor=item.get("successor", {}).get("S"),
        leaving=bool(item.get("leaving", {}).get("BOOL", False)),
    )
