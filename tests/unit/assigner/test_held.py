"""Held readings of Things that become known: sent before they are published, stragglers after."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lambdas.assigner.held import HeldOfNewThings
from lambdas.assigner.stragglers import Stragglers
from lambdas.shared.destination import Destination
from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldReading, HeldStore, HeldStoreUnavailable
from lambdas.shared.parcel import decode
from lambdas.shared.replay import Replayer
from lambdas.shared.send import Sender
from lambdas.shared.shape import Property
from tests.aws_mock import CONTROL_TABLE, HELD_TABLE, aws, create_control_table, create_held_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lambdas.shared.held_items import HeldItem

SHAPE = {"temp": Property("NUMBER", "Temp")}


class World:
    """Tables and one slot's queue."""

    def __init__(self) -> None:
        create_control_table()
        self.dynamodb = create_held_table()
        self.sqs = boto3.client("sqs")
        self.url = self.sqs.create_queue(
            QueueName="slot-1.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        )["QueueUrl"]
        self.stragglers = Stragglers(CONTROL_TABLE, self.dynamodb)
        self.items = HeldItems(HELD_TABLE, self.dynamodb, threads=1)
        self.store = HeldStore(
            HELD_TABLE, self.dynamodb, days=14, per_thing_per_day=10**6, per_day=10**9, threads=1
        )
        self.marked: set[tuple[str, str]] = set()
        self.slept: list[float] = []
        self.during_sleep: Callable[[], None] = lambda: None

    def run(self, name: str = "run-1", clock: Callable[[], float] = lambda: 0.0) -> HeldOfNewThings:
        """What one run has."""

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.during_sleep()

        replayer = Replayer(self.items, self.store, Sender(self.sqs), name)
        return HeldOfNewThings(
            self.items,
            self.store,
            replayer,
            self.stragglers,
            lambda slot, thing: (slot, thing) in self.marked,
            clock=clock,
            sleep=sleep,
        )

    def hold(self, thing: str, *times: int) -> None:
        """As the router does while the Thing is unknown."""
        self.store.hold(
            [
                HeldReading("unrouted", thing, at, f"0:{at}:0", "unknown_thing", "", "t", b'{"temp": 1}')
                for at in times
            ]
        )

    def park(self, thing: str, *times: int) -> None:
        """As a connector did before the Thing went."""
        self.store.hold(
            [
                HeldReading(
                    "parked", thing, at, f"0:{at}:0", "not_bound", "", "", values='{"temp":1.0}', shape="{}"
                )
                for at in times
            ]
        )

    def destinations(self, *things: str) -> dict[str, Destination]:
        """All of them in slot 1."""
        return dict.fromkeys(things, Destination("1", self.url, 8, "s", SHAPE))

    def sent(self) -> list[tuple[str, int]]:
        """Thing and time of the readings in the queue, which are taken out of it."""
        found: list[tuple[str, int]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found += [(entry.thing, entry.time) for entry in decode(message["Body"]).readings]
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdas.assigner.held._THREADS", 1)  # the store in memory isn't thread-safe


@pytest.fixture
def world() -> Iterator[World]:
    with aws():
        yield World()


def test_what_is_held_of_new_things_is_sent_in_time_order_and_of_others_it_stays(world: World) -> None:
    world.hold("pump", 3, 1, 2)
    world.hold("stranger", 1)
    run = world.run()
    assert run.before(world.destinations("pump", "fan"), fresh=["pump", "fan"]) == set()
    assert world.sent() == [("pump", 1), ("pump", 2), ("pump", 3)]
    assert list(world.items.partitions()) == [("unrouted", "stranger")]
    assert run.counters == {"replay_sent": 3}


def test_what_was_parked_of_a_thing_that_returns_goes_before_what_was_held_since(world: World) -> None:
    world.hold("pump", 3)
    world.park("pump", 2, 1)
    run = world.run()
    assert run.before(world.destinations("pump"), fresh=["pump"]) == set()
    assert world.sent() == [("pump", 1), ("pump", 2), ("pump", 3)]
    assert list(world.items.partitions()) == []


def test_parked_readings_that_a_connector_sends_itself_are_left_to_it(world: World) -> None:
    world.hold("pump", 3)
    world.park("pump", 1)
    world.marked = {("1", "pump")}
    world.run().before(world.destinations("pump"), fresh=["pump"])
    assert world.sent() == [("pump", 3)]
    assert list(world.items.partitions()) == [("parked", "pump")]


def test_a_thing_of_which_only_the_parked_readings_were_sent_is_not_published_yet(
    world: World,
) -> None:
    world.park("pump", 1)
    world.hold("pump", 2)
    ticks = itertools.chain((0.0, 0.0, 0.0, 0.0), itertools.repeat(1000.0))
    assert world.run(clock=lambda: next(ticks)).before(world.destinations("pump"), fresh=["pump"]) == {"pump"}
    assert world.sent() == [("pump", 1)]
    assert world.run("run-2").before(world.destinations("pump"), fresh=["pump"]) == set()
    assert world.sent() == [("pump", 2)]


def test_stragglers_held_while_a_thing_is_published_follow(world: World) -> None:
    world.hold("pump", 1)
    run = world.run()
    run.before(world.destinations("pump"), fresh=["pump"])
    world.hold("pump", 2)
    world.during_sleep = lambda: world.hold("pump", 3)
    run.after(world.destinations("pump"))
    assert world.sent() == [("pump", 1), ("pump", 2), ("pump", 3)]
    assert world.slept


def test_a_run_without_active_new_things_waits_for_nothing(world: World) -> None:
    run = world.run()
    run.before(world.destinations("pump"), fresh=["pump"])
    run.after(world.destinations("pump"))
    assert not world.slept
    assert not run.counters


def test_stragglers_are_looked_for_by_later_runs_until_no_router_can_have_held_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the first run died before it came to them."""
    world.hold("pump", 1)
    world.run().before(world.destinations("pump"), fresh=["pump"])
    world.hold("pump", 2)
    assert world.run("run-2").before({}, ()) == set()
    world.run("run-2").after(world.destinations("pump"))
    assert world.sent() == [("pump", 1), ("pump", 2)]
    assert world.stragglers.since(), "too fresh to be forgotten"
    monkeypatch.setattr("lambdas.assigner.held._STRAGGLER_MILLISECONDS", -1)
    world.run("run-3").after(world.destinations("pump"))
    assert not world.stragglers.since()


def test_a_straggler_that_is_known_no_more_is_forgotten(world: World) -> None:
    world.stragglers.add(["gone"])
    world.run().after({})
    assert not world.stragglers.since()


def test_a_thing_with_a_large_backlog_starves_no_other_and_is_not_overtaken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.held._PAGE", 10)
    monkeypatch.setattr("lambdas.assigner.held._BEFORE_SECONDS", 40.0)
    world.hold("large", *range(300))
    for thing in ("small", "tiny"):
        world.hold(thing, *range(15))
    ticks = itertools.count()
    run = world.run(clock=lambda: float(next(ticks)))
    assert run.before(world.destinations("large", "small", "tiny"), fresh=["large", "small", "tiny"]) == {
        "large"
    }
    sent = world.sent()
    assert [at for thing, at in sent if thing == "large"] == list(range(len(sent) - 30))
    assert {thing for thing, _ in sent} == {"large", "small", "tiny"}

    run = world.run("run-2")
    assert run.before(world.destinations("large"), fresh=["large"]) == set()
    assert [at for _, at in world.sent()] == list(range(len(sent) - 30, 300))


def test_one_things_trouble_keeps_no_other_from_being_known(world: World) -> None:
    world.hold("pump", 1)
    world.hold("fan", 1)
    destinations = world.destinations("fan", "pump")
    destinations["fan"] = destinations["fan"]._replace(shape={"temp": None})  # type: ignore[dict-item]
    assert world.run().before(destinations, fresh=destinations) == set()
    assert world.sent() == [("pump", 1)]


def test_what_could_not_be_read_of_a_thing_follows_once_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hold("pump", 1)
    with monkeypatch.context() as trouble:
        trouble.setattr(world.items, "page", lambda *_, **__: 1 / 0)
        assert world.run().before(world.destinations("pump"), ()) == set()
    later = world.run("run-2")
    later.after(world.destinations("pump"))
    assert world.sent() == [("pump", 1)]


def test_things_that_there_was_no_time_to_look_at_are_looked_at_by_later_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.held._STRAGGLER_MILLISECONDS", -1)
    things = [f"pump-{number}" for number in range(6)]
    for thing in things:
        world.hold(thing, 1)
    published: set[str] = set()
    for number in range(12):
        monkeypatch.setattr("lambdas.assigner.held._BEFORE_SECONDS", 6.0)
        monkeypatch.setattr("lambdas.assigner.held._AFTER_SECONDS", 6.0)
        ticks = itertools.count(0.0)
        run = world.run(f"run-{number}", clock=ticks.__next__)
        new = world.destinations(*(thing for thing in things if thing not in published))
        published |= new.keys() - run.before(new, ())
        run.after(world.destinations(*sorted(published)))
    assert sorted(world.sent()) == [(thing, 1) for thing in things]
    assert not world.stragglers.since()


@pytest.mark.parametrize("held", [(), ("stranger",)], ids=["nothing was ever held", "others were"])
def test_a_first_reading_that_comes_while_its_thing_is_published_follows(
    world: World, held: tuple[str, ...]
) -> None:
    for thing in held:
        world.hold(thing, 1)
    run = world.run()
    assert run.before(world.destinations("pump"), fresh=["pump"]) == set()
    run.after(world.destinations("pump"))
    world.hold("pump", 1)
    later = world.run("run-2")
    assert later.before({}, ()) == set()
    later.after(world.destinations("pump"))
    assert world.sent() == [("pump", 1)]


def test_a_throttled_table_lets_nothing_overtake_what_is_known_to_be_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.held._PAGE", 10)
    world.hold("pump", *range(30))
    delete, tries = world.items.delete, itertools.count()

    def throttled(items: Iterable[HeldItem]) -> None:
        if next(tries) == 0:
            raise HeldStoreUnavailable("unwritten")
        delete(items)

    monkeypatch.setattr(world.items, "delete", throttled)
    assert world.run().before(world.destinations("pump"), fresh=["pump"]) == {"pump"}
    assert world.run("run-2").before(world.destinations("pump"), fresh=["pump"]) == set()
    assert [at for _, at in dict.fromkeys(world.sent())] == list(range(30))


def test_of_things_that_only_the_registry_had_forgotten_the_silent_are_not_looked_at_again(
    world: World,
) -> None:
    world.hold("pump", 1)
    world.run().before(world.destinations("fan", "pump"), fresh=())
    assert world.stragglers.since().keys() == {"pump"}


def test_a_thing_whose_queue_takes_nothing_is_not_published(world: World) -> None:
    world.hold("pump", 1)
    destinations = world.destinations("pump")
    destinations["pump"] = destinations["pump"]._replace(queue_url=f"{world.url}-gone")
    assert world.run().before(destinations, fresh=destinations) == {"pump"}
    assert list(world.items.partitions()) == [("unrouted", "pump")]


class Fused:
    """A client whose process dies before or after its n-th change of anything."""

    def __init__(self, client: Any, fuse: list[int], *, after: bool) -> None:
        self._client, self._fuse, self._after = client, fuse, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in ("update_item", "batch_write_item", "send_message_batch"):
            return method

        def call(**arguments: Any) -> Any:
            self._fuse[0] -= 1
            if self._fuse[0] < 0 or (self._fuse[0] == 0 and not self._after):
                raise Death
            answer = method(**arguments)
            if self._fuse[0] == 0:
                raise Death
            return answer

        return call


class Death(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [True, False], ids=["after the change", "before the change"])
def test_a_run_that_dies_anywhere_loses_and_reorders_nothing(world: World, after: bool) -> None:  # noqa: FBT001 - pytest's
    destinations = world.destinations("fan", "pump")
    items, sqs, store, stragglers = world.items, world.sqs, world.store, world.stragglers
    for steps in itertools.count(1):
        fuse = [steps]
        dynamodb: Any = Fused(world.dynamodb, fuse, after=after)
        world.items = HeldItems(HELD_TABLE, dynamodb, threads=1)
        world.store = HeldStore(
            HELD_TABLE, dynamodb, days=14, per_thing_per_day=10**6, per_day=10**9, threads=1
        )
        world.stragglers = Stragglers(CONTROL_TABLE, dynamodb)
        dying_sqs: Any = Fused(sqs, fuse, after=after)
        world.sqs = dying_sqs
        dying = world.run(f"run-{steps}")
        world.items, world.sqs, world.store, world.stragglers = items, sqs, store, stragglers
        world.hold("pump", 1, 2)
        world.hold("fan", 1)
        world.store.hold([HeldReading("unrouted", "pump", 3, "0:3:0", "unknown_thing", "", "t", b"{")])
        died = False
        try:
            dying.before(destinations, fresh=destinations)
            world.hold("pump", 4)
            dying.after(destinations)
        except Death:
            died = True
            world.hold("pump", 4)
        again = world.run(f"run-{steps}-again")
        assert again.before(destinations, fresh=destinations) == set()
        again.after(destinations)
        sent = world.sent()
        assert [at for thing, at in dict.fromkeys(sent) if thing == "pump"] == [1, 2, 4], steps
        assert ("fan", 1) in sent
        left = {(item.reading.time, item.reading.reason) for item in items.page("rejected", "pump", 9).items}
        assert left == {(3, "not_json")}
        assert list(items.partitions()) == [("rejected", "pump")]
        items.delete(items.page("rejected", "pump", 9).items)
        if not died:
            break
    assert steps > 5, "it died at many places"


ROLES = Path(__file__).parents[3] / "terraform" / "roles.tf"


def allowed(part: str, table: str) -> set[str]:
    """What a part of the roles' file allows on a table."""
    block = re.search(rf"^  +{part} = (.*?)^  (?:  )?[\])}}]", ROLES.read_text(), re.MULTILINE | re.DOTALL)
    assert block, part
    statements = re.findall(r"Action\s+= (\[.*?\]|\S+)\s+Resource\s+= (\S+)", block[1], re.DOTALL)
    arns = {f"aws_dynamodb_table.{table}.arn", f"local.{table}_arns"}
    texts = [actions for actions, resource in statements if resource in arns]
    return {action for text in texts for action in re.findall(r"dynamodb:(\w+)", text)}


def test_the_assigners_role_allows_what_sending_takes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdas.assigner.held._STRAGGLER_MILLISECONDS", -1)
    calls: set[tuple[str, str]] = set()

    def note(params: dict[str, Any], model: Any, **_: object) -> None:
        tables = [params["TableName"]] if "TableName" in params else params["RequestItems"]
        calls.update((table, model.name) for table in tables)

    world.hold("pump", 1)
    world.store.hold([HeldReading("unrouted", "pump", 3, "0:3:0", "unknown_thing", "", "t", b"{")])
    world.dynamodb.meta.events.register("provide-client-params.dynamodb", note)
    run = world.run()
    run.before(world.destinations("pump"), fresh=["pump"])
    run.after(world.destinations("pump"))
    world.run("run-2").after(world.destinations("pump"))
    assert not world.stragglers.since()
    held = allowed("held_statements", "held") | allowed("held_read_statements", "held")
    control = allowed("assigner", "control")
    assert calls == {
        *((HELD_TABLE, name) for name in ("Query", "BatchWriteItem", "UpdateItem")),
        *((CONTROL_TABLE, name) for name in ("Query", "BatchWriteItem")),
    }
    assert {name for table, name in calls if table == HELD_TABLE} <= held
    assert {name for table, name in calls if table == CONTROL_TABLE} <= control
