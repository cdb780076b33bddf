"""What counts as a stall, and what doesn't."""

from __future__ import annotations

import pytest

from lambdas.connector.stall import StallWatch


class Watch:
    """A watch of 300 s that is asked every 10 s."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watch = StallWatch(300, lambda: self.now)

    def ask(self, *, holds: bool = True, **others: bool) -> bool:
        """Ten seconds later."""
        self.now += 10
        facts = {"settled": False, "excused": False} | others
        return self.watch.stalled(holds=holds, trouble=0.0, **facts)


def test_holding_messages_and_settling_none_for_so_long_is_a_stall() -> None:
    watch = Watch()
    assert [watch.ask() for _ in range(31)] == [False] * 29 + [True] * 2


@pytest.mark.parametrize("fact", [{"settled": True}, {"excused": True}, {"holds": False}])
def test_a_settled_reading_a_reason_to_wait_or_nothing_to_do_starts_the_time_anew(
    fact: dict[str, bool],
) -> None:
    watch = Watch()
    for _ in range(20):
        assert not any(watch.ask() for _ in range(29))
        assert not watch.ask(**fact)


def test_time_in_which_the_platform_was_found_to_be_away_does_not_count() -> None:
    watch = Watch()
    for _ in range(60):
        watch.now += 10
        trouble = watch.now - 250
        assert not watch.watch.stalled(holds=True, settled=False, excused=False, trouble=trouble)
