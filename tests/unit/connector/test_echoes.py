"""Values that a shadow has taken come back to ThingWorx, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lambdas.connector.echoes import Echoes
from lambdas.connector.push_times import PushTimes
from lambdas.connector.stop import Stopped
from lambdas.connector.writeback import Accepted
from lambdas.shared.errors import ThingNotServed, ThingworxUnavailable
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.transport import PushResult, RefusedRow, unchecked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lambdas.connector.outlet import Push
    from lambdas.thingworx.transport import Check

NOW = 1_800_000_000_000
SPEED = Accepted("speed", "NUMBER", 7.0)
MODE = Accepted("mode", "STRING", "on")


class Pushes:
    """A transport: `answers` are raised or returned one after the other, then all is stored."""

    def __init__(self, *answers: Exception | Callable[[Sequence[ValueRow]], PushResult]) -> None:
        self.answers = list(answers)
        self.rows: list[tuple[str, list[ValueRow]]] = []

    async def echo(self, thing: str, rows: Sequence[ValueRow], check: Check) -> PushResult:
        """As the transport's."""
        check()
        self.rows.append((thing, list(rows)))
        answer = self.answers.pop(0) if self.answers else lambda _: PushResult()
        if isinstance(answer, Exception):
            raise answer
        return answer(rows)


class Open:
    """A way out."""

    async def through(self, push: Push, thing: str, rows: Sequence[ValueRow]) -> PushResult:
        """As the outlet's."""
        return await push(thing, rows, unchecked)


def echo(pushes: Pushes, *accepted: Accepted, owned: bool = True) -> tuple[Counter[str], PushTimes]:
    counters: Counter[str] = Counter()
    times = PushTimes(lambda: NOW / 1000)

    async def scenario() -> None:
        echoes = Echoes(pushes.echo, times, owns=lambda: owned, counters=counters)
        echoes.pass_through(Open())
        echoes.begin("pump", accepted)
        await echoes.rest(10)

    asyncio.run(scenario())
    return counters, times


def test_what_was_taken_together_is_pushed_together_with_a_time_of_its_own() -> None:
    pushes = Pushes()
    counters, times = echo(pushes, SPEED, MODE)
    rows = [ValueRow("speed", "NUMBER", 7.0, NOW), ValueRow("mode", "STRING", "on", NOW)]
    assert pushes.rows == [("pump", rows)]
    assert counters == Counter(echoes=2)
    assert times.arrange("pump", "0:1:0", [ValueRow("speed", "NUMBER", 1.0, NOW - 1)]).late


def test_a_platform_that_is_away_is_tried_again_with_the_same_time() -> None:
    pushes = Pushes(ThingworxUnavailable("away"), ThingworxUnavailable("away"))
    counters, _ = echo(pushes, SPEED)
    assert len(pushes.rows) == 3
    assert {rows[0].time for _, rows in pushes.rows} == {NOW}
    assert counters == Counter(echoes=1)


@pytest.mark.parametrize("failure", [ThingNotServed("unbound"), Stopped()])
def test_a_thing_that_takes_nothing_and_an_end_are_counted(failure: Exception) -> None:
    pushes = Pushes(failure)
    counters, times = echo(pushes, SPEED, MODE)
    assert len(pushes.rows) == 1
    assert counters == Counter(echoes_failed=2)
    assert not times.arrange("pump", "0:1:0", [ValueRow("speed", "NUMBER", 1.0, NOW - 1)]).late


def test_refused_and_unneeded_values_are_counted_apart() -> None:
    pushes = Pushes(lambda rows: PushResult(1, (RefusedRow(rows[0], "row_refused", "no"),)))
    counters, _ = echo(pushes, SPEED, MODE)
    assert counters == Counter(echoes_unneeded=1, echoes_failed=1)


def test_what_is_taken_before_the_slot_is_served_waits_for_the_way_out() -> None:
    async def scenario() -> Counter[str]:
        counters: Counter[str] = Counter()
        echoes = Echoes(pushes.echo, PushTimes(), owns=lambda: True, counters=counters)
        echoes.begin("pump", [SPEED])
        await asyncio.sleep(0)  # its first try finds no way out
        assert not pushes.rows
        echoes.pass_through(Open())
        await echoes.rest(10)
        return counters

    pushes = Pushes()
    assert asyncio.run(scenario()) == Counter(echoes=1)


def test_nothing_is_pushed_without_the_lease() -> None:
    pushes = Pushes()
    counters, _ = echo(pushes, SPEED, owned=False)
    assert not pushes.rows
    assert counters == Counter(echoes_failed=1)


def test_a_platform_that_stays_away_is_given_up() -> None:
    pushes = Pushes(*(ThingworxUnavailable("away") for _ in range(20)))
    counters, _ = echo(pushes, SPEED)
    assert counters == Counter(echoes_failed=1)
    assert len(pushes.rows) < 20
