"""Whose connectors are dead: nobody serves them, nobody is about to, and nobody wanted that."""

from __future__ import annotations

import pytest

from lambdas.shared.connectors import MIN_AGE
from lambdas.shared.control_table import Slot
from lambdas.watch.dead import Executions, Life, may_be_dead, named, noted
from lambdas.watch.table import WatchedSlot

NOW = 1_700_000_000_000
GRACE = 120_000
NONE: frozenset[tuple[str, int]] = frozenset()


def slot(
    state: str = "active", *, until: int = 0, last_start: int = 0, queue: bool = True, **own: int
) -> WatchedSlot:
    url = "https://queue/7" if queue else None
    return WatchedSlot(Slot("7", state, 8, url, 3, last_start, None, until), **own)


def test_a_slot_without_lease_is_noted_and_forgotten_when_it_is_served_again() -> None:
    assert noted(slot(), NOW) == Life(NOW, 0)
    assert noted(slot(unserved_since=5), NOW) == Life(5, 0)
    assert noted(slot(until=NOW, unserved_since=5), NOW) == Life(0, 0)


def test_nobody_has_to_serve_a_stopping_slot() -> None:
    assert noted(slot("stopping", unserved_since=5), NOW) == Life(0, 0)
    assert not may_be_dead(slot("stopping", unserved_since=5), NOW, GRACE)


@pytest.mark.parametrize("state", ["active", "draining"])
def test_a_slot_may_be_dead_after_the_grace(state: str) -> None:
    assert not may_be_dead(slot(state), NOW, GRACE)
    assert not may_be_dead(slot(state, unserved_since=NOW - GRACE + 1), NOW, GRACE)
    assert may_be_dead(slot(state, unserved_since=NOW - GRACE), NOW, GRACE)


def test_a_slot_that_is_served_is_not_dead_whatever_was_noted() -> None:
    assert not may_be_dead(slot(until=NOW, unserved_since=1), NOW, GRACE)


def test_a_slot_without_queue_waits_for_a_discovery_run() -> None:
    assert not may_be_dead(slot(queue=False, unserved_since=1), NOW, GRACE)


def test_each_restart_in_a_row_comes_later() -> None:
    for restarts, minutes in enumerate([4, 8, 16, 32, 60, 60], 1):
        started = NOW - minutes * 60_000
        tried = slot(last_start=started, unserved_since=1, restarts=restarts)
        assert may_be_dead(tried, NOW, GRACE)
        assert not may_be_dead(tried, NOW - 1, GRACE)


def test_a_start_of_just_now_may_have_got_lost_and_is_repeated() -> None:
    tried = slot(last_start=NOW - MIN_AGE, unserved_since=1, restarts=5)
    assert may_be_dead(tried, NOW, GRACE)
    assert not may_be_dead(tried, NOW + 1, GRACE)


def test_a_slot_that_was_served_for_ten_minutes_is_well_again() -> None:
    assert noted(slot(until=NOW, last_start=NOW - 599_999, restarts=3), NOW) == Life(0, 3)
    assert noted(slot(until=NOW, last_start=NOW - 600_000, restarts=3), NOW) == Life(0, 0)


def test_executions_tell_slot_and_epoch_by_their_names() -> None:
    assert named(["7-3-0", "7-3-12", "8-1-0", "by-hand", "7-3"]) == {("7", 3), ("8", 1)}


def test_a_machine_that_runs_is_never_doubled() -> None:
    assert Executions(NONE, NONE).dead(slot())
    assert Executions(named(["7-2-5"]), NONE).dead(slot()), "an older epoch serves nobody"
    assert not Executions(named(["7-3-1"]), NONE).dead(slot())


def test_what_somebody_stopped_stays_stopped() -> None:
    assert not Executions(NONE, named(["7-3-1"])).dead(slot())
    assert Executions(NONE, named(["7-2-0"])).dead(slot())
