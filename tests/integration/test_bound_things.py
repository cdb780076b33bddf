"""A connector binds all Things of its slot, whether they have readings or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lambdas.connector import assigned
from lambdas.shared.run_lock import RunLock
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import THINGS, World, connector_world, end, issue_certificate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(assigned, "_LOOK_SECONDS", 0.1)
    with connector_world(
        issue_certificate(tmp_path), monkeypatch, DELIVERY="alwayson", BIND="always"
    ) as world:
        yield world


def test_things_without_readings_are_connected_and_follow_the_assignment(world: World) -> None:
    edges = world.server.platform.edges
    world.assign(*THINGS[:4])
    world.assign(THINGS[5], slot="2")
    running = world.start("t")
    until(lambda: set(edges) == set(THINGS[:4]))
    world.assign(THINGS[4])
    world.forget(THINGS[0])
    until(lambda: set(edges) == set(THINGS[1:5]))
    end(world, running, "t")
    until(lambda: not edges)


def test_a_thing_the_platform_refuses_is_counted_and_tried_again_after_discovery(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    edges = world.server.platform.edges
    world.server.platform.invisible.add(THINGS[2])
    world.assign(*THINGS[:5])
    world.send([1], things=[*THINGS[:2], *THINGS[3:5]])
    running = world.start("t")
    until(lambda: world.left() == (0, 0))
    assert all(world.times(thing) == [1] for thing in (*THINGS[:2], *THINGS[3:5]))
    assert set(edges) == {*THINGS[:2], *THINGS[3:5]}
    world.server.platform.invisible.clear()
    run = RunLock(CONTROL_TABLE, world.dynamodb)
    run.begin("run-2", 60_000, int(time.time() * 1000))
    run.end("run-2")
    until(lambda: set(edges) == set(THINGS[:5]))
    end(world, running, "t")
    assert '"alwayson_parked":1' in capsys.readouterr().out


def test_a_reading_binds_a_thing_that_is_not_assigned(world: World) -> None:
    world.send([1], things=THINGS[:1])
    running = world.start("t")
    until(lambda: world.times(THINGS[0]) == [1])
    assert set(world.server.platform.edges) == {THINGS[0]}
    end(world, running, "t")
