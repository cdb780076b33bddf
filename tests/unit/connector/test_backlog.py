"""Parked Things: who waits, who is tried when, and that no crash loses or reorders a reading."""

# ruff: noqa: D102 - the methods of stand-ins are those of what they stand for
from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector.backlog import Backlog, Offered
from lambdas.connector.deliver import Delivery
from lambdas.connector.outcome import Outcome, Verdict
from lambdas.connector.stop import Stop, Stopped, StopReason
from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.transport import PushResult, RefusedRow
from tests.unit.connector.fakes import (
    FakeBacklog,
    FakeHeld,
    FakeTransport,
    backlog_of,
    message,
    reading,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from lambdas.connector.entries import Entry
    from lambdas.connector.slot_queue import Message
    from lambdas.shared.held_store import HeldReading
    from lambdas.thingworx.infotable import ValueRow

REFUSED = Verdict(Outcome.PARK, "not_bound", "as told")


class Bench:
    """A connector's backlog and delivery over a platform and stores that outlive it."""

    def __init__(self, transport: FakeTransport, store: FakeBacklog, held: FakeHeld, seconds: float) -> None:
        self.stop = Stop()
        self.counters: Counter[str] = Counter()
        self.backlog = backlog_of(store, self.stop, seconds)
        self.delivery = Delivery(
            transport,
            held,  # type: ignore[arg-type] # a stand-in
            stop=self.stop,
            owns=lambda: True,
            backlog=self.backlog,
            concurrency=4,
            thing_retry_seconds=seconds,
            counters=self.counters,
        )

    @contextlib.asynccontextmanager
    async def catching_up(self) -> AsyncIterator[None]:
        """Have parked Things catch up meanwhile."""
        task = asyncio.ensure_future(self.delivery.catch_up())
        try:
            yield
        finally:
            self.stop.ask(StopReason.END_OF_LIFE)
            await task


class World:
    """What outlives connectors."""

    def __init__(self, answer: Callable[[str, Sequence[ValueRow]], None] | None = None) -> None:
        self.transport = FakeTransport(answer)
        self.held = FakeHeld()
        self.store = FakeBacklog(self.held)

    def connector(self, seconds: float = 0.01) -> Bench:
        """A new one."""
        return Bench(self.transport, self.store, self.held, seconds)


def refusing(times: int, thing: str = "pump") -> Callable[[str, Any], None]:
    """Refuses a Thing so many times, then takes everything."""
    left = [times]

    def answer(name: str, _: Any) -> None:
        if name == thing and left[0]:
            left[0] -= 1
            raise ThingNotServed("bind refused")

    return answer


def test_the_marker_is_written_before_the_first_reading_is_parked_and_once_only() -> None:
    async def scenario() -> None:
        bench = world.connector()
        world.store.failures = 2
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        await bench.delivery.settle([message("lane-0", reading("pump", 2))])

    world = World(refusing(10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 0.001)
        asyncio.run(scenario())
    assert world.store.calls == [("mark", "pump")] * 3, "two tries failed"
    assert world.store.marks == {"pump": "not_bound"}
    assert [entry.time for entry in world.held.held] == [1, 2]


def test_nothing_is_parked_while_the_marker_can_not_be_written() -> None:
    async def scenario() -> None:
        bench = world.connector()
        world.store.failures = 10**9
        settling = asyncio.ensure_future(bench.delivery.settle([message("lane-0", reading("pump", 1))]))
        await until(lambda: len(world.store.calls) >= 2)
        assert not world.held.held
        bench.stop.abandon()
        with pytest.raises(Stopped):
            await settling

    world = World(refusing(10**9))
    asyncio.run(scenario())


def test_a_successor_learns_who_waits_before_it_delivers_and_tries_it_at_once() -> None:
    async def scenario() -> None:
        first = world.connector(seconds=60)
        await first.delivery.settle([message("lane-0", reading("pump", 1), reading("pump", 2))])
        successor = world.connector(seconds=1)
        await successor.backlog.load()
        await successor.delivery.settle([message("lane-0", reading("pump", 3))])
        assert not world.transport.accepted
        async with successor.catching_up():
            await until(lambda: "pump" not in successor.backlog)
        await successor.delivery.settle([message("lane-0", reading("pump", 4))])

    world = World(refusing(1))
    asyncio.run(scenario())
    assert world.transport.times("pump") == [1, 2, 3, 4]
    assert not world.store.marks


def test_markers_that_can_not_be_read_keep_a_successor_from_delivering() -> None:
    async def scenario() -> None:
        bench = world.connector()
        world.store.failures = 2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 0.001)
            await bench.backlog.load()
        assert "pump" in bench.backlog
        world.store.failures = 10**9
        loading = asyncio.ensure_future(world.connector().backlog.load())
        bench.stop.abandon()
        await asyncio.sleep(0)
        assert not loading.done()
        loading.cancel()

    world = World()
    world.store.marks["pump"] = "not_bound"
    asyncio.run(scenario())


def test_a_refused_thing_is_tried_with_one_reading_and_told_to_the_transport() -> None:
    async def scenario() -> None:
        knocks: list[str] = []
        bench = world.connector()
        bench.backlog._knock = knocks.append
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in range(9)))])
        tried = len(world.transport.tried)
        async with bench.catching_up():
            await until(lambda: len(world.transport.tried) >= tried + 3)
        assert all(len(rows) == 1 for _, rows in world.transport.tried[tried:])
        assert knocks[:3] == ["pump"] * 3

    world = World(refusing(10**9))
    asyncio.run(scenario())
    assert [entry.time for entry in world.held.held] == list(range(9))


def test_one_parked_thing_waits_for_no_other() -> None:
    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", reading("pump", 1), reading("fan", 1))])
        await bench.delivery.settle([message("lane-0", reading("pump", 2), reading("fan", 2))])
        async with bench.catching_up():
            await until(lambda: "fan" not in bench.backlog)

    def answer(thing: str, rows: Sequence[ValueRow]) -> None:
        if thing == "pump":
            raise ThingworxCallFailed(404, "no such Thing")
        refuse_once(thing, rows)

    refuse_once = refusing(1, "fan")
    world = World(answer)
    asyncio.run(scenario())
    assert world.transport.times("fan") == [1, 2]
    assert [entry.time for entry in world.held.held if entry.thing == "pump"] == [1, 2]


def test_readings_that_can_never_be_written_do_not_end_catching_up() -> None:
    def answer(thing: str, rows: Sequence[ValueRow]) -> None:
        refuse_once(thing, rows)
        if any(row.time == 2 for row in rows):
            raise ThingworxCallFailed(400, "bad value")

    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in (1, 2, 3)))])
        broken = world.held.held[2]._replace(time=4, id="broken", shape=None)
        world.held.held.append(broken)
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)
        assert bench.counters["replayed_taken"] == 4
        assert (bench.counters["replayed_delivered"], bench.counters["replayed_held_rejected"]) == (2, 2)

    refuse_once = refusing(1)
    world = World(answer)
    asyncio.run(scenario())
    assert world.transport.times("pump") == [1, 3]
    assert [(entry.state, entry.time, entry.reason) for entry in world.held.held] == [
        ("rejected", 4, "unreadable_parked"),
        ("rejected", 2, "refused_as_malformed"),
    ]


def test_a_parked_reading_that_keeps_failing_for_no_known_reason_is_not_in_the_way_for_ever() -> None:
    def answer(thing: str, rows: Sequence[ValueRow]) -> None:
        refuse_once(thing, rows)
        if any(row.time == 1 for row in rows):
            raise ZeroDivisionError("a fault of the code")

    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in (1, 2)))])
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)

    refuse_once = refusing(1)
    world = World(answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdas.connector.gate._FIRST_SECONDS", 0.001)
        asyncio.run(scenario())
    assert world.transport.times("pump") == [2]
    (held,) = world.held.held
    assert (held.time, held.state, held.reason) == (1, "rejected", "crashes")
    assert "a fault of the code" in held.detail


def poisoned(*bad: int, error: Exception, down: int = 1) -> Callable[[str, Sequence[ValueRow]], None]:
    """Refuses every call so many times, then those with one of these readings for ever."""
    left = [down]

    def answer(_: str, rows: Sequence[ValueRow]) -> None:
        left[0] -= 1
        if left[0] >= 0 or any(row.time in bad for row in rows):
            raise error

    return answer


async def catch_up(world: World, times: Sequence[int], bench: Bench | None = None) -> Counter[str]:
    """Park these readings of a Thing and have it catch up; what was counted."""
    bench = bench or world.connector()
    await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in times))])
    async with bench.catching_up():
        await until(lambda: "pump" not in bench.backlog)
    counters = bench.counters
    settled = sum(counters[f"replayed_{name}"] for name in ("delivered", "late", "held_rejected"))
    assert counters["held_parked"] == counters["replayed_taken"] == settled == len(times)
    return counters


def rejected(world: World) -> list[tuple[int, str, str]]:
    return sorted((entry.time, entry.state, entry.reason) for entry in world.held.held)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ThingworxCallFailed(500, "no such type"), "write_failed"),
        (ThingworxCallFailed(404, "Property [Old] not found"), "thing_not_found"),
        (ZeroDivisionError("a fault of the code"), "crashes"),
    ],
)
@pytest.mark.parametrize("bad", [(1,), (4,), (9,), (1, 2, 3, 4), (1, 3, 5, 7), (2, 6, 7, 8)])
def test_parked_readings_that_are_refused_alone_are_rejected_and_all_others_delivered_in_order(
    bad: tuple[int, ...], error: Exception, reason: str
) -> None:
    world = World(poisoned(*bad, error=error))
    counters = asyncio.run(catch_up(world, range(1, 11)))
    assert world.transport.times("pump") == [at for at in range(1, 11) if at not in bad]
    assert rejected(world) == [(at, "rejected", reason) for at in bad]
    assert not counters["replayed_late"]
    assert all(str(error) in entry.detail for entry in world.held.held)
    assert not world.store.marks


@pytest.mark.parametrize("bad", [range(1, 60), range(1, 900), range(1, 200, 2)])
def test_many_refused_readings_in_a_row_lose_none_of_those_between_and_behind_them(bad: range) -> None:
    world = World(poisoned(*bad, error=ThingworxCallFailed(500, "no such type")))
    counters = asyncio.run(catch_up(world, range(1, 1000)))
    good = [at for at in range(1, 1000) if at not in bad]
    assert sorted(world.transport.times("pump")) == good
    assert rejected(world) == [(at, "rejected", "write_failed") for at in bad]
    newest = itertools.accumulate(world.transport.times("pump"), max)
    late = [at for at, before in zip(world.transport.times("pump"), newest, strict=True) if at < before]
    assert counters["replayed_late"] == len(late)
    assert len(world.transport.tried) < 9 * len(bad) + 60


def test_a_reading_with_none_behind_it_waits_until_one_comes() -> None:
    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        async with bench.catching_up():
            await until(lambda: len(world.transport.tried) >= 8)
            assert [entry.state for entry in world.held.held] == ["parked"]
            await bench.delivery.settle([message("lane-0", reading("pump", 2))])
            await until(lambda: "pump" not in bench.backlog)

    world = World(poisoned(1, error=ThingworxCallFailed(500, "no such type")))
    asyncio.run(scenario())
    assert world.transport.times("pump") == [2]
    assert rejected(world) == [(1, "rejected", "write_failed")]


@pytest.mark.parametrize(
    "error",
    [ThingworxCallFailed(500, "disabled"), ThingworxCallFailed(404, "no such Thing"), TypeError("new")],
)
def test_of_a_thing_that_is_refused_as_a_whole_no_reading_is_rejected_however_long(error: Exception) -> None:
    async def scenario() -> None:
        bench = world.connector(seconds=0.001)
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in range(600)))])
        async with bench.catching_up():
            await until(lambda: world.store.calls.count(("ours", "pump")) >= 43)
            tried = len(world.transport.tried)
            assert {entry.state for entry in world.held.held} == {"parked"}
            assert len(world.held.held) == 600
            answers.append(None)
            await until(lambda: "pump" not in bench.backlog)
        assert tried < 43 * 2 + 5 * 12, "it stays cheap"
        assert not bench.counters["replayed_held_rejected"]

    def answer(*_: Any) -> None:
        if not answers:
            raise error

    answers: list[None] = []
    world = World(answer)
    asyncio.run(scenario())
    assert sorted(world.transport.times("pump")) == list(range(600))
    assert not world.held.held


def test_what_the_platform_was_not_asked_about_proves_nothing_about_the_oldest() -> None:
    """A value without a binding, one that its binding keeps back, a malformed one: nothing of the Thing."""

    def answer(_: str, rows: Sequence[ValueRow]) -> None:
        if any(row.time == 4 for row in rows):
            raise ThingworxCallFailed(400, "bad value")
        if not served and not all(row.time in (2, 3) for row in rows):
            raise ThingworxCallFailed(500, "disabled")

    def result(rows: Sequence[ValueRow]) -> PushResult:
        unbound = tuple(RefusedRow(row, "not_bound", "no such name") for row in rows if row.time == 2)
        return PushResult(sum(row.time == 3 for row in rows), unbound)

    async def scenario() -> None:
        bench = world.connector(seconds=0.001)
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in (1, 2, 3, 4, 5)))])
        async with bench.catching_up():
            await until(lambda: world.store.calls.count(("ours", "pump")) >= 20)
            assert [entry.time for entry in world.held.held if entry.state == "parked"] == [1, 5]
            served.append(None)
            await until(lambda: "pump" not in bench.backlog)

    served: list[None] = []
    world = World(answer)
    world.transport.result = result
    asyncio.run(scenario())
    assert rejected(world) == [(2, "rejected", "not_bound"), (4, "rejected", "refused_as_malformed")]


def test_a_thing_that_is_served_again_while_it_is_looked_into_loses_nothing() -> None:
    """Whichever call is the first that is taken."""

    async def scenario(down: int) -> None:
        world = World(poisoned(error=ThingworxCallFailed(500, "disabled"), down=down))
        counters = await catch_up(world, range(20), world.connector(seconds=0.001))
        assert sorted(world.transport.times("pump")) == list(range(20))
        assert not counters["replayed_held_rejected"]

    for down in range(2, 40):
        asyncio.run(scenario(down))


def test_a_platform_that_goes_away_while_readings_are_looked_into_convicts_none() -> None:
    def answer(_: str, rows: Sequence[ValueRow]) -> None:
        if away[0]:
            raise ThingworxUnavailable("503")
        if rows[0].time < 3:
            raise ThingworxCallFailed(500, "no such type")
        away[0] = True

    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in (1, 2, 3, 4)))])
        async with bench.catching_up():
            await until(lambda: away[0] and bench.counters["push_failed"] >= 9)
            assert [entry.time for entry in world.held.held if entry.state == "parked"] == [1, 2, 4]

    away = [False]
    world = World(answer)
    asyncio.run(scenario())


def test_live_readings_that_come_while_a_thing_catches_up_come_after_its_backlog() -> None:
    """However pushes and parking interleave."""

    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in range(20)))])
        async with bench.catching_up():
            for at in range(20, 120):
                await bench.delivery.settle([message("lane-0", reading("pump", at))])
            await until(lambda: "pump" not in bench.backlog)

    world = World(refusing(3))
    asyncio.run(scenario())
    assert world.transport.times("pump") == list(range(120))


def test_no_reading_joins_a_backlog_unseen_while_its_marker_is_removed() -> None:
    async def scenario() -> None:
        removing, parked = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        unmark = world.store.unmark

        def slow_unmark(thing: str) -> None:
            loop.call_soon_threadsafe(removing.set)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result()
            assert not parked.is_set()
            unmark(thing)

        world.store.unmark = slow_unmark  # type: ignore[method-assign]
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        async with bench.catching_up():
            await removing.wait()

            async def hold(_: Verdict) -> None:
                parked.set()

            assert not await bench.backlog.park("pump", None, hold)
        assert not parked.is_set(), "it is to be delivered directly"

    world = World(refusing(1))
    asyncio.run(scenario())
    assert not world.store.marks


def test_while_resting_nothing_is_tried_and_nothing_is_under_way() -> None:
    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        async with bench.catching_up():
            await bench.backlog.rest()
            tried = len(world.transport.tried)
            await asyncio.sleep(0.05)
            assert len(world.transport.tried) == tried
            assert not world.transport.under_way["pump"]
            bench.backlog.go_on()
            await until(lambda: "pump" not in bench.backlog)

    world = World(refusing(2))
    asyncio.run(scenario())
    assert world.transport.times("pump") == [1]


class Crash(BaseException):
    """The process is gone: nothing it does has an effect any more."""


class Fuse:
    """Counts the effects of a process, and ends it before or after one of them."""

    def __init__(self, effects: int, *, after: bool) -> None:
        self.left = effects
        self.after = after
        self.blown = False

    @contextlib.contextmanager
    def effect(self) -> Iterator[None]:
        """Around one effect."""
        self.left -= 1
        last = self.left == 0
        if self.blown or (last and not self.after):
            self.blown = True
            raise Crash
        try:
            yield
        finally:
            if last:
                self.blown = True
                raise Crash


class FusedHeld:
    """A held store as one process sees it."""

    def __init__(self, held: FakeHeld, fuse: Fuse) -> None:
        self._held, self._fuse = held, fuse

    def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
        with self._fuse.effect():
            known = {(entry.state, entry.id) for entry in self._held.held}
            return self._held.hold([item for item in items if (item.state, item.id) not in known])


def test_a_thing_of_no_slot_or_another_is_not_tried_and_caught_up_once_it_is_back() -> None:
    async def scenario() -> None:
        bench = world.connector()
        knocked: list[str] = []
        bench.backlog._knock = knocked.append
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        world.store.elsewhere = {"pump"}
        async with bench.catching_up():
            await until(lambda: world.store.calls.count(("ours", "pump")) >= 3)
            assert not knocked
            assert world.transport.times("pump") == []
            assert [entry.time for entry in world.held.held] == [1]
            world.store.elsewhere = set()
            await until(lambda: "pump" not in bench.backlog)

    world = World(refusing(1))
    asyncio.run(scenario())
    assert world.transport.times("pump") == [1]
    assert world.store.marks == {}


def test_the_marker_of_a_thing_of_another_slot_goes_once_its_parked_readings_were_sent_there() -> None:
    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", reading("pump", 1))])
        world.store.elsewhere = {"pump"}
        world.held.held.clear()
        async with bench.catching_up():
            await until(lambda: "pump" not in bench.backlog)

    world = World(refusing(10**9))
    asyncio.run(scenario())
    assert world.store.marks == {}
    assert world.transport.times("pump") == []


class FusedStore:
    """Markers and parked readings as one process sees them."""

    def __init__(self, store: FakeBacklog, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            with self._fuse.effect():
                return getattr(self._store, name)(*arguments)

        return call


class FusedTransport:
    """A platform as one process sees it."""

    limits = "none, it is not real"

    def __init__(self, transport: FakeTransport, fuse: Fuse) -> None:
        self._transport, self._fuse = transport, fuse
        self.ready = transport.ready

    async def push(self, thing: str, rows: Sequence[ValueRow]) -> Any:
        with self._fuse.effect():
            return await self._transport.push(thing, rows)


async def live(world: World, queue: list[Message], fuse: Fuse) -> bool:
    """One connector's life until the queue is empty and nobody waits; false when it crashed before."""
    bench = Bench(
        FusedTransport(world.transport, fuse),  # type: ignore[arg-type] # stand-ins
        FusedStore(world.store, fuse),  # type: ignore[arg-type]
        FusedHeld(world.held, fuse),  # type: ignore[arg-type]
        0.004,
    )

    async def work() -> None:
        await bench.backlog.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.delivery.catch_up())
            while queue:
                await bench.delivery.settle([queue[0]])
                queue.pop(0)
                await asyncio.sleep(0.001)
            await until(lambda: not bench.backlog._waiting)
            bench.stop.ask(StopReason.END_OF_LIFE)

    crashed = False
    try:
        await work()
    except* Crash:
        crashed = True
    return not crashed


@pytest.mark.parametrize("after", [True, False], ids=["after the effect", "before the effect"])
def test_a_crash_between_any_two_steps_loses_and_reorders_nothing(after: bool) -> None:  # noqa: FBT001 - pytest's
    async def scenario(steps: int) -> bool:
        world = World(refusing(4))
        queue = [message("lane-0", reading("pump", at), reading("pump", at + 1)) for at in range(0, 12, 2)]
        survived = await live(world, queue, Fuse(steps, after=after))
        if not survived:
            assert await live(world, queue, Fuse(10**9, after=False))
        times = world.transport.times("pump")
        first_time = list(dict.fromkeys(times))
        assert first_time == list(range(12)), f"crash at step {steps}: {times}"
        assert not world.held.held
        assert not world.store.marks
        return survived

    steps = 1
    while not asyncio.run(scenario(steps)):
        steps += 1
    assert steps > 15, "it was crashed at many steps"


def test_a_backlog_offers_each_reading_once_and_in_order_even_over_many_pages() -> None:
    class Settles:
        def __init__(self) -> None:
            self.times: list[int] = []

        async def offer_parked(self, _: str, batch: list[Entry]) -> Offered:
            self.times += [entry.reading.time for entry in batch]
            return Offered(len(batch), True, None)  # noqa: FBT003 - as its fields say

        async def reject_parked(self, parked: HeldReading, reason: str, detail: str) -> None:
            raise AssertionError(parked, reason, detail)

    async def scenario() -> None:
        bench = world.connector()
        await bench.delivery.settle([message("lane-0", *(reading("pump", at) for at in range(1200)))])
        stop, settles = Stop(), Settles()
        backlog = Backlog(world.store, stop=stop, owns=lambda: True, retry_seconds=0.01)
        await backlog.load()
        running = asyncio.ensure_future(backlog.run(settles))
        await until(lambda: "pump" not in backlog)
        stop.ask(StopReason.END_OF_LIFE)
        await running
        assert settles.times == list(range(1200))

    world = World(refusing(10**9))
    asyncio.run(scenario())
