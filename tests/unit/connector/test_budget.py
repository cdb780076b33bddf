"""A slot's share of the write budget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector import budget as budget_module
from lambdas.connector.budget import WriteBudget, keep_share
from lambdas.connector.stop import Stop, Stopped
from tests.unit.connector.fakes import until

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class Pausing(Stop):
    """A stop whose pauses move a clock and take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    async def pause(self, seconds: float) -> None:
        """As `Stop`'s."""
        self.check()
        assert seconds > 0
        self.now += seconds
        await asyncio.sleep(0)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


@given(
    rate=st.integers(1, 500),
    calls=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    at_once=st.integers(1, 8),
)
def test_over_any_time_no_more_is_written_than_the_rate_one_burst_and_one_call(
    rate: int, calls: list[int], at_once: int
) -> None:
    async def scenario() -> None:
        stop = Pausing()
        budget = WriteBudget(rate, stop, lambda: stop.now)
        begun, written = stop.now, 0
        window = asyncio.Semaphore(at_once)

        async def write(number: int) -> None:
            nonlocal written
            async with window:
                await budget.take(number)
                written += number
                assert written <= rate * (stop.now - begun) + rate + max(calls) + 1e-6

        await asyncio.gather(*map(write, calls))
        assert written == sum(calls)
        assert stop.now - begun <= sum(calls) / rate + 1 + 0.002 * len(calls)

    run(scenario())


def test_without_a_limit_nobody_waits() -> None:
    async def scenario() -> None:
        stop = Pausing()
        budget = WriteBudget(0, stop, lambda: stop.now)
        for _ in range(100):
            await budget.take(1_000_000)
        assert stop.now == 1000.0
        assert not budget.spent

    run(scenario())


def test_who_waits_gives_up_with_the_connector() -> None:
    async def scenario() -> None:
        stop = Stop()
        budget = WriteBudget(0.001, stop)
        await budget.take(1000)
        assert budget.spent
        waiting = [asyncio.ensure_future(budget.take(1)) for _ in range(3)]
        await asyncio.sleep(0)
        stop.abandon()
        for task in waiting:
            with pytest.raises(Stopped):
                await task

    run(scenario())


def test_a_larger_share_lets_go_at_once_and_a_smaller_one_keeps_no_old_burst() -> None:
    async def scenario() -> None:
        stop = Pausing()
        budget = WriteBudget(100, stop, lambda: stop.now)
        budget.share(10)
        await budget.take(10)
        assert budget.spent
        budget.share(1000)
        await budget.take(1)
        assert stop.now - 1000.0 < 0.1

    run(scenario())


def test_the_budget_is_shared_by_the_slots_there_are_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(budget_module, "_RETRY_SECONDS", 0.001)
    answers: list[int | Exception] = [4, OSError("throttled"), 0, 10]

    def slots() -> int:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario() -> None:
        budget = WriteBudget(1, Stop())
        seen = []
        share = budget.share

        def noted(rate: float) -> None:
            seen.append(rate)
            share(rate)

        budget.share = noted  # type: ignore[method-assign]
        keeping = asyncio.ensure_future(keep_share(budget, 1000, slots))
        await until(lambda: len(seen) >= 3)
        keeping.cancel()
        assert seen[:3] == [250, 1000, 100]

    run(scenario())
