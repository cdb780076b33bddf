"""What discovery is wanted for: no wish is lost, whatever happens to the runs that take them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lambdas.shared.errors import Conflict
from lambdas.shared.wanted import MOST_THINGS, Options, WantedRuns, Wishes
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000


@pytest.fixture
def wanted() -> Iterator[WantedRuns]:
    with aws():
        yield WantedRuns(CONTROL_TABLE, create_control_table())


def test_failures_before_a_good_run_count_no_more(wanted: WantedRuns) -> None:
    for run in ("a", "b"):
        wanted.take(run, Options())
        wanted.give_back(run, NOW)
    wanted.take("good", Options())
    wanted.done("good")
    wanted.take("c", Options())
    wanted.give_back("c", NOW)
    assert wanted.read().retry_at == NOW + 60_000


def test_nothing_is_wanted_at_first(wanted: WantedRuns) -> None:
    assert wanted.take_next("a", NOW) is None


def test_a_run_over_all_things_comes_before_one_over_some(wanted: WantedRuns) -> None:
    wanted.ask_things(["pump", "fan"], NOW)
    wanted.ask("unknown", now=NOW)
    assert wanted.take_next("a", NOW) == Options()
    wanted.done("a")
    assert wanted.take_next("b", NOW) == Options(things=("fan", "pump"))
    wanted.done("b")
    assert wanted.take_next("c", NOW) is None


def test_a_full_run_fulfils_every_other_wish(wanted: WantedRuns) -> None:
    wanted.ask_things(["pump"], NOW)
    wanted.ask("unknown", "full", "allow_removals", now=NOW)
    assert wanted.take_next("a", NOW) == Options(full=True, allow_removals=True)
    wanted.done("a")
    assert wanted.take_next("b", NOW) is None


def test_removals_are_allowed_only_in_a_run_that_was_wanted_with_them(wanted: WantedRuns) -> None:
    wanted.ask("allow_removals", now=NOW)
    wanted.take("hourly", Options())
    wanted.done("hourly")
    assert wanted.take_next("a", NOW) == Options(allow_removals=True)


def test_a_wish_made_while_a_run_is_under_way_waits_for_the_next(wanted: WantedRuns) -> None:
    wanted.ask("unknown", now=NOW)
    wanted.take_next("a", NOW)
    wanted.ask("unknown", now=NOW + 1)
    wanted.done("a")
    assert wanted.take_next("b", NOW + 2) == Options()


def test_a_repeated_task_takes_nothing_more(wanted: WantedRuns) -> None:
    wanted.ask_things(["pump"], NOW)
    wanted.take_next("a", NOW)
    wanted.ask_things(["fan"], NOW)
    assert wanted.take_next("a", NOW) == Options(things=("pump",))


def test_a_failed_run_leaves_its_wishes_to_be_tried_again_later_and_later(wanted: WantedRuns) -> None:
    wanted.ask("unknown", now=NOW)
    now, pauses = NOW, []
    for number in range(9):
        run = f"run-{number}"
        assert wanted.take_next(run, now) == Options()
        wanted.give_back(run, now)
        pauses.append(wanted.read().retry_at - now)
        assert wanted.take_next("early", now + pauses[-1] - 1) is None
        now += pauses[-1]
    assert pauses == [60_000 * 2**number for number in range(6)] + [3_600_000] * 3


def test_a_run_that_ends_well_ends_the_row_of_failures(wanted: WantedRuns) -> None:
    wanted.ask("unknown", now=NOW)
    wanted.take_next("a", NOW)
    wanted.give_back("a", NOW)
    wanted.take("hourly", Options())
    wanted.done("hourly")
    wanted.ask("unknown", now=NOW + 1)
    assert wanted.take_next("b", NOW + 1) == Options()


def test_what_a_dead_run_had_taken_is_taken_by_the_next(wanted: WantedRuns) -> None:
    wanted.ask_things(["pump"], NOW)
    wanted.take_next("dead", NOW)
    wanted.ask_things(["fan"], NOW)
    assert wanted.take_next("b", NOW) == Options(things=("fan", "pump"))
    wanted.done("dead")
    assert wanted.read().taken_by == "b"


def test_too_many_things_become_a_run_over_all(wanted: WantedRuns) -> None:
    for first in range(0, 3 * MOST_THINGS, 100):
        wanted.ask_things([f"pump-{index}" for index in range(first, first + 100)], NOW)
    assert wanted.read().wishes == Wishes(
        unknown=NOW, things=frozenset(f"pump-{index}" for index in range(MOST_THINGS))
    )
    wanted.ask_things([f"fan-{index}" for index in range(MOST_THINGS + 1)], NOW + 1)
    assert wanted.read().wishes.unknown == NOW + 1


def test_one_run_takes_no_more_names_than_a_state_can_carry(wanted: WantedRuns) -> None:
    names = [f"{index:03d}" + "x" * 200 for index in range(500)]
    wanted.ask_things(names, NOW)
    seen: list[str] = []
    for number in range(10):
        options = wanted.take_next(f"run-{number}", NOW)
        if options is None:
            break
        assert sum(map(len, options.things)) <= 32 * 1024
        seen += options.things
        wanted.done(f"run-{number}")
    assert seen == names


def test_asking_needs_no_leave_to_read(wanted: WantedRuns) -> None:
    with mock.patch.object(wanted._client, "get_item", side_effect=AssertionError):
        wanted.ask("unknown", "repair", now=NOW)
        wanted.ask_things(["pump"], NOW)
    assert wanted.read().repair == NOW


def test_a_wish_made_between_reading_and_writing_is_kept(wanted: WantedRuns) -> None:
    wanted.ask("unknown", now=NOW)
    read = wanted.read
    late = iter([lambda: wanted.ask("repair", now=NOW)])

    def read_and_be_overtaken() -> object:
        found = read()
        next(late, lambda: None)()
        return found

    with mock.patch.object(wanted, "read", read_and_be_overtaken):
        wanted.take_next("a", NOW)
    assert (read().repair, read().taken_by) == (NOW, "a")


def test_a_change_that_is_overtaken_again_and_again_is_a_conflict(wanted: WantedRuns) -> None:
    wanted.ask("unknown", now=NOW)
    read = wanted.read

    def read_and_be_overtaken() -> object:
        found = read()
        wanted.ask("unknown", now=NOW)
        return found

    with mock.patch.object(wanted, "read", read_and_be_overtaken), pytest.raises(Conflict, match="each of"):
        wanted.take_next("a", NOW)


class WishHistory(RuleBasedStateMachine):
    """Random histories: what was wished for since the last run that could fulfil it began is still there."""

    def __init__(self) -> None:
        super().__init__()
        self.context = contextlib.ExitStack()
        self.context.enter_context(aws())
        self.wanted = WantedRuns(CONTROL_TABLE, create_control_table())
        self.now = NOW
        self.runs = 0
        self.run: str | None = None
        self.options = Options()
        self.all = self.some_taken = False
        self.things: set[str] = set()
        self.before: set[str] = set()
        self.all_before = False

    def teardown(self) -> None:
        """Leave the account in memory."""
        self.context.close()

    @rule()
    def an_unknown_device_comes(self) -> None:
        """The router asks."""
        self.wanted.ask("unknown", now=self.now)
        self.all = True

    @rule(names=st.sets(st.sampled_from("abc"), min_size=1))
    def models_change(self, names: set[str]) -> None:
        """A connector asks."""
        self.wanted.ask_things(names, self.now)
        self.things |= names

    @rule()
    def a_run_begins(self) -> None:
        """Also while another one has taken wishes: that one is dead then."""
        self.now += 3_600_000
        self.runs += 1
        run = f"run-{self.runs}"
        if self.run is not None:
            self.things, self.all = self.things | self.before, self.all or self.all_before
        options = self.wanted.take_next(run, self.now)
        assert (options is None) == (not self.things and not self.all)
        self.run = None
        self.before, self.all_before = set(), False
        if options is None:
            return
        self.run = run
        if options.things:
            assert set(options.things) == self.things
            self.before, self.things = self.things, set()
        else:
            self.all_before, self.all = True, False

    @rule(well=st.booleans())
    def it_ends(self, *, well: bool) -> None:
        """Well, or with its wishes given back."""
        if self.run is None:
            return
        if well:
            self.wanted.done(self.run)
        else:
            self.wanted.give_back(self.run, self.now)
            self.things, self.all = self.things | self.before, self.all or self.all_before
        self.run, self.before, self.all_before = None, set(), False

    @invariant()
    def nothing_is_lost_and_nothing_made_up(self) -> None:
        """Open or taken."""
        item = self.wanted.read()
        assert item.wishes.things == self.things
        assert bool(item.wishes.unknown) == self.all
        assert item.taken.things == self.before
        assert bool(item.taken.unknown) == self.all_before


TestWishHistory = WishHistory.TestCase
TestWishHistory.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
