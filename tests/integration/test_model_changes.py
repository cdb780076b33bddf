"""A Thing's owner edits it in ThingWorx while a connector serves it: discovery is asked to read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.shared.wanted import WantedRuns
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import THINGS, World, connector_world, end, issue_certificate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with connector_world(
        issue_certificate(tmp_path), monkeypatch, DELIVERY="alwayson", BIND="always"
    ) as world:
        yield world


def test_only_the_thing_that_was_edited_is_asked_for(world: World) -> None:
    wanted = WantedRuns(CONTROL_TABLE, world.dynamodb)
    world.assign(*THINGS)
    world.send([1])
    running = world.start("t")
    until(lambda: all(world.times(thing) == [1] for thing in THINGS))
    assert wanted.read().seq == 0, "the synchronisation after the bind is no change"
    platform = world.server.platform
    platform.define(platform.thing(THINGS[2]), remote_property("Humidity"))
    until(lambda: wanted.read().wishes.things == {THINGS[2]})
    world.send([2])
    until(lambda: world.times(THINGS[2]) == [1, 2])
    end(world, running, "t")
    assert wanted.read().wishes.things == {THINGS[2]}
