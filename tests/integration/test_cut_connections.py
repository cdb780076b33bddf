"""The platform cut off at any message between connect and push: nothing is lost, nothing reordered.

The connector function as AWS calls it, over AlwaysOn. For each kind of message its connection breaks in
every way there is while readings wait in the queue and more arrive.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector import gate
from lambdas.shared.errors import ThingworxError
from sandbox.thingworx.model import remote_property
from tests.integration.connector_world import (
    HELD_TABLE,
    THINGS,
    World,
    connector_world,
    end,
    issue_certificate,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PUSH = "UpdateSubscribedPropertyValues"
#: Short, but longer than a busy machine may stand still; the platform's own patience is longer than both.
TIMEOUTS = {
    "connect": 0.8,
    "sync": 2.0,
    "conflict_first": 0.1,
    "retry_first": 0.1,
    "retry_most": 0.3,
    "ping": 0.2,
    "pong": 0.5,
    "close": 0.1,
}
IDLE_SECONDS = 0.8

#: Ways to break at a message: before it has any effect, after it took effect but before its answer is
#: complete, and half open, when nothing says that the connection is gone.
BEFORE: dict[str, Any] = {"drop": True}
UNANSWERED: dict[str, Any] = {"drop": True, "when": "after"}
MID_FRAME: dict[str, Any] = {"cut": True, "when": "after"}
HALF_OPEN: dict[str, Any] = {"freeze": True}
HALF_OPEN_UNANSWERED: dict[str, Any] = {"freeze": True, "when": "after"}
ANSWERED: dict[str, Any] = {"drop": True, "when": "answered"}
IN = [BEFORE, UNANSWERED, MID_FRAME, HALF_OPEN]
PUSH_WAYS = [*IN, HALF_OPEN_UNANSWERED, ANSWERED]
#: A platform that takes its time to synchronise loses what is pushed meanwhile.
SLOW: dict[str, Any] = {"delay_ms": 400}
OUT = [BEFORE, ANSWERED, {"cut": True}, HALF_OPEN, SLOW]

#: Kind of message -> which requests, synchronisation, ways to break; the connection before it is dropped.
SESSION: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    "UPGRADE": ({"method": "UPGRADE"}, "current", [BEFORE, HALF_OPEN]),
    "AUTH": ({"method": "AUTH"}, "current", IN),
    "BIND": ({"method": "BIND", "thing": THINGS[2]}, "current", [*IN, HALF_OPEN_UNANSWERED]),
    "GetMetadata": ({"direction": "out", "service": "GetMetadata"}, "current", OUT),
    "SynchronizeModelState": ({"direction": "out", "service": "SynchronizeModelState"}, "current", OUT),
    "NotifyPropertyUpdate": ({"direction": "out", "service": "NotifyPropertyUpdate"}, "legacy", OUT),
    "GetPropertySubscriptions": ({"service": "GetPropertySubscriptions"}, "legacy", IN),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    certificate = issue_certificate(tmp_path_factory.mktemp("certificates"))
    settings = {
        "DELIVERY": "alwayson",
        "ALWAYSON_TIMEOUTS": json.dumps(TIMEOUTS),
        "THING_RETRY_SECONDS": "20",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "_FIRST_SECONDS", 0.05)
        patch.setattr(gate, "_MOST_SECONDS", 0.2)
        with connector_world(certificate, patch, **settings) as world:
            world.server.platform.settings.change({"idle_seconds": IDLE_SECONDS})
            yield world


@pytest.fixture(scope="module")
def traffic(world: World) -> Iterator[Traffic]:
    """Traffic of slot 1, and a connector that serves it."""
    world.assign(*THINGS)
    traffic = Traffic(world, "1", THINGS)
    # One connector for all of this file's faults, however slow the machine is.
    running = world.start("t", seconds=900)
    yield traffic
    end(world, running, "t")


class Traffic:
    """Readings of all Things with ever later times, and what must have become of them."""

    def __init__(self, world: World, slot: str, things: list[str]) -> None:
        self._world = world
        self._slot = slot
        self._things = things
        self._clock = itertools.count(1)
        self._checked: set[int] = set()
        self.sent: list[int] = []

    def send(self, readings: int = 2) -> None:
        """So many readings of each Thing, a parcel each."""
        for at in itertools.islice(self._clock, readings):
            self._world.send([at], slot=self._slot, things=self._things)
            self.sent.append(at)

    def all_arrived(self, *, repeats: bool = False) -> None:
        """Check queue, held store, order of arrival, history and current values of all Things.

        Args:
            repeats: readings sent since the last check may have arrived more than once.
        """
        world = self._world
        until(lambda: world.left(self._slot) == (0, 0))
        assert world.dynamodb.scan(TableName=HELD_TABLE)["Count"] == 0
        assert world.server.alwayson.counters.counts["lost_rows"] == 0
        for name in self._things:
            times = world.times(name)
            assert list(dict.fromkeys(times)) == self.sent
            new = [at for at in times if at not in self._checked]
            assert repeats or len(new) == len(set(new))
            assert all(entry.value == float(entry.time) for entry in world.written(name))
            thing = world.server.platform.thing(name)
            assert thing.values["Temp"].time == self.sent[-1]
            assert thing.values["Temp"].value == float(self.sent[-1])
            assert thing.history is not None
            assert [vtq.time for vtq in thing.history.of("Temp")] == self.sent
        self._checked.update(self.sent)


def test_connectors_that_are_cut_off_at_their_start_leave_everything_to_the_next(world: World) -> None:
    things = ["valve-0", "valve-1", "valve-2"]
    for thing in things:
        world.server.platform.add_thing(thing, properties=[remote_property("Temp")])
    traffic = Traffic(world, "2", things)
    faults = [(kind, way) for kind in ("UPGRADE", "AUTH") for way in SESSION[kind][2]]
    for turn, (kind, way) in enumerate(faults):
        traffic.send(1)
        rule = world.server.faults.add(**SESSION[kind][0], **way, times=1)
        running = world.start(f"cut-{turn}", slot="2")
        with pytest.raises(ThingworxError):
            running.wait()
        assert rule.hits == 1
        assert world.states.answers[f"cut-{turn}"].startswith("Thingworx")
    running = world.start("last", slot="2")
    traffic.all_arrived()
    end(world, running, "last", slot="2")


@pytest.mark.parametrize("kind", SESSION)
def test_a_connection_cut_before_it_is_ready_loses_repeats_and_reorders_nothing(
    world: World, traffic: Traffic, kind: str
) -> None:
    which, mode, ways = SESSION[kind]
    world.server.platform.settings.change({"sync_mode": mode})
    traffic.send()
    traffic.all_arrived()
    for turn, way in enumerate(ways):
        # One UPGRADE, AUTH and BIND a connection, one of the others a Thing: the first, the third, ...
        skip = 0 if kind in ("UPGRADE", "AUTH", "BIND") else 2 * turn % len(THINGS)
        rule = world.server.faults.add(**which, **way, skip=skip, times=1)
        world.server.alwayson.act("drop")
        traffic.send()
        until(lambda rule=rule: rule.hits == 1)  # type: ignore[misc]
        traffic.send()
        traffic.all_arrived()


def test_a_connection_cut_at_a_push_loses_and_reorders_nothing(world: World, traffic: Traffic) -> None:
    traffic.send()
    traffic.all_arrived()
    for skip, way in zip((0, 3, 1, 4, 0, 2), PUSH_WAYS, strict=True):
        rule = world.server.faults.add(service=PUSH, **way, skip=skip, times=1)
        traffic.send()
        until(lambda rule=rule: rule.hits == 1)  # type: ignore[misc]
        traffic.send()
        # Answers on their way to other Things are lost with the connection too, so repeats may be theirs.
        traffic.all_arrived(repeats=True)
