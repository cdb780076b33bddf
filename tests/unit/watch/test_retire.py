"""How an empty slot goes: step by step, never with a message or a Thing left behind."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.control_table import Slot
from lambdas.watch.retire import READINGS, Looked, Step, Times, next_step
from lambdas.watch.table import WatchedSlot

MINUTE = 60_000
TIMES = Times(empty=120 * MINUTE, drain=15 * MINUTE, pause=MINUTE)
NOW = 1_700_000_000_000
EMPTY = Looked(things=False, messages=0)


def slot(state: str = "active", until: int = 0, **since: int) -> WatchedSlot:
    return WatchedSlot(Slot("1", state, 8, "https://queue/1", until=until), **since)


def step(watched: WatchedSlot, looked: Looked = EMPTY, published: int = 0) -> Step:
    return next_step(watched, looked, published, NOW, TIMES)


def test_a_slot_with_things_stays() -> None:
    assert step(slot(), Looked(things=True, messages=0)) is Step.NOTHING


def test_the_time_without_things_is_counted_from_the_first_look_without_any() -> None:
    assert step(slot()) is Step.EMPTY
    assert step(slot(empty_since=NOW - 120 * MINUTE + 1)) is Step.NOTHING
    assert step(slot(empty_since=NOW - 120 * MINUTE)) is Step.DRAIN


def test_a_thing_that_comes_back_in_time_ends_the_count() -> None:
    assert step(slot(empty_since=1), Looked(things=True, messages=0)) is Step.OCCUPIED


def test_a_draining_slot_waits_until_the_registry_was_published_without_it() -> None:
    draining = slot("draining", draining_since=NOW - 60 * MINUTE)
    assert step(draining, published=NOW - 60 * MINUTE) is Step.PUBLISH
    assert step(draining, published=NOW - 60 * MINUTE + 1) is Step.UNROUTED


def test_routers_have_time_to_forget_the_slot() -> None:
    draining = {"state": "draining", "draining_since": 1}
    assert step(slot(**draining, unrouted_since=NOW - 15 * MINUTE + 1)) is Step.NOTHING  # type: ignore[arg-type]
    assert step(slot(**draining, unrouted_since=NOW - 15 * MINUTE)) is Step.QUIET  # type: ignore[arg-type]


def test_three_empty_readings_a_minute_apart_stop_it() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1}
    assert step(slot("draining", **drained)) is Step.QUIET
    read = {"quiet_readings": 1, "read_at": NOW - MINUTE + 1}
    assert step(slot("draining", **drained, **read)) is Step.NOTHING
    read = {"quiet_readings": READINGS - 1, "read_at": NOW - MINUTE}
    assert step(slot("draining", **drained, **read)) is Step.STOP


def test_a_message_makes_the_readings_begin_again() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1, "read_at": 1}
    assert step(slot("draining", **drained, quiet_readings=2), Looked(things=False, messages=1)) is Step.BUSY
    assert step(slot("draining", **drained), Looked(things=False, messages=1)) is Step.NOTHING


def test_a_slot_that_a_late_plan_gave_things_to_waits_until_they_are_moved() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1, "quiet_readings": 2, "read_at": 1}
    assert step(slot("draining", **drained), Looked(things=True, messages=0)) is Step.BUSY


def test_a_stopping_slot_goes_once_nobody_serves_it() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1, "quiet_readings": 3}
    assert step(slot("stopping", until=NOW, **drained)) is Step.NOTHING
    assert step(slot("stopping", until=NOW - 1, **drained)) is Step.DELETE


def test_a_stopping_slot_that_a_late_plan_gave_things_to_waits_until_they_are_moved() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1, "quiet_readings": 3}
    assert step(slot("stopping", **drained), Looked(things=True, messages=0)) is Step.NOTHING


def test_a_message_that_came_too_late_has_the_slot_served_again() -> None:
    drained = {"draining_since": 1, "unrouted_since": 1}
    assert step(slot("stopping", **drained), Looked(things=False, messages=1)) is Step.REOPEN


def test_a_slot_that_an_interrupted_destroy_left_stopping_drains_first() -> None:
    assert step(slot("stopping")) is Step.REOPEN


class Look(NamedTuple):
    """What a random minute brings."""

    minutes: int
    things: bool
    messages: int
    publishes: bool
    served: bool


looks = st.builds(
    Look,
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(looks, max_size=60))
def test_no_history_deletes_a_slot_that_is_in_use(history: list[Look]) -> None:
    now, published, quiet_since = NOW, 0, NOW
    watched = slot()
    for look in history:
        now += look.minutes * MINUTE
        published = now if look.publishes else published
        if look.things or look.messages:
            quiet_since = now + 1
        watched = watched._replace(slot=watched.slot._replace(until=now if look.served else 0))
        looked = Looked(look.things, look.messages)
        taken = next_step(watched, looked, published, now, TIMES)
        if taken is Step.DELETE:
            assert not look.served
            assert published > watched.draining_since > 0
            assert now - quiet_since >= (READINGS - 1) * MINUTE
            return
        watched = after(watched, taken, now)


def after(watched: WatchedSlot, taken: Step, now: int) -> WatchedSlot:
    """The slot after a step, as the table would have it."""
    states = {Step.DRAIN: "draining", Step.STOP: "stopping", Step.REOPEN: "draining"}
    own: dict[Step, dict[str, int]] = {
        Step.OCCUPIED: {"empty_since": 0},
        Step.EMPTY: {"empty_since": now},
        Step.DRAIN: {"draining_since": now, "unrouted_since": 0, "quiet_readings": 0},
        Step.UNROUTED: {"unrouted_since": now},
        Step.BUSY: {"quiet_readings": 0},
        Step.QUIET: {"quiet_readings": watched.quiet_readings + 1, "read_at": now},
        Step.REOPEN: {"quiet_readings": 0},
    }
    state = states.get(taken, watched.slot.state)
    return watched._replace(slot=watched.slot._replace(state=state), **own.get(taken, {}))
