"""Things that ThingWorx refuses for a while: parked, and caught up in order once they are accepted again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.connector import handler
from lambdas.connector.backlog_store import BacklogStore
from lambdas.shared.backlog_markers import marked_things
from lambdas.shared.errors import Conflict
from lambdas.shared.held_items import HeldItems
from lambdas.shared.parcel import Reading, encode, lane_of
from lambdas.shared.shape import Property
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import (
    HELD_TABLE,
    LANES,
    THINGS,
    World,
    connector_world,
    end,
    issue_certificate,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = THINGS[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def world(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with connector_world(certificate, monkeypatch) as made:
        yield made


def parked(world: World) -> list[int]:
    page = HeldItems(HELD_TABLE, world.dynamodb, threads=1).page("parked", REFUSED, 1000)
    return [item.reading.time for item in page.items]


def marked(world: World) -> dict[str, str]:
    return marked_things(world.dynamodb, CONTROL_TABLE, "1")


def test_a_refused_thing_delays_nobody_keeps_its_order_and_catches_up_by_itself(world: World) -> None:
    world.assign(REFUSED)
    world.server.platform.invisible.add(REFUSED)
    running = world.start("t1")
    for at in (1, 2, 3):
        world.send([at])
        until(lambda at=at: all(world.times(thing)[-1:] == [at] for thing in THINGS[1:]))  # type: ignore[misc]
    until(lambda: parked(world) == [1, 2, 3])
    assert marked(world) == {REFUSED: "not_bound"}
    assert world.times(REFUSED) == []

    world.server.platform.invisible.discard(REFUSED)
    until(lambda: world.times(REFUSED) == [1, 2, 3])
    until(lambda: not marked(world))
    world.send([4])
    until(lambda: world.times(REFUSED) == [1, 2, 3, 4])
    assert parked(world) == []
    until(lambda: world.left() == (0, 0))
    end(world, running, "t1")


def send(world: World, at: int, name: str) -> None:
    """Put a reading of one property into the slot's queue, as the router does."""
    shapes = {"s": {name: Property("NUMBER", name)}}
    world.sqs.send_message(
        QueueUrl=world.queues["1"],
        MessageBody=encode([Reading(REFUSED, at, f"0:{at}", "s", {name: 1.0 * at})], shapes).decode(),
        MessageGroupId=f"lane-{lane_of(REFUSED, LANES)}",
    )


@pytest.mark.parametrize("delivery", ["alwayson", "rest"])
def test_readings_that_the_platform_refuses_for_ever_hold_up_none_of_their_thing(
    world: World, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    """One value is answered with 500 over AlwaysOn; over REST its property is gone, and some come twice."""

    def arrived() -> list[int]:
        return list(dict.fromkeys(world.times(REFUSED)))

    monkeypatch.setenv("DELIVERY", delivery)
    handler._settings.cache_clear()
    world.assign(REFUSED)
    platform = world.server.platform
    platform.settings.unknown_edge_name = "fail"
    if delivery == "alwayson":
        platform.define(platform.things[REFUSED], remote_property("Old"))
        world.server.faults.add(protocol="alwayson", thing=REFUSED, row="Old", status=500)
    running = world.start("t1")
    send(world, 1, "Temp")
    until(lambda: arrived() == [1])
    send(world, 2, "Old")
    until(lambda: parked(world) == [2])
    for at, name in enumerate(["Old", "Temp", "Old", "Temp", "Temp"], start=3):
        send(world, at, name)
    until(lambda: arrived() == [1, 4, 6, 7])
    until(lambda: not marked(world))
    send(world, 8, "Temp")
    until(lambda: arrived() == [1, 4, 6, 7, 8])
    until(lambda: world.left() == (0, 0))
    assert parked(world) == []
    rejected = HeldItems(HELD_TABLE, world.dynamodb, threads=1).page("rejected", REFUSED, 1000).items
    assert [item.reading.time for item in rejected] == [2, 3, 5]
    assert rejected[0].reading.reason == "write_failed"
    end(world, running, "t1")


def test_a_successor_goes_on_with_the_backlog_before_it_delivers_what_is_newer(world: World) -> None:
    world.assign(REFUSED)
    world.server.platform.invisible.add(REFUSED)
    running = world.start("t1")
    world.send([1, 2], things=[REFUSED])
    until(lambda: parked(world) == [1, 2])
    end(world, running, "t1")

    world.send([3, 4], things=[REFUSED])
    world.set_state("1", "active")
    world.server.platform.invisible.discard(REFUSED)
    running = world.start("t2")
    until(lambda: world.times(REFUSED) == [1, 2, 3, 4])
    until(lambda: not marked(world))
    end(world, running, "t2")
    assert parked(world) == []


def test_only_who_wrote_a_marker_last_can_remove_it(world: World) -> None:
    """So a connector that lost its slot can't remove what its successor relies on."""

    def store(owner: str) -> BacklogStore:
        return BacklogStore(
            world.dynamodb, control_table=CONTROL_TABLE, held_table=HELD_TABLE, slot="1", owner=owner
        )

    store("old").mark("pump", "not_bound")
    store("new").mark("pump", "write_failed")
    with pytest.raises(Conflict):
        store("old").unmark("pump")
    assert store("old").things() == {"pump": "write_failed"}
    store("new").unmark("pump")
    assert store("new").things() == {}
    store("old").unmark("pump")  # there is nothing to remove
