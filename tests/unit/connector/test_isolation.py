"""The reading that ends its connector is found, held, and keeps no other from being delivered."""

# ruff: noqa: D102 - the methods of stand-ins are those of what they stand for
from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lambdas.connector.deliver import Delivery
from lambdas.connector.stop import Stop, Stopped
from lambdas.connector.trials import Trial, Trials
from lambdas.shared.parcel import NewerParcel
from tests.aws_mock import HELD_TABLE, aws, create_held_table
from tests.unit.connector.fakes import (
    FakeBacklog,
    FakeHeld,
    FakeTransport,
    backlog_of,
    message,
    reading,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lambdas.connector.slot_queue import Message
    from lambdas.thingworx.infotable import ValueRow


class Death(BaseException):
    """The process ends: nothing of it runs any more."""


class FakeTrials:
    """Trials in memory that outlive a process; they fail while `broken`."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.writes = 0
        self.broken = False

    def begin(self, message_id: str) -> Trial:
        self._begin()
        before = self.trials.get(message_id, Trial(0, None, frozenset()))
        self.trials[message_id] = before._replace(tries=before.tries + 1)
        return self.trials[message_id]

    def at(self, message_id: str, reading_id: str | None) -> None:
        self._begin()
        self.trials[message_id] = self.trials[message_id]._replace(at=reading_id)

    def convict(self, message_id: str, convicted: Collection[str]) -> None:
        self._begin()
        convictions = frozenset(convicted)
        self.trials[message_id] = self.trials[message_id]._replace(convicted=convictions, at=None)

    def end(self, message_id: str) -> None:
        self._begin()
        self.trials.pop(message_id, None)

    def _begin(self) -> None:
        self.writes += 1
        if self.broken:
            raise refused("ThrottlingException")


class World:
    """What outlives a process; readings of a `deadly` time end one."""

    def __init__(self, *, deadly: Collection[int] = ()) -> None:
        self.deadly = deadly
        self.transport = FakeTransport(self._answer)
        self.held = FakeHeld()
        self.notes = FakeTrials()
        self.counters: dict[str, int] = {}

    def _answer(self, _: str, rows: Sequence[ValueRow]) -> None:
        if any(row.time in self.deadly for row in rows):
            raise Death

    async def receive(self, *messages: Message, stop: Stop | None = None) -> bool:
        """A process settles these messages; false when it died."""
        stop = stop or Stop()
        counters: Counter[str] = Counter()
        delivery = Delivery(
            self.transport,
            self.held,  # type: ignore[arg-type] # a stand-in
            stop=stop,
            owns=lambda: True,
            backlog=backlog_of(FakeBacklog(self.held), stop, 1),
            concurrency=4,
            thing_retry_seconds=1,
            counters=counters,
            notes=self.notes,
        )
        try:
            await delivery.settle(messages)
        except Death:
            return False
        finally:
            self.counters = dict(+counters)
        return True

    async def receive_until_settled(self, sent: Message) -> int:
        """As SQS gives a message to one process after another; how many died of it."""
        for receives in range(1, 30):
            if await self.receive(sent._replace(receives=receives)):
                return receives - 1
        raise AssertionError("it never was settled")


def test_the_reading_that_ends_the_process_is_held_and_all_others_are_delivered() -> None:
    world = World(deadly=[3])
    parcel = message("lane-0", *(reading("pump", at) for at in range(6)), reading("fan", 1))
    deaths = asyncio.run(world.receive_until_settled(parcel))
    assert deaths == 7, "five that prove nothing, one noted, one at the reading"
    assert [(entry.time, entry.state, entry.reason) for entry in world.held.held] == [
        (3, "rejected", "crashes")
    ]
    assert list(dict.fromkeys(world.transport.times("pump"))) == [0, 1, 2, 4, 5]
    assert world.transport.times("fan")
    assert not world.notes.trials, "and it is forgotten"


def test_several_such_readings_of_a_parcel_are_found_one_after_another() -> None:
    world = World(deadly=[1, 4])
    parcel = message("lane-0", *(reading("pump", at) for at in range(6)))
    asyncio.run(world.receive_until_settled(parcel))
    assert sorted(entry.time for entry in world.held.held) == [1, 4]
    assert list(dict.fromkeys(world.transport.times("pump"))) == [0, 2, 3, 5]
    counted = {name: number for name, number in world.counters.items() if not name.startswith("values")}
    assert counted == {"taken": 6, "delivered": 4, "duplicate": 1, "held_rejected": 1}


def test_a_reading_that_makes_settling_fail_is_found_without_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    timed = Delivery._timed

    def faulty(self: Delivery, thing: str, batch: list) -> list:  # type: ignore[type-arg]
        if any(entry.reading.time == 2 for entry in batch):
            raise ZeroDivisionError("a fault of the code")
        return timed(self, thing, batch)

    monkeypatch.setattr(Delivery, "_timed", faulty)
    parcel = message("lane-0", *(reading("pump", at) for at in range(4)))

    async def scenario() -> None:
        for receives in (1, 6):
            with pytest.raises(ZeroDivisionError):
                await world.receive(parcel._replace(receives=receives))
        assert await world.receive(parcel._replace(receives=7))

    asyncio.run(scenario())
    assert [(entry.time, entry.reason) for entry in world.held.held] == [(2, "crashes")]
    assert "ZeroDivisionError: a fault of the code" in world.held.held[0].detail
    assert world.transport.times("pump") == [0, 1, 3]


def test_a_parcel_that_came_often_for_no_fault_of_its_own_is_settled_as_any_other() -> None:
    world = World()
    parcel = message("lane-0", *(reading("pump", at) for at in range(50)))
    assert asyncio.run(world.receive(parcel._replace(receives=40)))
    assert len(world.transport.accepted) == 1, "in one call"
    assert (world.notes.writes, world.notes.trials) == (2, {})


def test_parcels_that_came_seldom_cost_no_note() -> None:
    world = World()
    assert asyncio.run(world.receive(message("lane-0", reading("pump", 1))._replace(receives=5)))
    assert not world.notes.writes


def test_messages_of_a_lane_stay_in_order_when_one_of_them_is_suspicious() -> None:
    world = World()
    first, second, third = (message("lane-0", reading("pump", at)) for at in (1, 2, 3))
    asyncio.run(world.receive(first, second._replace(receives=9), third))
    assert world.transport.times("pump") == [1, 2, 3]


def test_a_connector_that_stops_in_good_order_convicts_nobody() -> None:
    async def scenario(tries: int) -> None:
        world = World()
        world.notes.trials["m"] = Trial(tries, None, frozenset())
        stop = Stop()

        def answer(*_: object) -> None:
            stop.abandon()
            raise Stopped

        world.transport._answer = answer
        parcel = message("lane-0", reading("pump", 1), message_id="m")._replace(receives=6)
        with pytest.raises(Stopped):
            await world.receive(parcel, stop=stop)
        assert all(trial.at is None for trial in world.notes.trials.values())
        world.transport._answer = None
        assert await world.receive(parcel)
        assert not world.held.held
        assert world.transport.times("pump") == [1]

    for tries in (0, 1):
        asyncio.run(scenario(tries))


def test_a_parcel_of_a_later_release_is_never_taken_apart() -> None:
    world = World()
    later = message("lane-0", reading("pump", 1))
    later = later._replace(body=later.body.replace('"v":1', '"v":99'))

    async def scenario() -> None:
        for receives in (6, 7, 8, 9):
            with pytest.raises(NewerParcel):
                await world.receive(later._replace(receives=receives))

    asyncio.run(scenario())
    assert not world.held.held


def test_a_suspicious_parcel_is_delivered_though_nothing_can_be_noted() -> None:
    world = World()
    world.notes.broken = True
    assert asyncio.run(world.receive(message("lane-0", reading("pump", 1))._replace(receives=9)))
    assert world.transport.times("pump") == [1]


def test_one_parcel_at_a_time_is_taken_apart() -> None:
    async def scenario() -> None:
        under_way, most = [0], [0]

        async def wait() -> None:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            await asyncio.sleep(0.002)
            under_way[0] -= 1

        world.transport._answer = lambda *_: wait()
        parcels = [
            message(f"lane-{lane}", *(reading(f"t-{lane}", at) for at in range(3)))._replace(receives=6)
            for lane in range(3)
        ]
        for parcel in parcels:
            world.notes.trials[parcel.id] = Trial(1, None, frozenset())
        stop = Stop()
        delivery = Delivery(
            world.transport,
            world.held,  # type: ignore[arg-type] # a stand-in
            stop=stop,
            owns=lambda: True,
            backlog=backlog_of(FakeBacklog(world.held), stop, 1),
            concurrency=9,
            thing_retry_seconds=1,
            counters=Counter(),
            notes=world.notes,
        )
        await asyncio.gather(*(delivery.settle([parcel]) for parcel in parcels))
        assert most[0] == 1

    world = World()
    asyncio.run(scenario())
    assert len(world.transport.accepted) == 9


def test_notes_outlive_their_writer_and_are_forgotten_in_the_end() -> None:
    with aws():
        client = create_held_table()
        notes = Trials(client, HELD_TABLE, "1")
        assert notes.begin("m") == Trial(1, None, frozenset())
        notes.at("m", "0:7:0")
        assert Trials(client, HELD_TABLE, "1").begin("m") == Trial(2, "0:7:0", frozenset())
        notes.convict("m", ["0:7:0", "0:9:0"])
        assert notes.begin("m") == Trial(3, None, frozenset({"0:7:0", "0:9:0"}))
        notes.at("m", "0:8:0")
        notes.at("m", None)
        assert notes.begin("m").at is None
        (item,) = client.scan(TableName=HELD_TABLE)["Items"]
        assert "expires" in item
        assert Trials(client, HELD_TABLE, "2").begin("m").tries == 1
        notes.end("m")
        notes.end("m")
        assert notes.begin("m").tries == 1
