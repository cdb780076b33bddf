"""Planning: sticky, dense, the same for the same input, and careful with removals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.assigner.plan import TOMBSTONE, Findings, Limits, Plan, make_plan
from lambdas.shared.control_table import ASSIGNED, REMOVED, Slot, ThingRecord

if TYPE_CHECKING:
    import random

NOW = 1_700_000_000_000
NAMES = [f"thing {number:02}" for number in range(24)]


@dataclass
class Fleet:
    """The control table in memory: plans are applied to it."""

    capacity: int = 3
    removal_percent: int = 50
    now: int = NOW
    records: dict[str, ThingRecord] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)

    def plan(self, found: Findings, *, withhold: bool = False, allow: bool = False) -> Plan:
        """Plan without applying."""
        limits = Limits(self.capacity, len(self.slots) + 1, self.now, withhold, self.removal_percent, allow)
        return make_plan(self.records.values(), self.slots, found, limits)

    def run(self, found: Findings, *, withhold: bool = False, allow: bool = False) -> Plan:
        """Plan, and apply the plan."""
        plan = self.plan(found, withhold=withhold, allow=allow)
        self.slots += [Slot(slot, "active", 8) for slot in plan.new_slots]
        for before, after in plan.changes:
            changed = after or before
            assert changed is not None
            assert self.records.get(changed.name) == before
            if after is None:
                del self.records[changed.name]
            else:
                self.records[changed.name] = after
        return plan

    def served(self) -> dict[str, ThingRecord]:
        """Things that are served."""
        return {name: record for name, record in self.records.items() if record.state == ASSIGNED}

    def slot_of(self, name: str) -> str:
        """Where a Thing is."""
        return self.records[name].slot


def listed(*names: str, shape: str = "aa") -> Findings:
    return Findings(dict.fromkeys(names, shape))


def test_the_first_things_share_the_fewest_slots_in_the_order_of_their_names() -> None:
    fleet = Fleet(capacity=3)
    plan = fleet.run(listed("d", "c", "b", "a"))
    assert plan.new_slots == ["1", "2"]
    assert {name: fleet.slot_of(name) for name in "abcd"} == {"a": "1", "b": "1", "c": "1", "d": "2"}
    assert (plan.added, plan.kept) == (["a", "b", "c", "d"], 0)


def test_nothing_new_changes_nothing() -> None:
    fleet = Fleet()
    fleet.run(listed(*NAMES))
    plan = fleet.run(listed(*NAMES))
    assert (plan.changes, plan.kept) == ([], len(NAMES))


def test_the_fullest_slot_with_room_is_filled_first() -> None:
    fleet = Fleet(capacity=3, slots=[Slot(str(number), "active", 8) for number in (1, 2, 3)])
    for slot, names in (("1", "a"), ("2", "bc"), ("3", "def")):
        fleet.records.update((name, ThingRecord(name, slot, "aa", ASSIGNED, NOW)) for name in names)
    fleet.run(listed(*"abcdef", "x", "y"))
    assert (fleet.slot_of("x"), fleet.slot_of("y")) == ("2", "1")


def test_a_new_shape_changes_the_thing_and_moves_nothing() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b"))
    plan = fleet.run(Findings({"a": "aa", "b": "bb"}))
    assert (plan.changed, plan.kept) == (["b"], 1)
    assert fleet.records["b"] == ThingRecord("b", "1", "bb", ASSIGNED, NOW)


def test_a_thing_gone_is_removed_and_its_place_kept_for_a_day() -> None:
    fleet = Fleet(capacity=2)
    fleet.run(listed("a", "b", "c"))
    assert fleet.run(listed("a", "c")).removed == ["b"]
    assert fleet.records["b"].state == REMOVED
    fleet.run(listed("a", "c", "d", "e"))
    assert fleet.slot_of("d") == "2"  # beside c; the place of b stays free
    fleet.now += TOMBSTONE
    assert fleet.run(listed("a", "b", "c", "d", "e")).added == ["b"]
    assert fleet.slot_of("b") == "1"


def test_after_a_day_the_place_of_a_removed_thing_is_given_away() -> None:
    fleet = Fleet(capacity=2)
    fleet.run(listed("a", "b", "c"))
    fleet.run(listed("a", "c"))
    fleet.now += TOMBSTONE + 1
    plan = fleet.run(listed("a", "c", "d", "e"))
    assert plan.forgotten == ["b"]
    assert "b" not in fleet.records
    assert sorted(fleet.slot_of(name) for name in "acde") == ["1", "1", "2", "2"]


def test_a_thing_that_could_not_be_read_keeps_what_it_had() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b"))
    plan = fleet.run(Findings({"a": "aa"}, failed={"b": "time-out", "new": "500"}))
    assert (plan.changes, plan.kept) == ([], 2)
    assert plan.failed == {"b": "time-out", "new": "500"}


def test_a_thing_without_properties_is_reported_and_not_served() -> None:
    fleet = Fleet()
    plan = fleet.run(Findings({"a": "aa"}, without_properties=frozenset({"bare"})))
    assert (plan.without_properties, sorted(fleet.records)) == (["bare"], ["a"])


def test_a_thing_that_loses_its_properties_is_removed() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c"))
    assert fleet.run(Findings({"a": "aa", "b": "aa"}, without_properties=frozenset({"c"}))).removed == ["c"]


def test_an_empty_list_removes_nothing() -> None:
    fleet = Fleet()
    fleet.run(listed("a"))
    plan = fleet.run(listed())
    assert (plan.withheld, plan.removed, plan.changes, plan.kept) == (["a"], [], [], 1)


def test_more_than_half_of_the_things_gone_removes_nothing() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c", "d"))
    plan = fleet.run(listed("a", "x"))
    assert (plan.withheld, plan.added) == (["b", "c", "d"], ["x"])
    assert sorted(fleet.served()) == ["a", "b", "c", "d", "x"]


def test_a_repeated_try_of_a_run_that_withheld_removals_withholds_them_too() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b"))
    assert fleet.run(listed("x", "y")).withheld == ["a", "b"]
    assert fleet.plan(listed("x", "y"), withhold=True).changes == []


def test_half_of_the_things_gone_is_believed() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c", "d"))
    assert fleet.run(listed("a", "b")).removed == ["c", "d"]


def test_all_things_losing_their_properties_at_once_removes_nothing() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b"))
    assert fleet.run(Findings({}, without_properties=frozenset("ab"))).withheld == ["a", "b"]


@pytest.mark.parametrize(("percent", "gone"), [(0, 0), (24, 0), (25, 1), (50, 2), (75, 3), (100, 3)])
def test_no_more_things_go_at_once_than_the_limit_allows(percent: int, gone: int) -> None:
    names = ["a", "b", "c", "d"]
    for count in range(1, 4):
        fleet = Fleet(removal_percent=percent)
        fleet.run(listed(*names))
        plan = fleet.run(listed(*names[count:]))
        expected = (names[:count], []) if count <= gone else ([], names[:count])
        assert (plan.removed, plan.withheld) == expected


@pytest.mark.parametrize("left", [[], ["a"]])
def test_a_run_that_is_told_to_removes_however_many_are_gone(left: list[str]) -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c", "d"))
    plan = fleet.run(listed(*left), allow=True)
    assert (sorted(fleet.served()), plan.withheld) == (left, [])


def test_a_run_about_some_things_leaves_all_others_as_they_are() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c", "d", "old"))
    fleet.run(listed("a", "b", "c", "d"))
    fleet.now += TOMBSTONE + 1
    before = dict(fleet.records)
    plan = fleet.run(Findings({"a": "bb", "new": "aa"}, only=frozenset({"a", "b", "new", "stranger"})))
    assert (plan.changed, plan.removed, plan.added, plan.forgotten) == (["a"], ["b"], ["new"], [])
    assert {name: fleet.records[name] for name in ("c", "d", "old")} == {
        name: before[name] for name in ("c", "d", "old")
    }


def test_a_run_about_one_thing_that_is_gone_removes_it() -> None:
    fleet = Fleet()
    fleet.run(listed("a", "b", "c"))
    assert fleet.run(Findings({}, only=frozenset({"b"}))).removed == ["b"]


@pytest.mark.parametrize("left", [0, 9, 10])
def test_a_run_about_many_things_whose_list_is_empty_or_halved_removes_nothing(left: int) -> None:
    """However small a part of the fleet they are."""
    fleet = Fleet(capacity=100)
    fleet.run(listed(*NAMES, *(f"other {number}" for number in range(100))))
    asked, there = NAMES[:20], NAMES[:left]
    plan = fleet.run(
        Findings(dict.fromkeys(there, "aa"), only=frozenset({*asked, "stranger 1", "stranger 2"}))
    )
    gone = asked[left:]
    assert (plan.removed, plan.withheld) == (([], gone) if left < 10 else (gone, []))


def test_a_renamed_thing_is_another_one_and_the_old_ones_place_is_kept_for_a_day() -> None:
    fleet = Fleet(capacity=3)
    fleet.run(listed("a", "b", "c"))
    plan = fleet.run(listed("a", "b", "C"))
    assert (plan.added, plan.removed, plan.new_slots) == (["C"], ["c"], ["2"])


def test_more_room_in_a_slot_is_filled_before_a_new_one_is_made() -> None:
    fleet = Fleet(capacity=2)
    fleet.run(listed("a", "b", "c"))
    fleet.capacity = 4
    plan = fleet.run(listed("a", "b", "c", "d", "e", "f"))
    assert plan.new_slots == []
    assert Counter(fleet.slot_of(name) for name in "abcdef") == {"1": 4, "2": 2}


def test_things_of_a_slot_that_retires_move_and_nothing_new_enters_it() -> None:
    fleet = Fleet(capacity=2)
    fleet.run(listed("a", "b", "c"))
    fleet.slots[0] = fleet.slots[0]._replace(state="draining")
    plan = fleet.run(Findings({"a": "aa", "c": "aa"}, failed={"b": "time-out"}))
    assert (plan.changed, plan.new_slots, plan.slots) == (["a", "b"], ["3"], ["2", "3"])
    assert {name: fleet.slot_of(name) for name in "abc"} == {"a": "2", "b": "3", "c": "2"}


def test_a_slot_with_more_things_than_allowed_today_keeps_them() -> None:
    fleet = Fleet(capacity=4)
    fleet.run(listed("a", "b", "c", "d"))
    fleet.capacity = 2
    assert fleet.run(listed("a", "b", "c", "d", "e")).changes[0].after == ThingRecord(
        "e", "2", "aa", ASSIGNED, NOW
    )


def findings_of(
    shapes: dict[str, str], failed: dict[str, str], bare: set[str], only: frozenset[str] | None
) -> Findings:
    about = set(NAMES) if only is None else only
    others = {*failed, *bare}
    return Findings(
        {name: shape for name, shape in shapes.items() if name in about and name not in others},
        {name: why for name, why in failed.items() if name in about},
        frozenset((bare & about) - failed.keys()),
        only,
    )


findings = st.builds(
    findings_of,
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["aa", "bb"])),
    st.dictionaries(st.sampled_from(NAMES), st.just("time-out"), max_size=5),
    st.sets(st.sampled_from(NAMES), max_size=3),
    st.none() | st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=6),
)


class Step(NamedTuple):
    """One run of a history."""

    found: Findings
    passed: int
    retire: bool
    capacity: int
    allow: bool


runs = st.lists(
    st.builds(
        Step,
        findings,
        st.sampled_from([0, 1000, TOMBSTONE // 2, TOMBSTONE + 1]),
        st.booleans(),
        st.integers(1, 5),
        st.booleans(),
    ),
    max_size=8,
)


@given(runs, st.integers(0, 100), st.randoms(use_true_random=False))
def test_every_history_keeps_the_rules(history: list[Step], percent: int, shuffler: random.Random) -> None:
    fleet = Fleet(removal_percent=percent)
    for found, passed, retire, capacity, allow in history:
        fleet.now += passed
        fleet.capacity = capacity
        if retire and fleet.slots:
            fleet.slots[0] = fleet.slots[0]._replace(state="draining")
        about = set(NAMES) if found.only is None else found.only
        before, served = dict(fleet.records), fleet.served()
        active = {slot.id for slot in fleet.slots if slot.state == "active"}
        assert fleet.plan(found) == plan_of_shuffled(fleet, found, shuffler)

        full = Counter(record.slot for record in before.values())
        plan = fleet.run(found, allow=allow)

        taken = Counter(record.slot for record in fleet.records.values())
        assert all(count <= max(capacity, full[slot]) for slot, count in taken.items())
        homeless = [name for name in fleet.served() if name not in before or before[name].slot not in active]
        assert all(
            fleet.slot_of(name) == before[name].slot for name in fleet.served() if name not in homeless
        )
        assert all(fleet.slot_of(name) in {*active, *plan.new_slots} for name in fleet.served())
        held = Counter(record.slot for name, record in fleet.records.items() if name not in homeless)
        room = sum(max(0, capacity - held[slot]) for slot in active)
        assert len(plan.new_slots) == max(0, -(-(len(homeless) - room) // capacity))
        for name in found.failed.keys() & served.keys():
            assert fleet.served()[name].shape == served[name].shape
        assert {name: fleet.served()[name].shape for name in found.shapes} == found.shapes
        for name, record in before.items():
            if name not in about:
                assert fleet.records[name] == record or name in homeless
        gone = {name for name in served if name in about} - found.shapes.keys() - found.failed.keys()
        assert gone in (set(plan.removed), set(plan.withheld))
        if allow:
            assert not plan.withheld
        else:
            assert (len(gone) * 100 > len(served) * percent) == bool(plan.withheld) or not found.shapes
        assert len(served) == plan.kept + len(plan.changed) + len(plan.removed)
        assert fleet.run(found, withhold=bool(plan.withheld), allow=allow).changes == []  # a repeated try


def plan_of_shuffled(fleet: Fleet, found: Findings, shuffler: random.Random) -> Plan:
    """The plan for the same input in another order."""

    def shuffled(entries: dict[str, str]) -> dict[str, str]:
        names = list(entries)
        shuffler.shuffle(names)
        return {name: entries[name] for name in names}

    other = replace(fleet, records=dict(fleet.records), slots=list(fleet.slots))
    records = list(other.records.items())
    shuffler.shuffle(records)
    shuffler.shuffle(other.slots)
    other.records = dict(records)
    return other.plan(
        replace(found, shapes=shuffled(dict(found.shapes)), failed=shuffled(dict(found.failed)))
    )
