"""The lease that makes one connector at a time the owner of a slot.

It lives on the slot's item of the control table. Owner strings are unique an invocation; `epoch` is
the fencing token: the scaler raises it only where no lease is live, and a holder of an older epoch
can neither take nor renew.

    free --acquire--> held(owner) --leave--> held(owner, leaving) --ask--> (.., successor)
      ^                    ^                       ^                          |      |
      |                    |                       |                        offer    |
      |                    |                       +------- take back ------- v      |
      |                    +--- take (owner := successor) ----- yielding(owner, successor)
      +------------------------------- release --------------------------------------+

Between its offer and a successful `take_back` an owner owns nothing: the successor may take the lease
at any moment, by one conditional write. So there is never a moment at which both may push. An offer may
reach the table late, after its sender has taken it back: `withdrawn` says which one that was, and the table
refuses it.

The deadline is counted from *before* the renewal was sent, so a slow answer never makes the holder
believe longer than the table does; and on every clock there is, since a process that was frozen may
find that some of them stood still.
"""

from __future__ import annotations

import re
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lambdas.connector.slot_view import HANDOVER_FIELDS, Offer, SlotView, view_of
from lambdas.shared.dynamo import to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["CLOCK_MARGIN", "Lease", "LeaseLost", "Taken"]


#: Part of a lease that its holder leaves unused: the clock of who waits for its end may be ahead.
CLOCK_MARGIN = 0.05

#: Where there is no such clock, the first one stands in for it.
_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_OURS = "#owner = :me AND #epoch = :epoch"
_NO_HANDOVER = ", ".join(f"#{name}" for name in HANDOVER_FIELDS)
_NO_OFFER = ", ".join(f"#{name}" for name in HANDOVER_FIELDS if name != "withdrawn")
_NOT_WITHDRAWN = "(attribute_not_exists(#withdrawn) OR #withdrawn < :since)"
_OFFERED = "#owner = :them AND #yielding = :them AND #successor = :me AND #epoch = :epoch"


class LeaseLost(Exception):  # noqa: N818 - a state of the world, not a programming error
    """Somebody else owns the slot now, or a newer epoch exists."""


class Taken(Enum):
    """Why or how `acquire` ended."""

    HELD = "held"
    SUPERSEDED = "superseded"
    STOPPING = "stopping"
    TWIN = "another invocation of the same event serves it, or will"
    BUSY = "busy"
    NEXT = "the owner knows that we are next"
    OFFERED = "the owner offers it"


class Lease:
    """One connector's view of its slot's lease. Methods block; call them from a thread.

    Args:
        client: boto3 DynamoDB client.
        table: control table.
        slot: slot id.
        epoch: epoch this connector was started for.
        owner: name of this invocation, unique for ever; what precedes its last `/` names the event.
        seconds: how long a renewal is valid.
    """

    def __init__(
        self, client: DynamoDBClient, table: str, *, slot: str, epoch: int, owner: str, seconds: float
    ) -> None:
        self._client = client
        self._table = table
        self._key = to_item({"pk": "slots", "sk": slot})
        self._epoch = epoch
        self._owner = owner
        self._event = owner.rpartition("/")[0]
        self._seconds = seconds
        self._counted_from: tuple[float, ...] | None = None
        self._given_away = False
        self._released = False
        #: `since` of the latest offer.
        self._since = 0

    @property
    def owner(self) -> str:
        """The name of this invocation."""
        return self._owner

    @property
    def epoch(self) -> int:
        """The epoch that this connector was started for."""
        return self._epoch

    def valid(self) -> bool:
        """Whether side effects are still ours to make."""
        if self._released or self._given_away or self._counted_from is None:
            return False
        passed = max(now - then for now, then in zip(_clocks(), self._counted_from, strict=True))
        return passed < self._seconds * (1 - CLOCK_MARGIN)

    def view(self) -> SlotView:
        """Consistent read of the slot."""
        answer = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        return view_of(answer.get("Item"))

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
            return self._wait_for(slot)
        before = _clocks()
        try:
            self._update(
                f"SET #owner = :me, #until = :until REMOVE #leaving, {_NO_HANDOVER}",
                "#epoch = :epoch AND (attribute_not_exists(#owner) OR #until < :now OR #owner = :me)",
            )
        except LeaseLost:
            return Taken.BUSY  # somebody was quicker
        self._counted_from = before
        self._given_away = False
        return Taken.HELD

    def _wait_for(self, slot: SlotView) -> Taken:
        if self._is_twin(slot.owner) or self._is_twin(slot.successor):
            return Taken.TWIN
        if slot.successor == self._owner:
            return Taken.OFFERED if slot.offer else Taken.NEXT
        if slot.leaving and slot.successor is None:
            return self._ask_to_go(slot.owner)
        return Taken.BUSY

    def _is_twin(self, other: str | None) -> bool:
        return bool(self._event and other and other.startswith(f"{self._event}/") and other != self._owner)

    def renew(self) -> SlotView:
        """Prolong the lease.

        Returns:
            The slot as it is after the renewal.

        Raises:
            LeaseLost: the slot has another owner or a newer epoch.
        """
        before = _clocks()
        view = self._update("SET #until = :until", _OURS)
        self._counted_from = before
        return view

    def leave(self) -> None:
        """Announce that this owner will go, so that a successor may ask for the slot.

        Prolongs nothing: it may reach the table after a later renewal.

        Raises:
            LeaseLost: the slot has another owner or a newer epoch.
        """
        self._update("SET #leaving = :true", _OURS)

    def release(self) -> None:
        """Give the slot free, for good; nothing happens when it is not ours any more."""
        self._released = True  # a renewal still under way can't make it valid again
        try:
            self._update(f"REMOVE #owner, #until, #leaving, {_NO_HANDOVER}", "#owner = :me")
        except LeaseLost:
            return

    def offer(self, offer: Offer) -> None:
        """Let the successor take the lease; from this call on nothing is ours to push.

        Raises:
            LeaseLost: the slot has another owner or a newer epoch.
        """
        self._given_away = True  # whatever becomes of the write
        # Later than that of an offer before, whatever the clock does: offers are told apart by it.
        self._since = max(offer.since, self._since + 1)
        self._update(
            "SET #until = :until, #yielding = :me, #groups = :groups, #probe = :probe, #since = :since,"
            " #unbound = :unbound REMOVE #rebound",
            f"{_OURS} AND {_NOT_WITHDRAWN}",
            groups=offer.groups,
            probe=offer.probe,
            since=self._since,
            unbound=offer.unbound,
        )

    def unbound(self, groups: int) -> SlotView:
        """Tell the successor how many groups are unbound; prolongs the lease.

        Raises:
            LeaseLost: the successor has taken the lease, or somebody else.
        """
        return self._update(
            "SET #until = :until, #unbound = :unbound", f"{_OURS} AND #yielding = :me", unbound=groups
        )

    def take_back(self) -> None:
        """Withdraw the offer: the lease is ours again, and whoever leaves it next is to ask anew.

        Raises:
            LeaseLost: too late, the successor has it.
        """
        before = _clocks()
        self._update(f"SET #until = :until, #withdrawn = :since REMOVE {_NO_OFFER}", _OURS, since=self._since)
        self._counted_from = before
        self._given_away = False

    def rebound(self, groups: int, owner: str) -> SlotView:
        """As the successor: tell the owner how many groups are bound here.

        Raises:
            LeaseLost: the offer is withdrawn.
        """
        return self._update("SET #rebound = :rebound", _OFFERED, rebound=groups, them=owner)

    def take(self, owner: str) -> None:
        """As the successor: take the lease that its owner offers.

        Raises:
            LeaseLost: the offer is withdrawn.
        """
        before = _clocks()
        self._update(
            f"SET #owner = :me, #until = :until REMOVE #leaving, {_NO_HANDOVER}", _OFFERED, them=owner
        )
        self._counted_from = before

    def _ask_to_go(self, owner: str | None) -> Taken:
        try:
            self._update(
                "SET #successor = :me, #takes = :true",
                "#owner = :them AND attribute_not_exists(#successor)",
                them=owner,
            )
        except LeaseLost:
            return Taken.BUSY
        return Taken.NEXT

    def _update(self, update: str, condition: str, **values: Any) -> SlotView:
        now = time.time()
        known = values | {
            "until": int((now + self._seconds) * 1000),
            "now": int(now * 1000),
            "true": True,
            "me": self._owner,
            "epoch": self._epoch,
        }
        text = f"{update} {condition}"
        used = {f":{name}": known[name] for name in re.findall(r":(\w+)", text)}
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=update,
                ConditionExpression=condition,
                # All by placeholder: several of the names are words of DynamoDB's own.
                ExpressionAttributeNames={f"#{name}": name for name in re.findall(r"#(\w+)", text)},
                ExpressionAttributeValues=to_item(used),
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise LeaseLost(f"slot {self._key['sk']['S']}: {condition} does not hold") from error
            raise
        return view_of(answer.get("Attributes"))


def _clocks() -> tuple[float, ...]:
    """Seconds of each clock: running time, running time with the machine asleep, time of day."""
    return time.monotonic(), time.clock_gettime(_BOOT_TIME), time.time()
