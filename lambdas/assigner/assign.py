"""The assign step: read what was found, plan, write the plan down, apply it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.assigner.plan import Findings, Limits, Plan, make_plan
from lambdas.shared.chunks import chunks
from lambdas.shared.shape import Shape, shape_from_item
from lambdas.shared.staging import StagingFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lambdas.shared.control_table import ControlTable
    from lambdas.shared.staging import Staging

__all__ = ["Fetched", "apply", "assign", "read_fetched", "repair", "slot_packets"]

#: A Map state keeps the events of all its iterations in one history: no more than this many of them.
MAX_PACKETS = 200
#: Slots of a packet, at least: fewer aren't worth an invocation.
_MIN_SLOTS = 10
#: Names of each kind that go into the answer; all of them are in the plan.
_NAMES = 20


class Fetched(NamedTuple):
    """All packets of a run.

    Attributes:
        found: what to plan with.
        shapes: the shapes that `found` names.
        unsupported: Thing name -> properties left out, since their base type isn't supported.
    """

    found: Findings
    shapes: dict[str, Shape]
    unsupported: dict[str, list[str]]


def assign(
    control: ControlTable, staging: Staging, *, things_per_slot: int, lanes: int, now: int, dry_run: bool
) -> dict[str, Any]:
    """Plan, and unless `dry_run` apply the plan; the answer of the step.

    Raises:
        Conflict: the control table changed meanwhile; planning again is safe.
        StagingFault: the run has listed nothing.
    """
    fetched = read_fetched(staging)
    next_slot = control.next_slot_id()
    # A repeated try sees what the first one added: it must not find fewer Things gone by that.
    before = staging.find("plan") or {}
    limits = Limits(things_per_slot, next_slot, now, bool(before.get("removals_withheld")))
    plan = make_plan(control.things(), control.slots(), fetched.found, limits)
    key = staging.put("plan", _document(plan, fetched.unsupported))
    if not dry_run:
        apply(control, plan, fetched.shapes, next_slot=next_slot, lanes=lanes)
    return _answer(plan, key, [] if dry_run else slot_packets(plan.slots))


def repair(control: ControlTable) -> dict[str, Any]:
    """Plan nothing: the answer of the step with all active slots, so that each is opened again."""
    slots = [slot.id for slot in control.slots() if slot.state == "active"]
    return _answer(Plan(slots=slots), None, slot_packets(slots))


def read_fetched(staging: Staging) -> Fetched:
    """Everything the fetcher staged; a listed Thing that no packet speaks of counts as failed.

    Raises:
        StagingFault: there is no list, which is not the same as an empty one.
    """
    lists = [document["things"] for document in staging.all("list")]
    if not lists:
        raise StagingFault("the run has listed nothing; start a new run")
    things: dict[str, str] = {}
    failed: dict[str, str] = {}
    shapes: dict[str, Shape] = {}
    unsupported: dict[str, list[str]] = {}
    for document in staging.all("definitions"):
        things.update(document["things"])
        failed.update(document["failed"])
        unsupported.update(document.get("unsupported", {}))
        shapes.update((name, shape_from_item(item)) for name, item in document["shapes"].items())
    for name in chain.from_iterable(lists):
        if name not in things:
            failed.setdefault(name, "its packet was not fetched")
    empty = frozenset(name for name, shape in things.items() if not shapes[shape])
    served = {name: shape for name, shape in things.items() if name not in empty}
    return Fetched(Findings(served, failed, empty), shapes, unsupported)


def apply(
    control: ControlTable, plan: Plan, shapes: Mapping[str, Shape], *, next_slot: int, lanes: int
) -> None:
    """Write the plan to the control table: shapes, slots, then Things.

    Raises:
        Conflict: something changed since it was read; what was written before stays, and fits any
            later plan.
    """
    named = {change.after.shape for change in plan.changes if change.after is not None}
    control.put_shapes({name: shapes[name] for name in named if name in shapes})
    if plan.new_slots:
        control.allot_slot_ids(len(plan.new_slots), next_slot)
        control.create_slots(plan.new_slots, lanes)
    control.assign(plan.changes)


def slot_packets(slots: Sequence[str]) -> list[list[str]]:
    """Work packets of all slots, at most 200."""
    return [list(packet) for packet in chunks(slots, max(_MIN_SLOTS, -(-len(slots) // MAX_PACKETS)))]


def _lists(plan: Plan) -> dict[str, Sequence[str]]:
    return {
        "added": plan.added,
        "changed": plan.changed,
        "removed": plan.removed,
        "failed": list(plan.failed),
        "removals_withheld": plan.withheld,
        "without_properties": plan.without_properties,
    }


def _answer(plan: Plan, key: str | None, packets: list[list[str]]) -> dict[str, Any]:
    lists = _lists(plan)
    return {
        **{name: len(names) for name, names in lists.items()},
        "kept": plan.kept,
        "slots": len(plan.slots),
        "new_slots": len(plan.new_slots),
        "first_names": {name: names[:_NAMES] for name, names in lists.items() if names},
        "plan": key,
        "slot_packets": packets,
    }


def _document(plan: Plan, unsupported: Mapping[str, list[str]]) -> dict[str, Any]:
    """The whole plan, for people and the command line."""
    slot_of = {change.after.name: change.after.slot for change in plan.changes if change.after is not None}
    return {
        **_lists(plan),
        "new_slots": plan.new_slots,
        "added": {name: slot_of[name] for name in plan.added},
        "changed": {name: slot_of[name] for name in plan.changed},
        "forgotten": plan.forgotten,
        "failed": plan.failed,
        "unsupported": dict(sorted(unsupported.items())),
        "kept": plan.kept,
    }
