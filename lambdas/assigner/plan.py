"""Which Thing goes to which slot: pure planning, the same plan for the same input.

Rules:

- A Thing stays where it is, unless its slot is no longer active.
- New Things fill the fullest slot with room first, then new slots, in the order of their names.
- A Thing that is no longer listed, or has no property left, is removed. Its place stays reserved for
  a day: when it comes back it has the same slot, and its queue's order.
- A Thing that couldn't be read keeps what it had.
- When nothing is listed any more, or more of the Things served would go than the limit allows, a
  mistake in the platform or the settings is likelier than a decision: removals are withheld and
  reported, unless the run was told to allow them. Where new Things took the place of the old ones, the
  next run finds fewer of them gone.
- A run that is about some Things only leaves all others as they are. It believes that a few of them are
  gone, and of more no larger a share of them than the limit allows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.control_table import ASSIGNED, REMOVED, Slot, ThingChange, ThingRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["TOMBSTONE", "Findings", "Limits", "Plan", "make_plan"]

#: Milliseconds for which a removed Thing's place is kept.
TOMBSTONE = 24 * 60 * 60 * 1000
#: Things that a run about some Things may remove whatever their share.
_FEW = 10


@dataclass(frozen=True)
class Findings:
    """What the platform said.

    Attributes:
        shapes: Thing name -> shape id, of every Thing with a property that can be delivered.
        failed: Thing name -> why it couldn't be read.
        without_properties: listed Things with no property that can be delivered.
        only: names of the Things it is about; None when it is about all.
    """

    shapes: Mapping[str, str]
    failed: Mapping[str, str] = field(default_factory=dict)
    without_properties: frozenset[str] = frozenset()
    only: frozenset[str] | None = None


class Limits(NamedTuple):
    """What the plan must keep to.

    Attributes:
        things_per_slot: how many Things a slot is filled up to; a slot that has more keeps them.
        next_slot: number of the first new slot.
        now: time of the plan, milliseconds since 1970 UTC.
        withhold_removals: remove nothing; an earlier try of this run has decided so.
        removal_percent: share of the Things served that may go at once.
        allow_removals: let as many go as are gone.
    """

    things_per_slot: int
    next_slot: int
    now: int
    withhold_removals: bool = False
    removal_percent: int = 50
    allow_removals: bool = False


@dataclass(frozen=True)
class Plan:
    """What to change; all lists are sorted.

    Attributes:
        new_slots: ids of slots to create.
        changes: records to write, by name: all of `added`, `changed`, `removed` and `forgotten`.
        added: Things that are served from now on, the returned ones included.
        changed: Things served already whose shape, or slot, is another from now on.
        removed: Things that are no longer served.
        forgotten: Things removed a day ago, whose place is given free.
        kept: how many Things served already stay as they are.
        withheld: Things that are kept although they are gone, since too many are.
        failed: Things that couldn't be read, and why.
        without_properties: listed Things that aren't served, since they have nothing to deliver to.
        slots: ids of the slots that are active from now on.
    """

    new_slots: list[str] = field(default_factory=list)
    changes: list[ThingChange] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    kept: int = 0
    withheld: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    without_properties: list[str] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)


def make_plan(known: Iterable[ThingRecord], slots: Sequence[Slot], found: Findings, limits: Limits) -> Plan:
    """The changes that bring the known Things to what was found.

    Args:
        known: all records, removed Things included.
        slots: all slots.
        found: what the platform said.
        limits: what to keep to.
    """
    records = {record.name: record for record in known}
    served = {name: record for name, record in records.items() if record.state == ASSIGNED}
    about = records.keys() if found.only is None else found.only
    gone = sorted(
        name for name in served if name in about and name not in found.shapes and name not in found.failed
    )
    asked = len(served) if found.only is None else sum(name in served for name in found.only)
    withheld = gone if _withhold(len(gone), len(served), asked, found, limits) else []
    removed = [] if withheld else gone

    wanted = {name: record.shape for name, record in served.items() if name not in about}
    wanted.update(found.shapes)
    for name in [*found.failed, *withheld]:
        if name in served:
            wanted[name] = served[name].shape

    active = [slot.id for slot in slots if slot.state == "active"]
    expired = limits.now - TOMBSTONE
    forgotten = sorted(
        name
        for name, record in records.items()
        if record.state == REMOVED and record.changed < expired and name in about and name not in wanted
    )
    placed, new_slots = _place(wanted, records, active, set(forgotten), limits)

    after: dict[str, ThingRecord | None] = dict.fromkeys(forgotten)
    for name in removed:
        after[name] = served[name]._replace(state=REMOVED, changed=limits.now)
    for name, shape in wanted.items():
        record = ThingRecord(name, placed[name], shape, ASSIGNED, limits.now)
        if name not in served or served[name]._replace(changed=limits.now) != record:
            after[name] = record
    changed = sorted(name for name in after if name in served and name in wanted)
    return Plan(
        new_slots=new_slots,
        changes=[ThingChange(records.get(name), after[name]) for name in sorted(after)],
        added=sorted(name for name in wanted if name not in served),
        changed=changed,
        removed=removed,
        forgotten=forgotten,
        kept=len(served) - len(changed) - len(removed),
        withheld=withheld,
        failed=dict(sorted(found.failed.items())),
        without_properties=sorted(found.without_properties),
        slots=sorted([*active, *new_slots], key=int),
    )


def _withhold(gone: int, served: int, asked: int, found: Findings, limits: Limits) -> bool:
    if limits.allow_removals or not gone:
        return False
    listed = len(found.shapes) + len(found.failed) + len(found.without_properties)
    nothing_listed = listed == 0 and found.only is None
    share = asked if gone > _FEW else served
    return limits.withhold_removals or nothing_listed or gone * 100 > share * limits.removal_percent


def _place(
    wanted: Mapping[str, str],
    records: Mapping[str, ThingRecord],
    active: Sequence[str],
    forgotten: set[str],
    limits: Limits,
) -> tuple[dict[str, str], list[str]]:
    """Slot of every wanted Thing, and the new slots that takes."""
    taken = Counter(dict.fromkeys(active, 0))
    placed: dict[str, str] = {}
    for name, record in records.items():
        if record.slot in taken and name not in forgotten:
            taken[record.slot] += 1
            placed[name] = record.slot
    homeless = sorted(name for name in wanted if name not in placed)
    room = _room(taken, limits.things_per_slot)
    new_slots: list[str] = []
    for name in homeless:
        slot = next(room, None)
        if slot is None:
            slot = str(limits.next_slot + len(new_slots))
            new_slots.append(slot)
            room = iter([slot] * (limits.things_per_slot - 1))
        placed[name] = slot
    return placed, new_slots


def _room(taken: Mapping[str, int], things_per_slot: int) -> Iterator[str]:
    """Slot ids as often as they have room, the fullest first; of equally full ones the oldest."""
    for slot in sorted(taken, key=lambda slot: (-taken[slot], int(slot))):
        yield from [slot] * (things_per_slot - taken[slot])
