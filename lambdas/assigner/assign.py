"""The assign step: read what was found, plan, write the plan down, apply it."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.assigner.fetched import read_fetched
from lambdas.assigner.plan import Limits, Plan, make_plan
from lambdas.shared.chunks import chunks
from lambdas.shared.seen import NAME as SEEN
from lambdas.shared.seen import as_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lambdas.assigner.fetched import Fetched
    from lambdas.assigner.plan import Findings
    from lambdas.shared.control_table import ControlTable, Slot
    from lambdas.shared.shape import Shape
    from lambdas.shared.staging import Staging

__all__ = ["Rules", "apply", "assign", "repair", "slot_packets"]

#: Names that AWS IoT takes for a thing: others can have no shadow.
_IOT_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")

#: A Map state keeps the events of all its iterations in one history: no more than this many of them.
MAX_PACKETS = 200
#: Slots of a packet, at least: fewer aren't worth an invocation.
_MIN_SLOTS = 10
#: Names of each kind that go into the answer; all of them are in the plan.
_NAMES = 20


class Rules(NamedTuple):
    """How this run assigns.

    Attributes:
        things_per_slot: how many Things a slot is filled up to.
        lanes: message groups of a new slot's queue.
        removal_percent: share of the Things served that may go at once.
        allow_removals: let as many go as are gone.
        dry_run: only plan.
    """

    things_per_slot: int
    lanes: int
    removal_percent: int = 50
    allow_removals: bool = False
    dry_run: bool = False


def assign(control: ControlTable, staging: Staging, rules: Rules, clock: Callable[[], int]) -> dict[str, Any]:
    """Plan, and unless it's a dry run apply the plan; the answer of the step.

    Args:
        control: the control table.
        staging: of this run.
        rules: how to assign.
        clock: milliseconds since 1970 UTC.

    Raises:
        Conflict: the control table changed meanwhile; planning again is safe.
        StagingFault: the run has listed nothing.
    """
    began = clock()
    fetched = read_fetched(staging)
    next_slot = control.next_slot_id()
    # A repeated try sees what the first one added: it must not find fewer Things gone by that.
    before = staging.find("plan") or {}
    limits = Limits(
        rules.things_per_slot,
        next_slot,
        began,
        bool(before.get("removals_withheld")),
        rules.removal_percent,
        rules.allow_removals,
    )
    slots = control.slots()
    plan = make_plan(control.things(), slots, fetched.found, limits)
    key = staging.put("plan", _document(plan, fetched))
    if not rules.dry_run:
        apply(control, plan, fetched.shapes, next_slot=next_slot, lanes=rules.lanes)
        if fetched.seen is not None:
            staging.put(SEEN, fetched.seen.to_document())
    staging.put("steps", {"steps": fetched.steps | {"assign": [began, clock()]}})
    return _answer(plan, key, [] if rules.dry_run else slot_packets([*plan.slots, *_draining(slots)]))


def repair(control: ControlTable) -> dict[str, Any]:
    """Plan nothing: the answer of the step with all slots that are served, so that each is opened again."""
    slots = control.slots()
    active = [slot.id for slot in slots if slot.state == "active"]
    return _answer(Plan(slots=active), None, slot_packets([*active, *_draining(slots)]))


def _draining(slots: Iterable[Slot]) -> list[str]:
    """Slots that get no Things any more, but deliver what their queues still hold."""
    return [slot.id for slot in slots if slot.state == "draining"]


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


def _document(plan: Plan, fetched: Fetched) -> dict[str, Any]:
    """The whole plan, for people and the command line."""
    slot_of = {change.after.name: change.after.slot for change in plan.changes if change.after is not None}
    return {
        **_lists(plan),
        "new_slots": plan.new_slots,
        "added": {name: slot_of[name] for name in plan.added},
        "changed": {name: slot_of[name] for name in plan.changed},
        "forgotten": plan.forgotten,
        "failed": plan.failed,
        "unsupported": dict(sorted(fetched.unsupported.items())),
        "mistakes": as_lists(dict(sorted(fetched.mistakes.items()))),
        "names": sorted(name for name in _named(fetched.found) if not _IOT_NAME.fullmatch(name)),
        "kept": plan.kept,
        "slots": len(plan.slots),
        "listed": fetched.listed,
        "read": fetched.read,
        "why_all": fetched.why_all,
        "only": sorted(fetched.found.only) if fetched.found.only is not None else None,
    }


def _named(found: Findings) -> Iterator[str]:
    return chain(found.shapes, found.failed, found.without_properties)
