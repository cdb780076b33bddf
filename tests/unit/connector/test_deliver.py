"""Every reading ends delivered, recognised as a repeat, or held; in order, and counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.connector.deliver import Delivery
from lambdas.connector.slot_queue import Message
from lambdas.connector.stop import Stop, Stopped, StopReason
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.shared.held_store import HeldReading
from lambdas.shared.parcel import encode
from lambdas.thingworx.transport import PushResult, RefusedRow
from tests.unit.connector.fakes import (
    SHAPES,
    FakeBacklog,
    FakeHeld,
    FakeTransport,
    backlog_of,
    message,
    reading,
    until,
)
from tests.unit.connector.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from lambdas.shared.parcel import Reading
    from lambdas.thingworx.infotable import ValueRow

SETTLED = ("delivered", "late", "duplicate", "held_parked", "held_rejected", "dropped_held_full")


class Bench:
    """A delivery with its surroundings."""

    def __init__(
        self,
        answer: Callable[[str, Sequence[ValueRow]], Awaitable[None] | None] | None = None,
        *,
        held: FakeHeld | None = None,
        patience: float = 0.03,
        concurrency: int = 16,
    ) -> None:
        self.transport = FakeTransport(answer)
        self.held = held or FakeHeld()
        self.stop = Stop()
        self.owner = True
        self.counters: Counter[str] = Counter()
        self.store = FakeBacklog(self.held)
        self.backlog = backlog_of(self.store, self.stop, patience, lambda: self.owner)
        self.delivery = Delivery(
            self.transport,
            self.held,  # type: ignore[arg-type] # a stand-in
            stop=self.stop,
            owns=lambda: self.owner,
            backlog=self.backlog,
            concurrency=concurrency,
            thing_retry_seconds=patience,
            counters=self.counters,
        )

    async def settle(self, *readings: Reading) -> None:
        """Settle one message of a lane."""
        await self.delivery.settle([message("lane-0", *readings)])

    async def replay(self, *readings: Reading) -> None:
        """Settle one message that sends held readings again."""
        body = encode(readings, SHAPES, replay="again").decode()
        await self.delivery.settle([Message(f"replay-{readings[0].id}", "lane-0", body, "r")])

    @contextlib.asynccontextmanager
    async def catching_up(self) -> AsyncIterator[None]:
        """Have parked Things catch up meanwhile."""
        task = asyncio.ensure_future(self.delivery.catch_up())
        try:
            yield
        finally:
            self.stop.ask(StopReason.END_OF_LIFE)
            await task

    def check_sum(self) -> None:
        """Nothing taken is unaccounted for, neither the first time nor again."""
        for kind in ("", "replayed_"):
            assert self.counters[f"{kind}taken"] == sum(self.counters[kind + name] for name in SETTLED)


def parked(thing: str, at: int) -> HeldReading:
    """A reading in the held store."""
    shape = '{"temp":["NUMBER","Temp"]}'
    return HeldReading(
        "parked", thing, at, f"0:{thing}:{at}", "why", "", "", values='{"temp":1}', shape=shape
    )


def failing(times: int, error: Callable[[], Exception], thing: str = "*") -> Callable[[str, Any], None]:
    """An answer that fails so many times (for one Thing), then takes everything."""
    left = [times]

    def answer(name: str, _: Any) -> None:
        if left[0] and thing in ("*", name):
            left[0] -= 1
            raise error()

    return answer


@pytest.fixture
def _virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For `run_in_virtual_time`: the clock is the loop's, and nothing runs in threads."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    monkeypatch.setattr("time.monotonic", lambda: asyncio.get_running_loop().time())


def test_values_arrive_with_edge_name_base_type_and_time() -> None:
    bench = Bench()
    asyncio.run(bench.settle(reading("pump", 1000, temp=21.5)))
    ((thing, (row,)),) = bench.transport.accepted
    assert (thing, row.name, row.base_type, row.value, row.time, row.quality) == (
        "pump", "Temp", "NUMBER", 21.5, 1000, "GOOD",
    )  # fmt: skip
    assert +bench.counters == {"taken": 1, "delivered": 1, "values_delivered": 1}


def test_rows_that_are_refused_alone_are_rejected_with_their_reason_and_the_rest_is_delivered() -> None:
    bench = Bench()
    bench.transport.result = lambda rows: PushResult(
        1, (RefusedRow(rows[1], "not_bound", "no such edge name"),)
    )
    asyncio.run(bench.settle(*(reading("pump", at) for at in (1, 2, 3))))
    [held] = bench.held.held
    assert (held.time, held.state, held.reason, held.detail) == (
        2,
        "rejected",
        "not_bound",
        "no such edge name",
    )
    assert held.values
    assert json.loads(held.values) == {"temp": 2.0}
    assert +bench.counters == {
        "taken": 3, "delivered": 2, "held_rejected": 1, "values_delivered": 1, "values_suppressed": 1,
    }  # fmt: skip
    bench.check_sum()
    asyncio.run(bench.settle(reading("pump", 2)))
    assert bench.counters["duplicate"] == 1


def test_one_call_carries_all_rows_of_a_thing_in_time_order() -> None:
    bench = Bench()
    asyncio.run(bench.settle(*(reading("pump", at) for at in (3, 1, 2)), reading("fan", 9)))
    assert sorted(thing for thing, _ in bench.transport.tried) == ["fan", "pump"]
    assert bench.transport.times("pump") == [1, 2, 3]


def test_many_rows_of_a_thing_go_in_calls_of_a_thousand_one_after_another() -> None:
    bench = Bench(lambda *_: asyncio.sleep(0.001))
    asyncio.run(bench.settle(*(reading("pump", at) for at in range(2500))))
    assert [len(rows) for _, rows in bench.transport.accepted] == [1000, 1000, 500]
    assert bench.transport.times("pump") == list(range(2500))
    assert bench.transport.most_under_way["pump"] == 1


def test_many_things_at_once_but_no_more_than_the_window() -> None:
    most = [0]

    def answer(*_: Any) -> Awaitable[None]:
        most[0] = max(most[0], bench.transport.under_way.total())
        return asyncio.sleep(0.002)

    bench = Bench(answer, concurrency=4)
    asyncio.run(bench.settle(*(reading(f"thing-{index}", 1) for index in range(20))))
    assert most[0] == 4
    assert bench.counters["delivered"] == 20


def test_repeats_are_left_out_and_counted() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 1, "a"), reading("pump", 2, "b"), reading("pump", 1, "a"))
        await bench.settle(reading("pump", 2, "b"), reading("pump", 3, "c"))

    bench = Bench()
    asyncio.run(scenario())
    assert bench.transport.times("pump") == [1, 2, 3]
    assert bench.counters["duplicate"] == 2
    bench.check_sum()


def test_a_reading_without_values_is_settled_without_a_call() -> None:
    bench = Bench()
    empty = json.dumps({"v": 1, "shapes": {"s": {}}, "readings": [["pump", 1, "a", "s", {}]]})
    asyncio.run(bench.delivery.settle([Message("m", "lane-0", empty, "r")]))
    assert not bench.transport.tried
    assert bench.counters["delivered"] == 1


def test_while_the_platform_serves_nobody_everything_is_kept_and_then_delivered() -> None:
    bench = Bench(failing(30, lambda: ThingworxUnavailable("503")), patience=0.001)
    asyncio.run(bench.settle(*(reading(f"thing-{index}", 1) for index in range(6))))
    assert bench.counters["delivered"] == 6
    assert not bench.held.held


def test_things_that_waited_for_their_turn_do_not_try_a_platform_found_closed() -> None:
    async def scenario() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 60.0)
            patch.setattr("lambdas.connector.gate._MOST_SECONDS", 60.0)
            settling = asyncio.ensure_future(bench.settle(*(reading(f"t-{index}", 1) for index in range(50))))
            await until(lambda: bench.delivery.gate.closed)
            for _ in range(200):
                await asyncio.sleep(0)
            assert len(bench.transport.tried) == 2
            bench.stop.abandon()
            with pytest.raises(Stopped):
                await settling

    bench = Bench(failing(10**9, lambda: ThingworxUnavailable("503")), concurrency=2)
    asyncio.run(scenario())


def test_a_failing_call_is_tried_again_then_parked_and_later_readings_follow_it() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 1), reading("fan", 1))
        assert bench.transport.times("fan") == [1], "its neighbour goes on"
        tried = len(bench.transport.tried)
        await bench.settle(reading("pump", 2))
        assert len(bench.transport.tried) == tried, "not pushed past the parked one"

    bench = Bench(failing(10**9, lambda: ThingworxCallFailed(500, "script error"), "pump"))
    asyncio.run(scenario())
    assert [(entry.state, entry.reason, entry.time) for entry in bench.held.held] == [
        ("parked", "write_failed", 1),
        ("parked", "write_failed", 2),
    ]
    assert "script error" in bench.held.held[0].detail
    assert json.loads(bench.held.held[0].values or "") == {"temp": 1.0}
    assert json.loads(bench.held.held[0].shape or "") == {"temp": ["NUMBER", "Temp"]}
    assert len([thing for thing, _ in bench.transport.tried if thing == "pump"]) > 1
    bench.check_sum()


def test_a_thing_accepted_again_catches_up_in_order_before_a_later_reading_is_delivered() -> None:
    async def scenario() -> None:
        for at in (1, 2, 3):
            await bench.settle(reading("pump", at))
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)
        await bench.settle(reading("pump", 4))

    bench = Bench(failing(1, lambda: ThingworxCallFailed(404, "no such Thing")))
    asyncio.run(scenario())
    assert bench.transport.times("pump") == [1, 2, 3, 4]
    assert not bench.held.held
    assert not bench.store.marks
    assert +bench.counters == {
        "taken": 4, "held_parked": 3, "delivered": 1, "replayed_taken": 3, "replayed_delivered": 3,
        "values_delivered": 4, "push_failed": 1,
    }  # fmt: skip


def test_what_was_caught_up_is_recognised_when_its_message_comes_again() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 1), reading("pump", 2))
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)
        await bench.settle(reading("pump", 1), reading("pump", 2), reading("pump", 3))

    bench = Bench(failing(1, lambda: ThingworxCallFailed(404, "no such Thing")))
    asyncio.run(scenario())
    assert bench.transport.times("pump") == [1, 2, 3]
    assert bench.counters["duplicate"] == 2
    bench.check_sum()


def test_while_the_platform_serves_nobody_readings_of_a_parked_thing_stay_in_their_queue() -> None:
    """The queue has room for days, the held store for the day's allowance."""

    async def scenario() -> None:
        await bench.settle(reading("pump", 1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 60.0)
            patch.setattr("lambdas.connector.gate._MOST_SECONDS", 60.0)
            bench.delivery.gate.failed("503")
            settling = asyncio.ensure_future(bench.settle(reading("pump", 2)))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not settling.done()
            assert len(bench.held.held) == 1
            bench.stop.abandon()
            with pytest.raises(Stopped):
                await settling

    bench = Bench(failing(10**9, lambda: ThingworxCallFailed(404, "no such Thing")))
    asyncio.run(scenario())


def test_parked_things_that_never_answer_hold_up_nobody_while_others_are_served() -> None:
    def answer(thing: str, _: Any) -> Awaitable[None] | None:
        return never(thing) if thing.startswith("dead") else None

    async def never(thing: str) -> None:
        served = len(bench.transport.times("fan"))
        await until(lambda: len(bench.transport.times("fan")) > served)  # somebody else is served meanwhile
        raise ThingworxUnavailable(f"no answer for {thing}")

    async def scenario() -> None:
        for number in range(5):
            bench.store.marks[f"dead-{number}"] = "platform_unavailable"
            bench.held.held.append(parked(f"dead-{number}", 1))
        await bench.backlog.load()
        async with bench.catching_up():
            at = 0
            while bench.counters["push_failed"] < 20:
                at += 1
                await bench.settle(reading("fan", at))
                assert not bench.delivery.gate.closed
                await asyncio.sleep(0.001)

    bench = Bench(answer)
    asyncio.run(scenario())
    assert len(bench.held.held) == 5


def test_a_thing_whose_backlog_found_no_room_is_tried_once_and_so_never_delays_its_lane_again() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 1))
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)
        bench.delivery._retry_seconds = 60
        before = len(bench.transport.tried)
        await bench.settle(reading("pump", 2))
        assert len(bench.transport.tried) == before + 1

    bench = Bench(
        failing(10**9, lambda: ThingworxCallFailed(500, "script error")), held=FakeHeld(room=0), patience=0.01
    )
    asyncio.run(scenario())
    assert bench.counters["dropped_held_full"] == bench.counters["dropped_held_full:write_failed"] == 2


def test_replayed_readings_are_never_taken_for_repeats_and_are_counted_apart() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 5, "a"))
        await bench.replay(reading("pump", 5, "a"), reading("pump", 1, "b"), reading("pump", 1, "b"))
        await bench.settle(reading("pump", 5, "a"), reading("pump", 1, "b"))

    bench = Bench()
    asyncio.run(scenario())
    assert bench.transport.times("pump") == [5, 1, 1, 5]
    assert (bench.counters["taken"], bench.counters["replayed_taken"]) == (3, 3)
    assert bench.counters["duplicate"] == 2
    bench.check_sum()


def test_replayed_readings_of_a_parked_thing_wait_behind_its_backlog() -> None:
    async def scenario() -> None:
        await bench.settle(reading("pump", 1))
        await bench.replay(reading("pump", 2))
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)

    bench = Bench(failing(1, lambda: ThingworxCallFailed(404, "no such Thing")))
    asyncio.run(scenario())
    assert bench.transport.times("pump") == [1, 2]
    assert bench.counters["replayed_held_parked"] == 1
    assert bench.counters["replayed_delivered"] == 2
    bench.check_sum()


def test_a_failure_that_passes_is_delivered_late_and_not_parked() -> None:
    bench = Bench(failing(2, lambda: ThingworxCallFailed(500, "locked")), patience=10)
    asyncio.run(bench.settle(reading("pump", 1), reading("pump", 2)))
    assert bench.transport.times("pump") == [1, 2]
    assert not bench.held.held


@pytest.mark.parametrize("error", [ThingworxUnavailable("503"), TypeError("nobody foresaw this")])
def test_one_thing_that_never_answers_is_parked_while_others_are_served(error: Exception) -> None:
    async def scenario() -> None:
        at = 0
        settling = asyncio.ensure_future(bench.settle(reading("pump", 1)))
        while not settling.done():
            at += 1
            await bench.settle(reading("fan", at))
            await asyncio.sleep(0.001)
        await settling

    bench = Bench(failing(10**9, lambda: error, "pump"))
    asyncio.run(scenario())
    assert [(entry.thing, entry.state) for entry in bench.held.held] == [("pump", "parked")]
    assert bench.counters["delivered"] == len(bench.transport.times("fan")) > 0


def test_the_only_thing_of_a_slot_is_parked_when_it_keeps_failing_for_no_known_reason() -> None:
    bench = Bench(failing(10**9, lambda: TypeError("nobody foresaw this")))
    asyncio.run(bench.settle(reading("pump", 1)))
    assert [(entry.state, entry.reason) for entry in bench.held.held] == [("parked", "internal_error")]
    assert bench.counters["push_failed"] > 1


@pytest.mark.usefixtures("_virtual_time")
def test_what_fails_for_all_things_for_no_known_reason_is_waited_for() -> None:
    """An answer of the platform that the code can't read must not park everything."""

    async def scenario() -> None:
        async def broken() -> None:
            await asyncio.sleep(0.02)
            if asyncio.get_running_loop().time() < until_then:
                raise TypeError("nobody foresaw this")

        bench = Bench(lambda *_: broken(), patience=1)
        until_then = asyncio.get_running_loop().time() + 30
        await bench.settle(*(reading(f"pump-{number}", 1) for number in range(3)))
        assert not bench.held.held
        assert bench.counters["delivered"] == 3

    run_in_virtual_time(scenario())


@pytest.mark.usefixtures("_virtual_time")
def test_a_thing_whose_calls_time_out_is_parked_after_the_retry_seconds_and_one_call() -> None:
    async def scenario() -> None:
        def answer(thing: str, _: Any) -> Awaitable[None] | None:
            async def hangs() -> None:
                await asyncio.sleep(30)
                raise ThingworxUnavailable("no answer within 30 s")

            return hangs() if thing == "bad" else None

        bench = Bench(answer, patience=60)

        async def others() -> None:
            for at in range(1000):
                await bench.delivery.settle([message("lane-1", reading("good", at))])
                await asyncio.sleep(1)

        busy = asyncio.ensure_future(others())
        began = asyncio.get_running_loop().time()
        await bench.settle(reading("bad", 1), reading("neighbour", 1))
        took = asyncio.get_running_loop().time() - began
        busy.cancel()
        assert [entry.thing for entry in bench.held.held] == ["bad"]
        assert 60 <= took < 90

    run_in_virtual_time(scenario())


@pytest.mark.usefixtures("_virtual_time")
def test_things_that_are_slow_to_be_bound_delay_no_other_and_keep_their_order() -> None:
    async def scenario() -> None:
        bench = Bench(concurrency=2)
        slow = [f"slow-{number}" for number in range(5)]
        bench.transport.bound_after = dict.fromkeys(slow, 40)
        settled = [
            asyncio.ensure_future(bench.settle(reading(name, 1), reading(name, 2), reading(name, 3)))
            for name in slow
        ]
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await bench.delivery.settle([message("lane-1", reading("quick", 1))])
        assert asyncio.get_running_loop().time() - began < 1
        assert {thing for thing, _ in bench.transport.tried} == {"quick"}
        await asyncio.gather(*settled)
        assert all(bench.transport.times(name) == [1, 2, 3] for name in slow)

    run_in_virtual_time(scenario())


def test_only_the_refused_reading_of_a_call_is_rejected() -> None:
    def answer(_: str, rows: Sequence[ValueRow]) -> None:
        if any(row.time == 5 for row in rows):
            raise ThingworxCallFailed(400, "bad value")

    bench = Bench(answer)
    asyncio.run(bench.settle(*(reading("pump", at) for at in range(9))))
    assert [(entry.state, entry.reason, entry.time) for entry in bench.held.held] == [
        ("rejected", "refused_as_malformed", 5)
    ]
    assert bench.transport.times("pump") == [0, 1, 2, 3, 4, 6, 7, 8]
    bench.check_sum()


def test_a_message_that_is_no_parcel_is_held_whole_and_its_neighbours_go_on() -> None:
    bench = Bench()
    bad = Message("m-1", "lane-0", "no parcel", "r-1", sent=77)
    asyncio.run(bench.delivery.settle([bad, message("lane-0", reading("pump", 1))]))
    (held,) = bench.held.held
    assert (held.state, held.thing, held.time, held.reason, held.payload) == (
        "rejected", "", 77, "undecodable_parcel", b"no parcel",
    )  # fmt: skip
    assert bench.transport.times("pump") == [1]
    bench.check_sum()


def test_what_the_held_store_has_no_room_for_is_counted_as_dropped() -> None:
    bench = Bench(failing(10**9, lambda: ThingworxCallFailed(404, "no")), held=FakeHeld(room=3))
    asyncio.run(bench.settle(*(reading("pump", at) for at in range(5))))
    assert (bench.counters["held_parked"], bench.counters["dropped_held_full"]) == (3, 2)
    bench.check_sum()


def test_while_the_held_store_fails_nothing_is_settled() -> None:
    async def scenario() -> None:
        settling = asyncio.ensure_future(bench.settle(reading("pump", 1)))
        await until(lambda: bench.held.calls >= 3)
        assert not settling.done()
        bench.stop.abandon()
        with pytest.raises(Stopped):
            await settling

    bench = Bench(failing(10**9, lambda: ThingworxCallFailed(404, "no")), held=FakeHeld(failures=10**9))
    asyncio.run(scenario())
    assert not bench.counters["taken"]


def test_the_held_store_is_tried_until_it_takes_the_reading() -> None:
    bench = Bench(failing(10**9, lambda: ThingworxCallFailed(404, "no")), held=FakeHeld(failures=3))
    asyncio.run(bench.settle(reading("pump", 1)))
    assert len(bench.held.held) == 1
    assert bench.held.calls == 4


def test_nothing_is_pushed_or_held_without_the_lease_and_the_connector_learns_of_it() -> None:
    bench = Bench()
    bench.owner = False
    with pytest.raises(Stopped):
        asyncio.run(bench.settle(reading("pump", 1)))
    assert not bench.transport.tried
    assert bench.stop.reason is StopReason.LEASE_LOST

    bench = Bench()
    bench.owner = False
    with pytest.raises(Stopped):
        asyncio.run(bench.delivery.settle([Message("m", "lane-0", "no parcel", "r")]))
    assert not bench.held.held


def test_settling_ends_only_after_all_its_calls_have_ended() -> None:
    """Messages given back while a call of theirs is under way could be delivered before it."""

    async def scenario() -> None:
        slow = asyncio.Event()

        def answer(thing: str, _: Any) -> Awaitable[None] | None:
            if thing == "slow":
                return slow.wait()  # type: ignore[return-value] # its result is of no use
            raise ThingworxUnavailable("503")

        bench = Bench(answer)
        settling = asyncio.ensure_future(bench.settle(reading("slow", 1), reading("pump", 1)))
        await until(lambda: len(bench.transport.tried) >= 2)
        bench.stop.abandon()
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not settling.done()
        slow.set()
        with pytest.raises(Stopped):
            await settling
        assert bench.transport.times("slow") == [1]

    asyncio.run(scenario())


def test_a_call_under_way_is_seen_to_its_end_even_when_cancelled() -> None:
    async def scenario() -> None:
        slow = asyncio.Event()
        bench = Bench(lambda *_: slow.wait())  # type: ignore[arg-type]
        settling = asyncio.ensure_future(bench.settle(reading("slow", 1), reading("slow", 2)))
        await until(lambda: bool(bench.transport.tried))
        settling.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not settling.done()
        slow.set()
        with pytest.raises(asyncio.CancelledError):
            await settling
        assert bench.transport.times("slow") == [1, 2]

    asyncio.run(scenario())


_ANSWERS = st.sampled_from(["ok", "ok", "ok", "row", 400, 404, 500, 503])
_READINGS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(readings=_READINGS, script=st.lists(_ANSWERS, max_size=60), room=st.integers(0, 30))
def test_taken_is_always_delivered_or_duplicate_or_held_or_dropped(
    readings: list[tuple[int, int]], script: list[Any], room: int
) -> None:
    answers = iter(script)
    refused = [0]

    def answer(*_: Any) -> None:
        status = next(answers, "ok")
        if status == 503:
            raise ThingworxUnavailable("503")
        if isinstance(status, int):
            raise ThingworxCallFailed(status, "as told")
        refused[0] = status == "row"

    def result(rows: Sequence[ValueRow]) -> PushResult:
        return PushResult(refused=(RefusedRow(rows[0], "row_refused", "as told"),) if refused[0] else ())

    async def scenario() -> None:
        half = len(readings) // 2
        async with bench.catching_up():
            for part in (readings[:half], readings[half:], readings[:half]):
                await bench.delivery.settle(
                    [message("lane-0", reading(f"t-{thing}", at)) for thing, at in part]
                )
            await bench.replay(*(reading(f"t-{thing}", at) for thing, at in readings))
            await until(lambda: not bench.backlog._waiting)

    bench = Bench(answer, held=FakeHeld(room=room), patience=0.002)
    bench.transport.result = result
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 0.0005)
        patch.setattr("lambdas.connector.gate._MOST_SECONDS", 0.002)
        asyncio.run(scenario())
    half = len(readings) // 2
    counters = bench.counters
    assert counters["taken"] == len(readings) + half
    # Sent again: what the replay has, and what was parked and taken up, all of which was in the end.
    parked = counters["held_parked"] + counters["replayed_held_parked"]
    assert counters["replayed_taken"] == len(readings) + parked
    bench.check_sum()
    assert all(count == 1 for count in bench.transport.most_under_way.values())
    reached = {(thing, row.time) for thing, rows in bench.transport.accepted for row in rows}
    held = {(entry.thing, entry.time) for entry in bench.held.held}
    assert {entry.state for entry in bench.held.held} <= {"rejected"}, "nothing stays parked"
    wanted = {(f"t-{thing}", at) for thing, at in readings}
    assert reached | held <= wanted
    if not counters["dropped_held_full"] + counters["replayed_dropped_held_full"]:
        assert reached | held == wanted, "nothing is lost"
