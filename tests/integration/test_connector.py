"""The connector function as AWS calls it: AWS in memory, the simulated platform over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector import handler
from lambdas.connector.lease import Taken
from lambdas.connector.token import TaskToken
from lambdas.shared.errors import ConnectorError, SettingError
from lambdas.shared.parcel import Reading, encode, lane_of
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import (
    HELD_TABLE,
    LANES,
    SHAPES,
    THINGS,
    Context,
    World,
    connector_world,
    end,
    event_of,
    issue_certificate,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = "UpdateSubscribedPropertyValues"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["alwayson", "rest"])
def delivery(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(certificate: Path, delivery: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with connector_world(certificate, monkeypatch, DELIVERY=delivery) as world:
        yield world


def test_parcels_arrive_with_value_time_and_quality_and_are_then_deleted(world: World) -> None:
    world.send([1000, 2000])
    running = world.start("t")
    until(lambda: world.left() == (0, 0))
    for thing in THINGS:
        assert [
            (entry.property, entry.value, entry.time, entry.quality) for entry in world.written(thing)
        ] == [
            ("Temp", 1000.0, 1000, "GOOD"),
            ("Temp", 2000.0, 2000, "GOOD"),
        ]
    assert world.item("1")["owner"]["S"].startswith("1-1-0/0/request-t/")
    end(world, running, "t")
    assert world.states.beats["t"] > 1


def test_a_message_is_deleted_only_after_the_platform_has_answered(world: World) -> None:
    slow = world.server.faults.add(service=SERVICE, delay_ms=500, times=1)
    world.send([1000], things=THINGS[:1])
    running = world.start("t")
    until(lambda: slow.hits == 1)
    assert world.left() == (0, 1)
    assert not world.written(THINGS[0])
    until(lambda: world.left() == (0, 0))
    assert world.times(THINGS[0]) == [1000]
    lost = world.server.faults.add(service=SERVICE, drop=True, times=1)
    world.send([2000], things=THINGS[:1])
    until(lambda: lost.hits == 1)
    until(lambda: world.left() == (0, 0))
    assert world.times(THINGS[0]) == [1000, 2000]
    end(world, running, "t")


def test_a_thing_the_platform_does_not_know_is_held_and_its_neighbours_go_on(
    world: World, delivery: str
) -> None:
    world.send([1000], things=["unknown", *THINGS])
    running = world.start("t")
    until(lambda: world.left() == (0, 0))
    (held,) = world.dynamodb.query(
        TableName=HELD_TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "parked#unknown"}},
    )["Items"]
    # A refused BIND doesn't say whether a Thing is missing or only invisible to the key.
    assert held["reason"]["S"] == {"rest": "thing_not_found", "alwayson": "not_bound"}[delivery]
    assert held["values"]["S"] == '{"temp":1000.0}'
    assert all(world.times(thing) == [1000] for thing in THINGS)
    end(world, running, "t")


def test_a_hand_over_under_load_loses_repeats_and_reorders_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOVER_BEFORE_END_SECONDS", "3")
    handler._settings.cache_clear()
    stop, sent = threading.Event(), itertools.count(1)
    last = [0]

    def produce() -> None:
        while not stop.is_set():
            last[0] = next(sent)
            world.send([last[0]])
            stop.wait(0.15)

    producing = threading.Thread(target=produce)
    producing.start()
    try:
        first = world.start("first", seconds=4)
        until(lambda: "first" in world.states.answers)
        assert '"next":"handover"' in world.states.answers["first"]
        second = world.start("second")
        first.wait()
        until(lambda: "request-second" in world.item("1").get("owner", {}).get("S", ""))
        after = last[0] + 3
        until(lambda: all(after in world.times(thing) for thing in THINGS))
    finally:
        stop.set()
        producing.join(10)
    until(lambda: world.left() == (0, 0))
    end(world, second, "second")
    for thing in THINGS:
        assert world.times(thing) == list(range(1, last[0] + 1))


def test_a_successor_goes_on_in_the_second_in_which_its_predecessor_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOVER_BEFORE_END_SECONDS", "3")
    handler._settings.cache_clear()
    thing, second = THINGS[0], 1_700_000_000_000

    def send(*values: float) -> None:
        readings = [Reading(thing, second, f"0:{value}:0", "s", {"temp": value}) for value in values]
        world.sqs.send_message(
            QueueUrl=world.queues["1"],
            MessageBody=encode(readings, SHAPES).decode(),
            MessageGroupId=f"lane-{lane_of(thing, LANES)}",
        )

    first = world.start("first", seconds=4)
    send(1.0, 2.0, 3.0)
    until(lambda: len(world.written(thing)) == 3)
    until(lambda: "first" in world.states.answers)
    second_connector = world.start("second")
    first.wait()
    send(4.0, 5.0)
    until(lambda: len(world.written(thing)) == 5)
    until(lambda: world.left() == (0, 0))
    stored = [(entry.time - second, entry.value) for entry in world.written(thing)]
    assert stored == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0)]
    end(world, second_connector, "second")


def test_after_a_connector_that_was_cancelled_the_next_delivers_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIBILITY_SECONDS", "2")  # how long the messages at work stay away
    handler._settings.cache_clear()
    cancelled = threading.Event()

    async def cut_short() -> None:
        token = TaskToken(handler._clients().stepfunctions, "first")
        context = Context("request-first", time.monotonic() + 60)
        connector = handler._connector(event_of("first"), context, token)  # type: ignore[arg-type]
        task = asyncio.get_running_loop().create_task(connector.run())
        await asyncio.to_thread(until, lambda: len(world.times(THINGS[0])) >= 20)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        cancelled.set()

    for at in range(1, 61):
        world.send([at], things=THINGS[:2])
    asyncio.run(cut_short())
    assert cancelled.is_set()
    assert sum(world.left()) > 0
    assert "owner" not in world.item("1")
    second = world.start("second")
    until(lambda: world.left() == (0, 0))
    end(world, second, "second")
    for thing in THINGS[:2]:
        # Not in order here: when several messages of a group become visible again together, the
        # emulation hands out the last of them first. SQS starts with the first.
        assert sorted(set(world.times(thing))) == list(range(1, 61))


def test_after_a_connector_that_died_the_next_waits_for_its_lease_and_delivers_everything(
    world: World,
) -> None:
    """Dead: its lease runs on, what it received is hidden, part of it was delivered."""
    world.send([1, 2, 3])
    died = world.sqs.receive_message(
        QueueUrl=world.queues["1"], MaxNumberOfMessages=10, VisibilityTimeout=2, AttributeNames=["All"]
    )["Messages"]
    assert died
    world.send([4])
    lease_end = int(time.time() * 1000) + 1000
    world.dynamodb.update_item(
        TableName=CONTROL_TABLE,
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="SET #owner = :dead, #until = :until",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
        ExpressionAttributeValues={":dead": {"S": "1-1-0/0/dead"}, ":until": {"N": str(lease_end)}},
    )
    running = world.start("t")
    until(lambda: world.left() == (0, 0))
    assert min(entry.received for thing in THINGS for entry in world.written(thing)) >= lease_end
    for thing in THINGS:
        assert world.times(thing) == [1, 2, 3, 4]
    end(world, running, "t")


def test_one_process_serves_one_slot_after_the_other_with_nothing_left_of_the_first(world: World) -> None:
    before = set(threading.enumerate())
    for slot in ("1", "2"):
        world.send([int(slot)], slot=slot)
        running = world.start(f"slot-{slot}", slot=slot)
        until(lambda slot=slot: world.left(slot) == (0, 0))  # type: ignore[misc]
        end(world, running, f"slot-{slot}", slot)
        left = {thread for thread in set(threading.enumerate()) - before if "simulator" not in thread.name}
        assert not left
    beats = dict(world.states.beats)
    world.send([3], slot="1")
    assert world.left("1")[0] > 0
    assert world.states.beats == beats
    assert all(world.times(thing) == [1, 2] for thing in THINGS)


def test_an_event_that_came_twice_is_served_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_SECONDS", "20")  # on a slow machine too, the one that has it keeps it
    handler._settings.cache_clear()
    world.send([1])
    first, second = world.start("t"), world.start("t")
    until(lambda: world.left() == (0, 0))
    world.send([2])
    until(lambda: world.left() == (0, 0))
    world.set_state("1", "stopping")
    first.wait()
    second.wait()
    for thing in THINGS:
        assert world.times(thing) == [1, 2]


def test_two_invocations_of_one_event_never_share_a_lease(world: World) -> None:
    context = Context("the same request", time.monotonic() + 60)
    token = TaskToken(handler._clients().stepfunctions, "t")
    one, other = (
        handler._connector(event_of("t"), context, token)._life.parts.lease  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert one.acquire() is Taken.HELD
    assert other.acquire() is Taken.TWIN
    assert not other.valid()


def test_an_event_that_comes_too_late_ends_at_once(world: World) -> None:
    world.send([1])
    world.states.closed.add("late")
    world.start("late").wait()
    assert world.left()[1] == 0
    assert "owner" not in world.item("1")


@pytest.mark.parametrize(
    "event",
    [
        {},
        event_of("t") | {"v": 2},
        event_of("t") | {"epoch": "1"},
        {name: value for name, value in event_of("t").items() if name != "token"},
    ],
)
def test_an_event_of_another_form_is_refused(world: World, event: dict[str, Any]) -> None:
    with pytest.raises(ConnectorError):
        handler.handle(event, Context("r", 0))  # type: ignore[arg-type]


def test_a_missing_setting_is_told_to_the_state_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTROL_TABLE")
    handler._settings.cache_clear()
    with pytest.raises(SettingError):
        handler.handle(event_of("t"), Context("r", time.monotonic() + 60))  # type: ignore[arg-type]
    assert "CONTROL_TABLE" in world.states.answers["t"]


def test_a_missing_setting_is_named_even_when_nobody_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTROL_TABLE")
    handler._settings.cache_clear()
    world.states.closed.add("t")
    with pytest.raises(SettingError):
        handler.handle(event_of("t"), Context("r", time.monotonic() + 60))  # type: ignore[arg-type]
