"""A slot that goes from one connector function to the next, as the platform sees it."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import pytest
from botocore.exceptions import ClientError

from lambdas.connector import handler, lease, life, serve, successor
from lambdas.connector.handover import Patience
from lambdas.connector.timing import Timing, plan
from tests.integration.connector_world import THINGS, World, connector_world, end, issue_certificate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lambdas.connector.successor import Successor
    from lambdas.shared.settings import ConnectorSettings

#: Seconds of a connector that calls for a successor soon, and of one that doesn't.
LEAVES, STAYS = 30, 60


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def world(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    def soon(settings: ConnectorSettings, seconds_left: float, now: float) -> Timing:
        timing = plan(settings, seconds_left, now)
        return timing._replace(handover_at=now + 0.5) if seconds_left <= LEAVES else timing

    monkeypatch.setattr(serve, "plan", soon)
    with connector_world(certificate, monkeypatch, BIND="always", LEASE_SECONDS="6") as world:
        world.assign(*THINGS)
        yield world


class Load:
    """Readings of every Thing, while it lasts."""

    def __init__(self, world: World) -> None:
        self.last = 0
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _produce(self) -> None:
        for at in itertools.count(1):
            self._world.send([at])
            self.last = at
            if self._stop.wait(0.1):
                return


def transitions(world: World) -> Counter[tuple[str, bool]]:
    return Counter((entry.thing, entry.connected) for entry in world.server.platform.transitions)


def all_bound(world: World) -> bool:
    return set(world.server.platform.edges) == set(THINGS)


def owner(world: World) -> str:
    return str(world.item("1").get("owner", {}).get("S", ""))


def hand_over_under_load(world: World) -> Counter[tuple[str, bool]]:
    """From `first` to `second` to `third`, nothing lost, repeated or reordered; the transitions seen."""
    with Load(world) as load:
        running = [world.start("first", seconds=LEAVES)]
        until(lambda: all_bound(world))
        for token, before in (("second", "first"), ("third", "second")):
            until(lambda before=before: before in world.states.answers)  # type: ignore[misc]
            running.append(world.start(token, seconds=LEAVES if token == "second" else STAYS))
            until(lambda token=token: f"request-{token}" in owner(world))  # type: ignore[misc]
            after = load.last + 2
            until(lambda after=after: all(after in world.times(thing) for thing in THINGS))  # type: ignore[misc]
    until(lambda: world.left() == (0, 0))
    for connector in running[:2]:
        connector.wait()
    assert all_bound(world)
    for thing in THINGS:
        assert world.times(thing) == list(range(1, load.last + 1))
    assert not set(world.item("1")) & {"yielding", "successor", "leaving", "unbound", "rebound"}
    seen = transitions(world)
    end(world, running[2], "third")
    return seen


def test_where_the_last_bind_wins_things_stay_connected_from_connector_to_connector(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.platform.settings.change({"bind_protection": "last-in-wins"})
    assert hand_over_under_load(world) == Counter({(thing, True): 1 for thing in THINGS})
    out = capsys.readouterr().out
    assert '"handover_transitions"' not in out
    assert out.count('"handovers":1') == 2


@pytest.mark.parametrize("policy", ["all-or-nothing", "per-name"])
def test_where_the_first_bind_wins_each_thing_goes_off_and_on_once_a_hand_over(
    world: World, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.platform.settings.change({"bind_policy": policy})
    assert hand_over_under_load(world) == Counter(
        {(thing, True): 3 for thing in THINGS} | {(thing, False): 2 for thing in THINGS}
    )
    assert f'"handover_transitions":{2 * len(THINGS)}' in capsys.readouterr().out


def test_things_bound_by_identifier_and_refused_ones_change_hands_too(world: World) -> None:
    things = world.server.platform.things
    things[THINGS[0]].identifier = "SN-0"
    world.server.platform.invisible.add(THINGS[1])
    with Load(world) as load:
        first = world.start("first", seconds=LEAVES)
        bound = set(THINGS) - {THINGS[1]}
        until(lambda: set(world.server.platform.edges) == bound)
        until(lambda: "first" in world.states.answers)
        second = world.start("second")
        until(lambda: "request-second" in owner(world))
        until(lambda: set(world.server.platform.edges) == bound)
        after = load.last + 2
        until(lambda: all(after in world.times(thing) for thing in bound))
    first.wait()
    assert {count for (_, on), count in transitions(world).items() if not on} == {1}
    end(world, second, "second")


def test_a_successor_that_dies_while_it_takes_over_costs_nothing_but_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = threading.Event()
    monkeypatch.setattr(life, "Patience", lambda: Patience(sign=1.0))

    async def dies(self: Successor) -> bool:
        died.set()
        raise RuntimeError("killed")

    with Load(world) as load:
        first = world.start("first", seconds=LEAVES)
        until(lambda: all_bound(world))
        until(lambda: "first" in world.states.answers)
        with monkeypatch.context() as patch:
            patch.setattr(successor.Successor, "take", dies)
            second = world.start("second")
            until(died.is_set)
            until(lambda: "second" in world.states.answers)
            with pytest.raises(RuntimeError, match="killed"):
                second.wait()
        until(lambda: "yielding" not in world.item("1"))
        after = load.last + 2
        until(lambda: all(after in world.times(thing) for thing in THINGS))
        assert "request-first" in owner(world)
        third = world.start("third")
        until(lambda: "request-third" in owner(world))
        after = load.last + 2
        until(lambda: all(after in world.times(thing) for thing in THINGS))
    first.wait()
    until(lambda: world.left() == (0, 0))
    end(world, third, "third")
    for thing in THINGS:
        assert world.times(thing) == list(range(1, load.last + 1))


@pytest.mark.parametrize("policy", ["first-in-wins", "last-in-wins"])
def test_a_successor_of_a_release_that_knows_no_offers_still_gets_the_slot(world: World, policy: str) -> None:
    world.server.platform.settings.change({"bind_protection": policy})
    first = world.start("first", seconds=LEAVES)
    until(lambda: all_bound(world))
    until(lambda: world.item("1").get("leaving", {}).get("BOOL", False))
    world.dynamodb.update_item(
        TableName="demo-control",
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="SET successor = :old",
        ExpressionAttributeValues={":old": {"S": "an-old-successor"}},
    )
    until(lambda: "owner" not in world.item("1"))
    first.wait()
    assert "yielding" not in world.item("1")
    until(lambda: not world.server.platform.edges)


def test_a_successor_gets_the_slot_of_an_owner_that_knows_no_offers(world: World) -> None:
    """It stops receiving, closes and releases; what it doesn't know stays on the item until then."""
    until_ms = int(time.time() * 1000) + 60_000
    world.dynamodb.update_item(
        TableName="demo-control",
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="SET #owner = :old, #until = :until, leaving = :true",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
        ExpressionAttributeValues={
            ":old": {"S": "old/0/r/1"},
            ":true": {"BOOL": True},
            ":until": {"N": str(until_ms)},
        },
    )
    second = world.start("second")
    until(lambda: "successor" in world.item("1"))
    world.dynamodb.update_item(
        TableName="demo-control",
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="REMOVE #owner, #until, successor, leaving",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
    )
    until(lambda: "request-second" in owner(world))
    assert "takes" not in world.item("1")
    until(lambda: all_bound(world))
    end(world, second, "second")


def test_an_event_that_came_twice_has_one_connector_wait_and_one_end(world: World) -> None:
    first = world.start("first", seconds=LEAVES)
    until(lambda: all_bound(world))
    until(lambda: "first" in world.states.answers)
    twins = [world.start("second"), world.start("second")]
    until(lambda: "request-second" in owner(world))
    until(lambda: sum(not twin._thread.is_alive() for twin in twins) == 1)
    assert "second" not in world.states.answers, "the token is the other one's to answer"
    first.wait()
    end(world, next(twin for twin in twins if twin._thread.is_alive()), "second")


def test_a_draining_slot_is_handed_over_like_any_other(world: World) -> None:
    world.set_state("1", "draining")
    world.send([1])
    first = world.start("first", seconds=LEAVES)
    until(lambda: "first" in world.states.answers)
    second = world.start("second")
    until(lambda: "request-second" in owner(world))
    world.send([2])
    until(lambda: all(world.times(thing) == [1, 2] for thing in THINGS))
    first.wait()
    end(world, second, "second")


def test_without_any_successor_the_slot_is_free_at_the_end(world: World) -> None:
    world.send([1])
    world.start("first", seconds=3).wait()
    assert '"next":"handover"' in world.states.answers["first"]
    assert "owner" not in world.item("1")
    assert world.left() == (0, 0)


def test_a_holder_that_was_frozen_past_its_lease_pushes_nothing_when_it_wakes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clocks jump, and meanwhile another connector has taken the slot."""
    world.send([1])
    slow = world.server.faults.add(service="UpdateSubscribedPropertyValues", status=503, times=1)
    first = world.start("first", seconds=STAYS)
    until(lambda: slow.hits == 1)
    until(lambda: world.left() == (0, 0))
    world.dynamodb.update_item(
        TableName="demo-control",
        Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
        UpdateExpression="SET #owner = :other, #until = :until",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
        ExpressionAttributeValues={
            ":other": {"S": "another"},
            ":until": {"N": str(int(time.time() * 1000) + 60_000)},
        },
    )
    clocks = lease._clocks
    monkeypatch.setattr(lease, "_clocks", lambda: tuple(clock + 100 for clock in clocks()))
    world.send([2])
    first.wait()
    assert all(world.times(thing) == [1] for thing in THINGS)
    assert owner(world) == "another"
    assert world.left()[0] > 0, "the other one may have them at once"


def test_a_stopped_execution_ends_its_connector_at_the_next_beat_and_frees_the_slot(world: World) -> None:
    first = world.start("first", seconds=STAYS)
    until(lambda: all_bound(world))
    world.states.closed.add("first")
    first.wait()
    assert "first" not in world.states.answers
    assert "owner" not in world.item("1")
    until(lambda: not world.server.platform.edges)


@pytest.mark.parametrize("service", ["dynamodb", "stepfunctions", "sqs"])
def test_an_aws_service_that_fails_for_less_than_a_lease_interrupts_nothing(
    world: World, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = threading.Event()
    clients = handler._clients()
    target = {"dynamodb": clients.dynamodb, "sqs": clients.sqs, "stepfunctions": clients.stepfunctions}[
        service
    ]
    operations = {
        "dynamodb": ("update_item", "get_item", "query"),
        "sqs": ("receive_message", "delete_message_batch", "change_message_visibility_batch"),
        "stepfunctions": ("send_task_heartbeat",),
    }[service]
    failed = Counter[str]()
    for name in operations:
        call = getattr(target, name)

        def throttled(name: str = name, call: Any = call, **arguments: Any) -> Any:
            if failing.is_set():
                failed[name] += 1
                raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, name)
            return call(**arguments)

        monkeypatch.setattr(target, name, throttled)
    first = world.start("first", seconds=STAYS)
    until(lambda: all_bound(world))
    failing.set()
    if service == "stepfunctions":
        world.send([1])
        until(lambda: all(world.times(thing) == [1] for thing in THINGS))
    until(lambda: sum(failed.values()) >= 2)
    failing.clear()
    world.send([1, 2])
    until(lambda: all(world.times(thing) == [1, 2] for thing in THINGS))
    until(lambda: world.left() == (0, 0))
    assert "request-first" in owner(world)
    end(world, first, "first")
