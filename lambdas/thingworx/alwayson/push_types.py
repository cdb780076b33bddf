"""What of a Thing's values its remote bindings want to have pushed.

Push types are those of PTC's SDKs: ALWAYS; VALUE, when the value or its quality differs, a number by more
than the threshold; DEADBAND, the same; ON and OFF, values that are true and false; NEVER, read by GET.
Differences are counted from the value that was pushed last, so that a slow drift is never lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lambdas.thingworx.alwayson.codes import BaseType
    from lambdas.thingworx.alwayson.model import InfoTable
    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Chosen", "PushFilter", "Subscription", "subscriptions_in"]

_NUMERIC = frozenset({"NUMBER", "INTEGER", "LONG"})
_DIFFERENT = frozenset({"VALUE", "DEADBAND"})


class Subscription(NamedTuple):
    """What the platform wants of one edge property.

    Attributes:
        push_type: upper case; one that isn't known counts as ALWAYS, so that nothing is lost.
        threshold: smallest difference of a number that isn't pushed; 0 pushes any.
    """

    push_type: str = "ALWAYS"
    threshold: float = 0.0


class Chosen(NamedTuple):
    """A Thing's rows, sorted out.

    Attributes:
        push: to be sent.
        suppressed: that the push types keep back.
        unbound: whose edge name has no binding.
    """

    push: list[ValueRow]
    suppressed: list[ValueRow]
    unbound: list[ValueRow]


def subscriptions_in(table: InfoTable | None) -> dict[str, Subscription]:
    """Edge name -> subscription, of GetPropertySubscriptions' result or SynchronizeModelState's propertyInfo.

    Rows without an edge name are left out.
    """
    if table is None:
        return {}
    found: dict[str, Subscription] = {}
    for row in table.records():
        edge = row.get("edgeName")
        if edge is None or not isinstance(edge.value, str) or not edge.value:
            continue
        kind, threshold = row.get("pushType"), row.get("pushThreshold")
        found[edge.value] = Subscription(
            kind.value.upper() if kind and isinstance(kind.value, str) and kind.value else "ALWAYS",
            float(threshold.value) if threshold and _is_number(threshold.base_type) else 0.0,
        )
    return found


def _is_number(base_type: BaseType) -> bool:
    return base_type.name in _NUMERIC


class PushFilter:
    """Decides about one Thing's rows, and keeps the newest value of each of its properties."""

    __slots__ = ("newest", "pushed")

    def __init__(self) -> None:
        #: Edge name -> newest row that was settled, pushed or not: what a GET answers.
        self.newest: dict[str, ValueRow] = {}
        #: Edge name -> newest row that the platform took.
        self.pushed: dict[str, ValueRow] = {}

    def choose(
        self, rows: Iterable[ValueRow], subscriptions: Mapping[str, Subscription], *, honour: bool
    ) -> Chosen:
        """Sort rows out; nothing is remembered before `settled` says that it happened.

        Args:
            rows: in time order.
            subscriptions: of the Thing, by edge name.
            honour: False pushes whatever has a binding.
        """
        chosen = Chosen([], [], [])
        ahead: dict[str, ValueRow] = {}
        for row in rows:
            subscription = subscriptions.get(row.name)
            if subscription is None:
                chosen.unbound.append(row)
                continue
            last = ahead.get(row.name) or self.pushed.get(row.name)
            if honour and not _wanted(row, last, subscription):
                chosen.suppressed.append(row)
                continue
            ahead[row.name] = row
            chosen.push.append(row)
        return chosen

    def choose_echo(
        self, rows: Iterable[ValueRow], subscriptions: Mapping[str, Subscription], *, honour: bool
    ) -> Chosen:
        """As `choose`, of values that were written on the platform, which shows them once they are pushed.

        Thresholds don't count; the value that was pushed last is kept back: the platform shows it, and
        where a script there writes what it sees, the two would answer each other for ever.
        """
        chosen = Chosen([], [], [])
        for row in rows:
            subscription = subscriptions.get(row.name)
            last = self.pushed.get(row.name)
            shown = last is not None and (last.value, last.quality) == (row.value, row.quality)
            if subscription is None:
                chosen.unbound.append(row)
            elif shown or (honour and subscription.push_type == "NEVER"):
                chosen.suppressed.append(row)
            else:
                chosen.push.append(row)
        return chosen

    def unseen(self) -> dict[str, ValueRow]:
        """Newest rows whose value the platform has not got, by edge name."""
        return {
            name: row
            for name, row in self.newest.items()
            if (last := self.pushed.get(name)) is None
            or (last.value, last.quality) != (row.value, row.quality)
        }

    def settled(self, pushed: Iterable[ValueRow], suppressed: Iterable[ValueRow]) -> None:
        """Remember what the platform took, and what it needn't have."""
        for row in pushed:
            _keep(self.pushed, row)
            _keep(self.newest, row)
        for row in suppressed:
            _keep(self.newest, row)


def _keep(newest: dict[str, ValueRow], row: ValueRow) -> None:
    known = newest.get(row.name)
    if known is None or row.time >= known.time:
        newest[row.name] = row


def _wanted(row: ValueRow, last: ValueRow | None, subscription: Subscription) -> bool:
    kind = subscription.push_type
    if kind == "NEVER":
        return False
    if kind in ("ON", "OFF"):
        return bool(row.value) is (kind == "ON")
    if kind not in _DIFFERENT or last is None or row.time < last.time:
        # An older value belongs into the history, where nothing is known to compare it with.
        return True
    if row.quality != last.quality or row.base_type != last.base_type:
        return True
    if row.base_type in _NUMERIC and subscription.threshold > 0:
        # Written so that a value that is no number (NaN) counts as different.
        return not abs(row.value - last.value) <= subscription.threshold
    return bool(row.value != last.value)
