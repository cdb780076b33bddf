"""What ThingWorx shows as connected follows the devices, over all connectors of a slot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lambdas.connector import assigned, presence, present_things
from lambdas.shared.parcel import PresenceChange, Reading, encode, lane_of
from lambdas.shared.shape import Property
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import (
    LANES,
    SHAPES,
    THINGS,
    World,
    connector_world,
    end,
    issue_certificate,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PUMP, FAN = THINGS[:2]
NOW = int(time.time() * 1000)


@pytest.fixture
def open_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Opens a world with a connector function of these settings."""
    monkeypatch.setattr(assigned, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(present_things, "_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(present_things, "_SAVE_SECONDS", 0.1)
    worlds = []

    def opened(**environ: str) -> World:
        settings = {"DELIVERY": "alwayson", "UNBIND_DELAY_SECONDS": "0.3"} | environ
        worlds.append(connector_world(issue_certificate(tmp_path), monkeypatch, **settings))
        world = worlds[-1].__enter__()
        world.assign(*THINGS[:4])
        return world

    yield opened
    for world in worlds:
        world.__exit__(None, None, None)


def came(thing: str, version: int, at: int = NOW) -> PresenceChange:
    return PresenceChange(thing, True, at, version, thing, f"0:{at}:{version}")  # noqa: FBT003 - in order


def went(thing: str, version: int, at: int = NOW) -> PresenceChange:
    return PresenceChange(thing, False, at, version, thing, f"1:{at}:{version}")  # noqa: FBT003 - in order


def shown(world: World) -> set[str]:
    """Things that ThingWorx shows as connected."""
    things = world.server.platform.things
    return {
        name for name in THINGS if (state := things[name].values.get("isConnected")) and state.value is True
    }


def changes(world: World, thing: str) -> list[bool]:
    """How what ThingWorx shows of a Thing has changed."""
    return [change.connected for change in world.server.platform.transitions if change.thing == thing]


def settled(world: World) -> bool:
    """Whether nothing is left in the queue."""
    return world.left() == (0, 0)


def test_a_thing_is_shown_as_connected_while_its_device_is(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    until(lambda: shown(world) == {PUMP})
    world.send_presence(went(PUMP, 1, NOW + 1))
    until(lambda: shown(world) == set())
    assert changes(world, PUMP) == [True, False]
    assert settled(world)
    end(world, running, "t")


def test_stale_duplicate_and_reordered_events_change_nothing(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    world.send_presence(went(FAN, 7, NOW + 9), came(FAN, 7))
    world.send_presence(came(PUMP, 3, NOW), came(PUMP, 2, NOW - 500), went(PUMP, 2, NOW - 400))
    world.send_presence(came(PUMP, 3, NOW), went(PUMP, 2, NOW - 300))
    until(lambda: settled(world))
    until(lambda: shown(world) == {PUMP})
    # A later event of another Thing has taken its whole way, delay included.
    world.send_presence(came(FAN, 8, NOW + 20))
    until(lambda: shown(world) == {PUMP, FAN})
    world.send_presence(went(FAN, 8, NOW + 30))
    until(lambda: shown(world) == {PUMP})
    assert changes(world, PUMP) == [True]
    assert changes(world, FAN) == [True, False]
    end(world, running, "t")


def test_a_device_that_is_back_soon_was_never_shown_as_away(open_world: Callable[..., World]) -> None:
    world = open_world(UNBIND_DELAY_SECONDS="5")
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    until(lambda: shown(world) == {PUMP})
    world.send_presence(went(PUMP, 1, NOW + 1000), came(PUMP, 2, NOW + 2000))
    until(lambda: settled(world))
    end(world, running, "t")
    assert changes(world, PUMP) == [True, False]  # the connector's own end


def test_a_last_will_is_delivered_and_a_later_reading_connects(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    until(lambda: shown(world) == {PUMP})
    world.send_presence(went(PUMP, 1, NOW + 1000))
    until(lambda: changes(world, PUMP) == [True, False])
    world.send([NOW + 1005], things=[PUMP])
    until(lambda: world.times(PUMP) == [NOW + 1005])
    until(lambda: shown(world) == set())
    world.send([NOW + 5000], things=[PUMP])
    until(lambda: world.times(PUMP) == [NOW + 1005, NOW + 5000])
    until(lambda: shown(world) == {PUMP})
    end(world, running, "t")


@pytest.mark.parametrize("off", [3_600_000, 30_000, -3_600_000])
def test_only_the_brokers_clock_tells_whether_a_device_spoke_after_it_left(
    open_world: Callable[..., World], off: int
) -> None:
    def tell(at: int) -> None:
        reading = Reading(PUMP, at + off, f"0:{at}:0", "s", {"temp": float(at)}, broker_time=at)
        world.sqs.send_message(
            QueueUrl=world.queues["1"],
            MessageBody=encode([reading], SHAPES).decode(),
            MessageGroupId=f"lane-{lane_of(PUMP, LANES)}",
        )

    world = open_world()
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    tell(NOW + 500)
    until(lambda: world.times(PUMP) == [NOW + 500 + off] and shown(world) == {PUMP})
    world.send_presence(went(PUMP, 1, NOW + 1000))
    until(lambda: changes(world, PUMP) == [True, False])
    tell(NOW + 1005)
    until(lambda: len(world.times(PUMP)) == 2 and shown(world) == set())
    tell(NOW + 5000)
    until(lambda: len(world.times(PUMP)) == 3 and shown(world) == {PUMP})
    until(lambda: settled(world))
    end(world, running, "t")
    # Delivering the late one showed it for a moment, the last one until the connector's own end.
    assert changes(world, PUMP) == [True, False, True, False, True, False]


def test_a_device_connected_before_discovery_and_silent_shows_up(open_world: Callable[..., World]) -> None:
    world = open_world()
    world.broker.clients[PUMP] = {"connected": True, "connectedSince": NOW - 86_400_000}
    world.broker.clients[FAN] = {"connected": False, "disconnectedSince": NOW - 60_000}
    running = world.start("t")
    until(lambda: shown(world) == {PUMP})
    until(lambda: set(world.broker.asked) == set(THINGS[:4]))
    world.assign(THINGS[4])
    world.broker.clients[THINGS[4]] = {"connected": True, "connectedSince": NOW}
    until(lambda: shown(world) == {PUMP, THINGS[4]})
    end(world, running, "t")
    assert sorted(world.broker.asked) == sorted(THINGS[:5])


def test_an_event_is_stored_before_its_message_is_deleted(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    world.send_presence(came(PUMP, 5))
    until(lambda: settled(world))
    item = world.dynamodb.get_item(
        TableName=CONTROL_TABLE, Key={"pk": {"S": "presence#1"}, "sk": {"S": PUMP}}, ConsistentRead=True
    )["Item"]
    assert (item["connected"], item["version"]) == ({"BOOL": True}, {"N": "5"})
    end(world, running, "t")


def test_the_next_connector_shows_the_same_things_without_asking_anybody(
    open_world: Callable[..., World],
) -> None:
    world = open_world()
    running = world.start("first")
    world.send_presence(came(PUMP, 5), went(FAN, 1, NOW + 1), came(THINGS[2], 1))
    until(lambda: shown(world) == {PUMP, THINGS[2]})
    until(lambda: THINGS[3] in world.broker.asked)
    end(world, running, "first")
    assert shown(world) == set()
    asked = len(world.broker.asked)
    world.set_state("1", "active")
    running = world.start("second")
    until(lambda: shown(world) == {PUMP, THINGS[2]})
    world.send_presence(went(PUMP, 4, NOW + 3), went(THINGS[2], 1, NOW + 5))
    until(lambda: shown(world) == {PUMP})
    end(world, running, "second")
    assert len(world.broker.asked) == asked
    assert changes(world, FAN) == []


def test_a_hand_over_keeps_present_things_connected_and_absent_ones_away(
    open_world: Callable[..., World],
) -> None:
    world = open_world(LEASE_SECONDS="6", HANDOVER_BEFORE_END_SECONDS="28")
    world.server.platform.settings.change({"bind_protection": "last-in-wins"})
    first = world.start("first", seconds=30)
    world.send_presence(came(PUMP, 5), came(FAN, 1))
    until(lambda: shown(world) == {PUMP, FAN})
    world.send_presence(went(FAN, 1, NOW + 1))
    until(lambda: shown(world) == {PUMP})
    until(lambda: "first" in world.states.answers)
    second = world.start("second")
    world.send_presence(came(THINGS[2], 1))
    first.wait()
    until(lambda: shown(world) == {PUMP, THINGS[2]})
    assert changes(world, PUMP) == changes(world, THINGS[2]) == [True]
    assert changes(world, FAN) == [True, False]
    world.send_presence(went(PUMP, 5, NOW + 2))
    until(lambda: shown(world) == {THINGS[2]})
    end(world, second, "second")


def test_a_silent_thing_is_shown_as_away_until_its_next_reading(
    open_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_GRACE_MS", 0)
    world = open_world(PRESENCE_SILENCE_SECONDS="1")
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    until(lambda: changes(world, PUMP) == [True, False])
    world.send([NOW], things=[PUMP])
    until(lambda: changes(world, PUMP)[:3] == [True, False, True] and world.times(PUMP) == [NOW])
    end(world, running, "t")


def test_presence_is_written_to_the_property_of_things_that_have_it(
    open_world: Callable[..., World],
) -> None:
    world = open_world(PRESENCE_PROPERTY="online")
    world.table.put_shapes({"s": {"temp": SHAPES["s"]["temp"], "online": Property("BOOLEAN", "Online")}})
    world.server.platform.things[PUMP].own["Online"] = remote_property("Online", "BOOLEAN")
    running = world.start("t")
    # The fan's shape has the property, its binding hasn't.
    world.send_presence(came(PUMP, 1), came(FAN, 1))
    until(lambda: shown(world) == {PUMP, FAN})
    world.send_presence(went(PUMP, 1, NOW + 7), went(FAN, 1, NOW + 7))
    until(lambda: shown(world) == set())
    assert [(entry.value, entry.time) for entry in world.written(PUMP)] == [(True, NOW), (False, NOW + 7)]
    assert world.written(FAN) == []
    end(world, running, "t")


def test_readings_and_presence_of_one_parcel_are_both_settled(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    reading = Reading(PUMP, NOW, "0:1:0", "s", {"temp": 1.0})
    world.sqs.send_message(
        QueueUrl=world.queues["1"],
        MessageBody=encode([reading], SHAPES, [came(PUMP, 1)]).decode(),
        MessageGroupId=f"lane-{lane_of(PUMP, LANES)}",
    )
    until(lambda: world.times(PUMP) == [NOW] and shown(world) == {PUMP})
    until(lambda: settled(world))
    end(world, running, "t")


def test_an_event_of_a_thing_that_is_not_of_the_slot_is_harmless(open_world: Callable[..., World]) -> None:
    world = open_world()
    running = world.start("t")
    world.send_presence(came(THINGS[5], 1), came("nobody", 1), came(PUMP, 1))
    until(lambda: shown(world) == {PUMP})
    until(lambda: settled(world))
    end(world, running, "t")
    assert changes(world, THINGS[5]) == []


def test_rest_shows_nothing_and_settles_presence_all_the_same(
    open_world: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    world = open_world(DELIVERY="rest")
    running = world.start("t")
    world.send_presence(came(PUMP, 1))
    until(lambda: settled(world))
    end(world, running, "t")
    assert shown(world) == set()
    assert '"presence_ignored":1' in capsys.readouterr().out
