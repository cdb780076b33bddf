"""Readings by their times: late ones are history, and two values never share a millisecond."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.transport import PushResult, RefusedRow
from tests.unit.connector.fakes import reading, until
from tests.unit.connector.test_deliver import Bench, failing

if TYPE_CHECKING:
    from collections.abc import Iterator


def pushed(bench: Bench) -> list[tuple[int, float]]:
    return [(row.time, row.value) for _, rows in bench.transport.accepted for row in rows]


def test_a_late_reading_is_delivered_with_its_own_time_and_counted_apart() -> None:
    bench = Bench()

    async def scenario() -> None:
        for at in (10, 20, 15, 30):
            await bench.settle(reading("pump", at))

    asyncio.run(scenario())
    assert [at for at, _ in pushed(bench)] == [10, 20, 15, 30]
    assert (bench.counters["delivered"], bench.counters["late"]) == (3, 1)
    bench.check_sum()


def test_two_values_of_one_millisecond_are_both_stored_in_their_order() -> None:
    bench = Bench()

    async def scenario() -> None:
        await bench.settle(reading("pump", 10, "a", temp=1.0), reading("pump", 10, "b", temp=2.0))
        await bench.settle(reading("pump", 10, "c", temp=3.0), reading("pump", 11, "d", temp=4.0))

    asyncio.run(scenario())
    assert pushed(bench) == [(10, 1.0), (11, 2.0), (12, 3.0), (13, 4.0)]
    assert bench.counters["times_shifted"] == 3
    assert bench.counters["late"] == 0


def test_presence_is_told_when_the_broker_had_the_newest_reading_of_a_push() -> None:
    told = []

    class Present:
        """Takes note."""

        async def ready(self) -> None:
            """At once."""

        @contextlib.contextmanager
        def delivering(self, thing: str, newest: int) -> Iterator[None]:
            told.append((thing, newest))
            yield

    bench = Bench()
    present: Any = Present()
    bench.delivery._presence = present
    own = [reading("pump", 10)._replace(broker_time=500), reading("pump", 20)._replace(broker_time=400)]
    asyncio.run(bench.settle(*own, reading("fan", 30)))
    assert sorted(told) == [("fan", 30), ("pump", 500)]


def test_trying_again_moves_no_time() -> None:
    bench = Bench(failing(5, lambda: ThingworxUnavailable("503")))
    asyncio.run(bench.settle(reading("pump", 10, "a", temp=1.0), reading("pump", 10, "b", temp=2.0)))
    assert {tuple(row.time for row in rows) for _, rows in bench.transport.tried} == {(10, 11)}
    assert bench.counters["times_shifted"] == 1


def test_a_refused_value_makes_no_later_one_late() -> None:
    bench = Bench()
    bench.transport.result = lambda rows: PushResult(
        refused=tuple(RefusedRow(row, "row_refused", "") for row in rows if row.time == 20)
    )

    async def scenario() -> None:
        await bench.settle(reading("pump", 20))
        await bench.settle(reading("pump", 15))

    asyncio.run(scenario())
    assert (bench.counters["held_rejected"], bench.counters["delivered"], bench.counters["late"]) == (1, 1, 0)
    bench.check_sum()


def test_parked_readings_catch_up_with_their_own_times_and_are_not_late() -> None:
    bench = Bench(failing(1, lambda: ThingworxCallFailed(403, "no")))

    async def scenario() -> None:
        async with bench.catching_up():
            await bench.settle(*(reading("pump", at) for at in (10, 20, 30)))
            await until(lambda: bench.counters["replayed_delivered"] == 3)

    asyncio.run(scenario())
    assert [at for at, _ in pushed(bench)] == [10, 20, 30]
    assert bench.counters["replayed_late"] == bench.counters["late"] == 0


def test_what_is_tried_again_after_it_was_parked_has_the_times_of_the_first_try() -> None:
    bench = Bench(failing(1, lambda: ThingworxCallFailed(403, "no")))

    async def scenario() -> None:
        async with bench.catching_up():
            await bench.settle(reading("pump", 10, "a", temp=1.0), reading("pump", 10, "b", temp=2.0))
            await until(lambda: bench.counters["replayed_delivered"] == 2)

    asyncio.run(scenario())
    assert {(row.time, row.value) for _, rows in bench.transport.tried for row in rows} == {
        (10, 1.0),
        (11, 2.0),
    }


def test_a_replay_of_what_was_overtaken_is_late() -> None:
    bench = Bench()

    async def scenario() -> None:
        await bench.settle(reading("pump", 20))
        await bench.replay(reading("pump", 10))

    asyncio.run(scenario())
    assert bench.counters["replayed_late"] == 1
    bench.check_sum()
