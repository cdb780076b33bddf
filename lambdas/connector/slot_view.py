"""What a connector reads of its slot's item: who owns it, who comes next, and how far a hand-over is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.dynamo import from_item

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HANDOVER_FIELDS", "Offer", "SlotView", "view_of"]

#: Attributes that belong to one hand-over; a slot that nobody is leaving has none of them.
HANDOVER_FIELDS = (
    "successor",
    "takes",
    "yielding",
    "groups",
    "probe",
    "since",
    "unbound",
    "rebound",
    "withdrawn",
)


class Offer(NamedTuple):
    """The owner's offer to its successor: it pushes nothing any more, and the lease may be taken.

    Attributes:
        groups: in how many groups the owner's Things would be handed over one group after the other.
        probe: a Thing that the owner has bound: binding it shows who wins. Empty: nothing is bound.
        since: when the owner stopped receiving, milliseconds since 1970.
        unbound: how many groups the owner has unbound.
        rebound: how many of them the successor has bound; None before it calls for groups.
    """

    groups: int
    probe: str
    since: int
    unbound: int = 0
    rebound: int | None = None


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
        takes: the successor knows how to take the lease from an owner that offers it.
        offer: what the owner offers, or None.
    """

    state: str
    epoch: int
    queue_url: str | None
    owner: str | None
    until: int
    successor: str | None
    leaving: bool
    takes: bool = False
    offer: Offer | None = None


def view_of(item: Mapping[str, Any] | None) -> SlotView:
    """A view of an item as DynamoDB gives it; unknown attributes are left alone."""
    if not item:
        return SlotView("gone", 0, None, None, 0, None, leaving=False)
    slot = from_item(item)
    owner = slot.get("owner")
    return SlotView(
        state=slot["state"],
        epoch=slot.get("epoch", 0),
        queue_url=slot.get("queue_url"),
        owner=owner,
        until=slot.get("until", 0),
        successor=slot.get("successor"),
        leaving=slot.get("leaving", False),
        takes=slot.get("takes", False),
        # A release that doesn't know of offers leaves them behind: only the owner's own counts.
        offer=_offer(slot) if owner is not None and slot.get("yielding") == owner else None,
    )


def _offer(slot: Mapping[str, Any]) -> Offer:
    return Offer(slot["groups"], slot["probe"], slot["since"], slot["unbound"], slot.get("rebound"))
