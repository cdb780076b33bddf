"""Presence with its surroundings: bound and unbound in time, stored before it is acknowledged, asked for."""

# ruff: noqa: D102 - the methods are those of what they stand for
from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector import present_things as module
from lambdas.connector.assigned import AssignedThings
from lambdas.connector.budget import WriteBudget
from lambdas.connector.connections import NotAllowed
from lambdas.connector.outlet import Outlet
from lambdas.connector.presence import Presence
from lambdas.connector.presence_property import PresenceProperty
from lambdas.connector.presence_record import Answer, Record
from lambdas.connector.present_things import PresentThings
from lambdas.connector.stop import Stop
from lambdas.shared.control_table import ASSIGNED, ThingRecord
from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxUnavailable
from lambdas.shared.parcel import PresenceChange
from lambdas.shared.shape import Property
from tests.unit.connector.fakes import FakeTransport, refused, until
from tests.unit.connector.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

CHECKS_PER_SECOND = module._CHECKS_PER_SECOND
NOW = int(time.time() * 1000)
SHAPES = {"with": {"online": Property("BOOLEAN", "Online")}, "without": {"online": Property("STRING", "x")}}


class FakeBinder(FakeTransport):
    """Binds at once; `said` is what it was told, in order."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__(answer)
        self.bound: set[str] = set()
        self.said: list[tuple[str, str]] = []

    def bind(self, things: Iterable[str]) -> None:
        for name in things:
            self.said.append(("bind", name))
            self.bound.add(name)

    def unbind(self, things: Iterable[str]) -> None:
        for name in things:
            self.said.append(("unbind", name))
            self.bound.discard(name)

    def retry_parked(self, things: Iterable[str] | None = None) -> None:
        self.said.extend(("retry", name) for name in things or self.bound)

    def parked(self) -> dict[str, str]:
        return {}

    async def ready(self, thing: str) -> None:
        if thing not in self.bound:
            self.bind([thing])


class FakeStore:
    """Keeps records; it fails first as often as it is told to, and may be held up."""

    def __init__(self, *records: Record, failures: int = 0) -> None:
        self.records = {record.thing: record for record in records}
        self.failures = failures
        self.saves: list[list[str]] = []

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise refused("ThrottlingException", "Query")

    def load(self) -> list[Record]:
        self._fail()
        return list(self.records.values())

    def save(self, records: Sequence[Record], forgotten: Sequence[str]) -> None:
        self._fail()
        self.saves.append([record.thing for record in records])
        self.records |= {record.thing: record for record in records}
        for name in forgotten:
            self.records.pop(name, None)


class FakeConnections:
    """Answers from a dict; an exception in it is raised once, then the answer behind it is given."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name: list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    def ask(self, client_id: str) -> Answer:
        self.asked.append(client_id)
        found = self.answers.get(client_id)
        if not found:
            return Answer(connected=False, since=None)
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Answer)
        return answer


class Scene:
    """One connector's presence."""

    def __init__(
        self,
        *names: str,
        store: FakeStore | None = None,
        connections: FakeConnections | None = None,
        binder: FakeBinder | None = None,
        told: bool = False,
    ) -> None:
        self.names = set(names)
        self.store = store or FakeStore()
        self.connections = connections or FakeConnections()
        self.binder = binder or FakeBinder()
        self.counters: Counter[str] = Counter()
        self.owned = True
        self.shape = "with"
        stop = Stop()
        self.outlet = Outlet(self.binder, WriteBudget(0, stop), lambda: self.owned, stop)
        self._told = PresenceProperty("online", self._shapes) if told else None
        self.present = PresentThings(
            "1",
            self.binder,
            Presence(unbind_delay=20, tells=told, counters=self.counters),
            self.store,  # type: ignore[arg-type] # a stand-in
            connections=self.connections,  # type: ignore[arg-type] # a stand-in
            told=self._told,
            counters=self.counters,
        )
        self.assigned = AssignedThings("1", self.binder, self._names, lambda: None, self.present)
        self.assigned.pass_through(self.outlet)

    def _names(self) -> list[str]:
        if self._told is not None:
            self._told.learn([ThingRecord(name, "1", self.shape, ASSIGNED, 1) for name in self.names])
        return sorted(self.names)

    @staticmethod
    def _shapes(ids: Iterable[str]) -> dict[str, dict[str, Property]]:
        return {name: SHAPES[name] for name in ids}

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.assigned.keep())
        try:
            async with asyncio.timeout(10):
                await self.present.ready()
                # The first look.
                await until(lambda: bool(self.connections.asked) or not self.names)
                yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECKS_PER_SECOND", 1000)
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.005)


@pytest.fixture
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """For virtual time."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


def event(version: int, *, connected: bool, thing: str = "pump", at: int = NOW) -> PresenceChange:
    return PresenceChange(thing, connected, at, version, thing, f"0:{version}:0")


def test_events_bind_and_unbind_and_are_stored() -> None:
    async def scenario() -> None:
        scene = Scene("pump", "fan")
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            assert scene.binder.bound == {"pump"}
            await scene.present.saved()
            assert scene.store.records["pump"].bound
            scene.present.take([event(1, connected=False)])
            await until(lambda: not scene.binder.bound)
            await until(lambda: not scene.store.records["pump"].bound)

    asyncio.run(scenario())


def test_the_successor_knows_the_set_before_it_serves_and_binds_it_when_it_does() -> None:
    async def scenario() -> None:
        store = FakeStore(Record("pump", connected=True, version=1, time=NOW, bound=True, heard=NOW))
        scene = Scene("pump", "fan", store=store)
        await scene.assigned.load()
        assert scene.assigned.wanted() == {"pump"}
        assert scene.binder.bound == set()
        store.records["fan"] = Record("fan", connected=True, version=1, time=NOW, bound=True, heard=NOW)
        task = asyncio.ensure_future(scene.assigned.keep())
        await until(lambda: scene.binder.bound == {"pump", "fan"})
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_with_no_presence_all_things_of_the_slot_are_wanted() -> None:
    async def scenario() -> None:
        binder = FakeBinder()
        assigned = AssignedThings("1", binder, lambda: ["fan", "pump"], lambda: None)
        await assigned.load()
        assert assigned.wanted() == {"fan", "pump"}
        task = asyncio.ensure_future(assigned.keep())
        await until(lambda: binder.bound == {"fan", "pump"})
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_nothing_is_delivered_before_the_records_are_there() -> None:
    async def scenario() -> None:
        scene = Scene("pump", store=FakeStore(failures=3))
        ready = asyncio.ensure_future(scene.present.ready())
        await asyncio.sleep(0)
        assert not ready.done()
        async with scene.kept():
            await ready

    asyncio.run(scenario())


def test_what_is_not_stored_is_told_and_stored_with_the_next_call() -> None:
    async def scenario() -> None:
        scene = Scene("pump")
        async with scene.kept():
            scene.store.failures = 1
            scene.present.take([event(1, connected=True)])
            with contextlib.suppress(Exception):
                await scene.present.saved()
            await scene.present.saved()
            assert scene.store.records["pump"].connected

    asyncio.run(scenario())


def test_what_changed_last_is_stored_when_the_connector_ends() -> None:
    async def scenario() -> None:
        scene = Scene("pump")
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
        assert scene.store.records["pump"].bound

    asyncio.run(scenario())


def test_what_could_not_be_stored_at_the_end_is_known_when_the_slot_stays_after_all() -> None:
    async def scenario() -> None:
        scene = Scene("pump")
        async with scene.kept():
            scene.store.failures = 10**9
            scene.present.take([event(1, connected=True)])
        scene.store.failures = 0
        assert scene.store.records.get("pump", Record("pump")).connected is None
        async with scene.kept():
            assert scene.binder.bound == {"pump"}
            await until(lambda: bool(scene.store.records.get("pump", Record("")).connected))

    asyncio.run(scenario())


def test_many_who_wait_share_one_write() -> None:
    async def scenario() -> None:
        names = [f"pump-{number}" for number in range(50)]
        scene = Scene(*names)
        async with scene.kept():
            await until(lambda: len(scene.connections.asked) == 50)
            await scene.present.saved()
            scene.store.saves.clear()
            scene.present.take([event(1, connected=True, thing=name) for name in names])
            await asyncio.gather(*(scene.present.saved() for _ in names))
            assert [len(names) for names in scene.store.saves] == [50]

    asyncio.run(scenario())


def test_things_connected_before_they_were_known_are_found_and_bound() -> None:
    async def scenario() -> None:
        scene = Scene("pump", connections=FakeConnections(pump=[Answer(connected=True, since=NOW)]))
        async with scene.kept():
            await until(lambda: scene.binder.bound == {"pump"})
            scene.names.add("fan")
        assert scene.connections.asked == ["pump"]
        assert scene.counters["connection_checks"] == 1

    asyncio.run(scenario())


@pytest.mark.usefixtures("_no_threads")
def test_no_more_than_ten_clients_a_second_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECKS_PER_SECOND", CHECKS_PER_SECOND)

    async def scenario() -> None:
        times = []

        class Timed(FakeConnections):
            def ask(self, client_id: str) -> Answer:
                times.append(asyncio.get_running_loop().time())
                return super().ask(client_id)

        scene = Scene(*(f"pump-{number}" for number in range(30)), connections=Timed())
        async with scene.kept():
            await until(lambda: len(times) == 30)
        assert all(later - earlier > 0.99 for earlier, later in zip(times, times[10:], strict=False))

    run_in_virtual_time(scenario())


def test_who_tells_meanwhile_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_ROUND", 1)

    async def scenario() -> None:
        scene = Scene("fan", "pump", "tank")
        loop = asyncio.get_running_loop()

        def taken() -> None:
            scene.present.take([event(1, connected=True)])

        class Meanwhile(FakeConnections):
            def ask(self, client_id: str) -> Answer:
                if client_id == "fan":
                    loop.call_soon_threadsafe(taken)
                return super().ask(client_id)

        scene.connections = scene.present._connections = Meanwhile()  # type: ignore[assignment] # a stand-in
        async with scene.kept():
            await until(lambda: "tank" in scene.connections.asked)
        assert scene.connections.asked == ["fan", "tank"]

    asyncio.run(scenario())


def test_a_newly_assigned_thing_is_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_SECONDS", 3600)

    async def scenario() -> None:
        scene = Scene("pump")
        async with scene.kept():
            await until(lambda: scene.counters["connection_checks"] == 1)
            scene.present.assign(["fan", "pump"])
            await until(lambda: scene.connections.asked == ["pump", "fan"])

    asyncio.run(scenario())


def test_a_throttled_question_is_asked_again() -> None:
    async def scenario() -> None:
        answers = [refused("ThrottlingException"), refused("Busy"), Answer(connected=True, since=NOW)]
        scene = Scene("pump", connections=FakeConnections(pump=answers))
        async with scene.kept():
            await until(lambda: scene.binder.bound == {"pump"})
        assert scene.counters["connection_checks_failed"] == 2

    asyncio.run(scenario())


def test_without_permission_nothing_is_asked_any_more_and_all_else_goes_on() -> None:
    async def scenario() -> None:
        scene = Scene("fan", "pump", connections=FakeConnections(fan=[NotAllowed("no")]))
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await scene.present.saved()
            assert scene.binder.bound == {"pump"}
        assert scene.connections.asked == ["fan"]

    asyncio.run(scenario())


def test_a_late_delivery_unbinds_again_after_it() -> None:
    async def scenario() -> None:
        scene = Scene("pump")
        async with scene.kept():
            scene.present.take([event(1, connected=False)])
            with scene.present.delivering("pump", NOW - 1):
                scene.binder.bound.add("pump")
            assert scene.binder.bound == set()
            with scene.present.delivering("pump", NOW + 5000):
                assert scene.binder.bound == {"pump"}
            assert scene.binder.bound == {"pump"}

    asyncio.run(scenario())


def pushed(scene: Scene) -> list[tuple[str, str, bool, int]]:
    return [(thing, row.name, row.value, row.time) for thing, rows in scene.binder.accepted for row in rows]


def test_presence_is_written_to_the_property_with_the_events_time_and_before_the_unbind() -> None:
    async def scenario() -> None:
        scene = Scene("pump", told=True)
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await until(lambda: len(scene.binder.accepted) == 1)
            scene.binder.said.clear()
            scene.present.take([event(1, connected=False, at=NOW + 7)])
            await until(lambda: ("unbind", "pump") in scene.binder.said)
            assert pushed(scene) == [
                ("pump", "Online", True, NOW),
                ("pump", "Online", False, NOW + 7),
            ]
        assert scene.store.records["pump"].told is False

    asyncio.run(scenario())


def test_a_thing_without_the_property_is_left_alone() -> None:
    async def scenario() -> None:
        scene = Scene("pump", told=True)
        scene.shape = "without"
        async with scene.kept():
            scene.present.take([event(1, connected=True), event(1, connected=False)])
            await until(lambda: ("unbind", "pump") in scene.binder.said)
            assert scene.binder.tried == []

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ThingworxUnavailable("away"), ThingworxCallFailed(500, "busy")])
def test_a_write_that_fails_for_now_is_tried_again(error: Exception) -> None:
    async def scenario() -> None:
        failures = [error, error]

        def answer(*_: Any) -> None:
            if failures:
                raise failures.pop()

        scene = Scene("pump", told=True, binder=FakeBinder(answer))
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await until(lambda: pushed(scene) == [("pump", "Online", True, NOW)])

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ThingNotServed("no"), ThingworxCallFailed(403, "no")])
def test_a_write_that_is_refused_is_given_up_and_the_thing_unbound_all_the_same(error: Exception) -> None:
    async def scenario() -> None:
        def answer(*_: Any) -> None:
            raise error

        scene = Scene("pump", told=True, binder=FakeBinder(answer))
        async with scene.kept():
            scene.present.take([event(1, connected=True), event(1, connected=False)])
            await until(lambda: ("unbind", "pump") in scene.binder.said)
        assert len(scene.binder.tried) == 2

    asyncio.run(scenario())


@pytest.mark.usefixtures("_no_threads")
def test_a_write_that_keeps_failing_is_given_up_after_five_tries() -> None:
    def answer(*_: Any) -> None:
        raise ThingworxCallFailed(500, "busy")

    async def scenario() -> None:
        scene = Scene("pump", told=True, binder=FakeBinder(answer))
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await until(lambda: scene.store.records.get("pump", Record("")).told is True)
        assert len(scene.binder.tried) == 5

    run_in_virtual_time(scenario())


def test_a_write_that_hangs_does_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        scene = Scene("pump", told=True, binder=FakeBinder(lambda *_: asyncio.sleep(3600)))
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await until(lambda: bool(scene.binder.tried))
        assert scene.binder.accepted == []
        assert scene.store.records["pump"].told is None

    asyncio.run(scenario())


def test_presence_is_written_neither_while_the_lease_is_offered_nor_lost_when_that_is_taken_back() -> None:
    async def scenario() -> None:
        scene = Scene("pump", told=True)
        async with scene.kept():
            assert await scene.outlet.shut(1)
            scene.present.take([event(1, connected=True)])
            await asyncio.sleep(0.01)
        assert scene.binder.tried == []  # nothing is left at work when the lease is offered
        scene.outlet.reopen()
        async with scene.kept():
            await until(lambda: pushed(scene) == [("pump", "Online", True, NOW)])

    asyncio.run(scenario())


def test_who_lost_the_slot_writes_no_presence() -> None:
    async def scenario() -> None:
        scene = Scene("pump", told=True)
        scene.owned = False
        async with scene.kept():
            scene.present.take([event(1, connected=True)])
            await asyncio.sleep(0)
            await scene.present.saved()
        assert scene.binder.tried == []
        assert scene.store.records["pump"].told is None

    asyncio.run(scenario())
