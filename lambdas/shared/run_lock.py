"""Single flight: at most one discovery run at a time.

The lock is one item of the control table. A run that finds it taken sets `again` on it and ends; the
holder sees that when it ends, and runs once more, unless it has failed: then the next run makes up for
both. A holder that died is replaced when its lease ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.errors import Conflict, RunLost

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["RunLock", "Taken"]

_KEY = to_item({"pk": "run", "sk": "lock"})
_NAMES = {"#owner": "owner", "#until": "until", "#again": "again"}
_TRIES = 5


class Taken(NamedTuple):
    """Answer to `begin`: whether the run holds the lock, and else who does."""

    acquired: bool
    holder: str | None


class RunLock:
    """The lock of the discovery runs.

    Args:
        table: name of the control table.
        client: boto3 DynamoDB client.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table = table
        self._client = client

    def begin(self, run: str, lease: int, now: int, *, again: bool = True) -> Taken:
        """Take the lock, or leave word with its holder.

        Asking again with the same run is asking once: a retried task keeps the lock and its `again`.

        Args:
            run: execution name of the run.
            lease: milliseconds until others may take the lock over.
            now: time, milliseconds since 1970 UTC.
            again: whether to leave word with a holder.

        Raises:
            Conflict: the lock changed hands at every try.
        """
        values = {":run": run, ":now": now, ":until": now + lease}
        for _ in range(_TRIES):
            if self._update(
                "SET #owner = :run, #until = :until REMOVE #again",
                "attribute_not_exists(#owner) OR (#owner <> :run AND #until < :now)",
                values,
            ):
                return Taken(acquired=True, holder=None)
            if self._update("SET #until = :until", "#owner = :run", values):
                return Taken(acquired=True, holder=None)
            held = self._update(
                "SET #again = :true" if again else "SET #owner = #owner",
                "#owner <> :run AND #until >= :now",
                {":run": run, ":now": now, ":true": True},
            )
            if held:
                return Taken(acquired=False, holder=held["owner"])
        raise Conflict(f"run {run}: the run lock changed hands at each of {_TRIES} tries")

    def renew(self, run: str, lease: int, now: int) -> None:
        """Keep the lock for another `lease` milliseconds.

        Raises:
            RunLost: another run holds it, or this one has ended.
        """
        held = self._update(
            "SET #until = :until",
            "#owner = :run AND #until > :ended",
            {":run": run, ":until": now + lease, ":ended": 0},
        )
        if not held:
            raise RunLost(f"run {run} has lost the run lock; another run carries on")

    def end(self, run: str) -> bool:
        """Give the lock back; true when another run was asked for meanwhile.

        The name stays on the item, so that a retried task gets the same answer.

        Raises:
            RunLost: another run holds it.
        """
        held = self._update("SET #until = :ended", "#owner = :run", {":run": run, ":ended": 0})
        if not held:
            raise RunLost(f"run {run} has lost the run lock; another run carries on")
        return bool(held.get("again", False))

    def holder(self, now: int) -> str | None:
        """Who holds the lock; None when nobody does, or its lease has passed."""
        answer = self._client.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True)
        lock = from_item(answer.get("Item", {}))
        return lock["owner"] if lock and lock["until"] >= now else None

    def last_ended(self) -> str | None:
        """Name of the last run, once it has ended; None while one runs or none ever ran."""
        answer = self._client.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True)
        lock = from_item(answer.get("Item", {}))
        return lock["owner"] if lock and not lock["until"] else None

    def _update(self, update: str, condition: str, values: dict[str, Any]) -> dict[str, Any] | None:
        """The lock after the update, or None when the condition didn't hold."""
        used = f"{update} {condition}"
        try:
            with conditional("change the run lock"):
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=_KEY,
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    # DynamoDB refuses names and values that the expressions don't use.
                    ExpressionAttributeNames={key: name for key, name in _NAMES.items() if key in used},
                    ExpressionAttributeValues=to_item(
                        {key: value for key, value in values.items() if key in used}
                    ),
                    ReturnValues="ALL_NEW",
                )
        except Conflict:
            return None
        return from_item(answer["Attributes"])
