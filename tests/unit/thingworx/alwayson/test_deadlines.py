"""Deadlines pass in order, once, and cost no memory when they are moved or taken away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.thingworx.alwayson.deadlines import Deadlines

steps = st.lists(st.tuples(st.sampled_from(["set", "discard"]), st.integers(0, 8), st.integers(0, 50)))


@given(steps, st.integers(0, 50))
def test_exactly_the_deadlines_that_are_due_pass_in_order(
    steps: list[tuple[str, int, int]], now: int
) -> None:
    deadlines: Deadlines[int] = Deadlines()
    expected: dict[int, int] = {}
    for step, key, when in steps:
        if step == "set":
            deadlines.set(key, when)
            expected[key] = when
        else:
            deadlines.discard(key)
            expected.pop(key, None)
    assert deadlines.next() == min(expected.values(), default=None)
    passed = list(deadlines.passed(now))
    assert sorted(passed) == sorted(key for key, when in expected.items() if when <= now)
    assert [expected[key] for key in passed] == sorted(expected[key] for key in passed)
    assert len(deadlines) == len(expected) - len(passed)


def test_what_is_set_and_discarded_again_and_again_takes_no_memory() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(10_000):
        deadlines.set(key, key)
        deadlines.discard(key)
    assert len(deadlines._heap) <= 65
    assert deadlines.next() is None


def test_cleared_deadlines_never_pass() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1)
    deadlines.clear()
    deadlines.set("b", 2)
    assert list(deadlines.passed(5)) == ["b"]
