"""The pace: evenly under the limit, and slower while the platform is busy."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from lambdas.fetcher.pace import Pace, Paced
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from tests.unit.fetcher.fake_platform import FakePlatform, rows_of


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds


def test_calls_start_evenly_and_no_faster_than_allowed() -> None:
    clock = Clock()
    pace = Pace(10, 4, clock, clock.sleep)
    starts = []
    for _ in range(21):
        number = pace.begin()
        starts.append(clock.now)
        pace.end(number, available=True)
    assert starts[0] == 100.0
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert gaps == pytest.approx([0.1] * 20)


def test_time_that_was_not_used_is_not_made_up_for() -> None:
    clock = Clock()
    pace = Pace(10, 4, clock, clock.sleep)
    pace.end(pace.begin(), available=True)
    clock.now += 60
    before = clock.now
    for _ in range(3):
        pace.end(pace.begin(), available=True)
    assert clock.now - before == pytest.approx(0.2)


def test_no_limit_means_no_waiting() -> None:
    clock = Clock()
    pace = Pace(0, 4, clock, clock.sleep)
    for _ in range(1000):
        pace.end(pace.begin(), available=True)
    assert clock.now == 100.0


def test_a_busy_platform_halves_the_window_once_for_all_calls_that_were_under_way() -> None:
    pace = Pace(0, 16)
    under_way = [pace.begin() for _ in range(16)]
    for number in under_way:
        pace.end(number, available=False)
    assert pace.window == 8
    pace.end(pace.begin(), available=False)
    assert pace.window == 4


def test_the_window_never_closes_and_widens_again_up_to_where_it_was() -> None:
    pace = Pace(0, 4)
    for _ in range(10):
        pace.end(pace.begin(), available=False)
    assert pace.window == 1
    for _ in range(100):
        pace.end(pace.begin(), available=True)
    assert pace.window == 4


def test_no_more_calls_are_under_way_than_the_window_is_wide() -> None:
    most, running, lock = 0, 0, threading.Lock()
    met = threading.Barrier(3)

    def answer(*_: object) -> Any:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        met.wait(10)
        with lock:
            running -= 1
        return rows_of()

    services = Paced(FakePlatform(Ask=answer), Pace(0, 3))
    threads = [threading.Thread(target=services.service, args=("Things", "a", "Ask")) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 3


@pytest.mark.parametrize(
    ("error", "window"), [(ThingworxUnavailable("429"), 2), (ThingworxCallFailed(500, "script error"), 4)]
)
def test_only_a_platform_that_is_busy_slows_it_down(error: Exception, window: int) -> None:
    def answer(*_: object) -> Any:
        raise error

    pace = Pace(0, 4)
    with pytest.raises(type(error)):
        Paced(FakePlatform(Ask=answer), pace).service("Things", "a", "Ask")
    assert pace.window == window
