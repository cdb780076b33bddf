"""Incumbent and successor, over a real lease and a platform of either policy."""

# ruff: noqa: D102 - same as in fakes.py: stand-ins
from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from lambdas.connector.handover import HandsOver, Patience, group_of, groups_for
from lambdas.connector.incumbent import Incumbent, Outcome
from lambdas.connector.lease import Lease, Taken
from lambdas.connector.successor import Successor
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.alwayson_transport import AlwaysOnTransport
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table
from tests.unit.connector.fakes import refused, until
from tests.unit.connector.test_lease import put_slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from lambdas.connector.slot_view import Offer

QUICK = Patience(probe=0.5, step=0.4, sign=1.5, poll=0.002)
THINGS = [f"pump-{number}" for number in range(450)]
GROUPS = groups_for(len(THINGS))


class Platform:
    """Who has which Thing.

    Attributes:
        policy: `first`, `last`, or `silent`: a BIND of a Thing that another has is answered with success, and
            nothing happens.
        owners: Thing -> line.
        away: how often each Thing was disconnected.
        most_away: how many were so at one time.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.owners: dict[str, Line] = {}
        self.away: Counter[str] = Counter()
        self.gone: set[str] = set()
        self.most_away = 0

    def bind(self, thing: str, line: Line) -> bool:
        if self.policy != "last" and self.owners.get(thing, line) is not line:
            return self.policy == "silent"
        self.owners[thing] = line
        self.gone.discard(thing)
        return True

    def unbind(self, thing: str, line: Line) -> None:
        if self.owners.get(thing) is line:
            del self.owners[thing]
            self.away[thing] += 1
            self.gone.add(thing)
            self.most_away = max(self.most_away, len(self.gone))


class Line:
    """A transport: bound Things of one connection."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.wanted: set[str] = set()
        self.refused: set[str] = set()
        self.down = False
        self.binds = 0

    def bind(self, things: Iterable[str]) -> None:
        for thing in things:
            self.wanted.add(thing)
            self.binds += 1
            if not self.platform.bind(thing, self):
                self.refused.add(thing)

    def rebind(self, things: Iterable[str]) -> None:
        self.bind(things)

    def unbind(self, things: Iterable[str]) -> None:
        for thing in list(things):
            self.wanted.discard(thing)
            self.refused.discard(thing)
            self.platform.unbind(thing, self)

    def bound_things(self) -> list[str]:
        return sorted(self.wanted - self.refused)

    async def release(self, things: Iterable[str]) -> None:
        await asyncio.sleep(0.001)
        self.unbind(things)

    async def bound(self, things: Iterable[str]) -> None:
        if self.down:
            raise ThingworxUnavailable("no connection")
        await asyncio.sleep(0.001)

    async def ready(self, thing: str) -> None:
        if self.down:
            raise ThingworxUnavailable("no connection")
        await asyncio.sleep(0.001)
        if thing in self.refused:
            raise ThingworxCallFailed(409, "bound elsewhere")
        if self.platform.owners.get(thing) is not self:
            await asyncio.Event().wait()

    def close(self) -> None:
        """The connection ends: what it had is free, and what others want they get."""
        for thing in list(self.wanted):
            self.platform.unbind(thing, self)


class Names:
    """What the successor is to bind."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)
        self.failing: list[Exception] = []
        self._loaded: frozenset[str] = frozenset()

    async def load(self) -> None:
        if self.failing:
            raise self.failing.pop()
        self._loaded = self.names

    def wanted(self) -> frozenset[str]:
        return self._loaded


class Failing:
    """A client of which calls fail from a moment on."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self.calls = 0
        self.fails: Callable[[int], bool] = lambda _: False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def made(**arguments: Any) -> Any:
            self.calls += 1
            if self.fails(self.calls):
                raise EndpointConnectionError(endpoint_url="https://dynamodb")
            return call(**arguments)

        return made


class Pair:
    """An incumbent that has all Things, and a successor that has asked for the slot."""

    def __init__(self, client: DynamoDBClient, policy: str) -> None:
        put_slot(client)
        self.platform = Platform(policy)
        self.old, self.new = Line(self.platform), Line(self.platform)
        self.clients = [Failing(client), Failing(client)]
        self.leases = [
            Lease(entry, CONTROL_TABLE, slot="1", epoch=3, owner=name, seconds=30)  # type: ignore[arg-type]
            for entry, name in zip(self.clients, "ab", strict=True)
        ]
        self.counters: Counter[str] = Counter()
        self.names = Names(*THINGS)
        self.old.bind(THINGS)
        incumbent, successor = self.leases
        assert incumbent.acquire() is Taken.HELD
        incumbent.leave()
        assert successor.acquire() is Taken.NEXT
        self.incumbent = Incumbent(
            incumbent, self.old, self.call, counters=self.counters, patience=QUICK, renew_seconds=0.02
        )
        self.successor = Successor(
            successor, self.new, self.names, self.call, counters=self.counters, patience=QUICK
        )

    async def call(self, what: Callable[[], Any]) -> Any:
        assert sum(lease.valid() for lease in self.leases) <= 1
        try:
            return await asyncio.to_thread(what)
        finally:
            assert sum(lease.valid() for lease in self.leases) <= 1

    def unhurried(self) -> None:
        """For where nobody waits in vain: a busy machine may take its time."""
        self.incumbent._patience = self.successor._patience = QUICK._replace(step=20, sign=20)

    def offer(self) -> Awaitable[Outcome]:
        return self.incumbent.offer(int(time.time() * 1000), time.monotonic() + 15)

    async def take(self) -> bool:
        """As a waiting connector does."""
        while True:
            taken = await self.call(self.leases[1].acquire)
            if taken is Taken.HELD or (taken is Taken.OFFERED and await self.successor.take()):
                return True
            await asyncio.sleep(0.005)

    def owners(self) -> set[Line]:
        return {self.platform.owners[thing] for thing in THINGS if thing in self.platform.owners}


@pytest.fixture(scope="module")
def client() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_control_table()


@pytest.fixture
def pair(client: DynamoDBClient, request: pytest.FixtureRequest) -> Pair:
    return Pair(client, getattr(request, "param", "first"))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


def policies(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", names, indirect=True)


@policies("last")
def test_where_the_last_one_wins_no_thing_is_disconnected(pair: Pair) -> None:
    pair.unhurried()

    async def scenario() -> None:
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)
        assert pair.leases[1].valid()
        assert pair.owners() == {pair.new}
        pair.old.close()
        assert pair.owners() == {pair.new}
        assert not pair.platform.away
        assert pair.counters["handover_transitions"] == 0
        assert pair.counters["handovers"] == 1

    run(scenario())


@policies("first", "silent")
def test_where_the_first_one_wins_each_thing_is_away_once_and_few_at_one_time(pair: Pair) -> None:
    pair.unhurried()

    async def scenario() -> None:
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)
        assert pair.owners() == {pair.new}
        assert set(pair.platform.away.values()) == {1}
        assert pair.platform.most_away <= 2 * max(
            Counter(group_of(thing, GROUPS) for thing in THINGS).values()
        )
        assert pair.counters["handover_transitions"] == 2 * len(THINGS)

    run(scenario())


@policies("first", "last")
def test_a_successor_binds_what_it_is_told_to_though_the_incumbent_had_others(pair: Pair) -> None:
    pair.unhurried()
    pair.names.names = frozenset({*THINGS[:400], "new"})

    async def scenario() -> None:
        await asyncio.gather(pair.offer(), pair.take())
        pair.old.close()
        assert set(pair.platform.owners) == pair.names.names

    run(scenario())


@policies("first", "last")
def test_without_a_sign_of_the_successor_the_incumbent_serves_on(pair: Pair) -> None:
    async def scenario() -> None:
        assert await pair.offer() is Outcome.BACK
        assert pair.leases[0].valid()
        assert pair.owners() == {pair.old}
        assert not pair.platform.away
        slot = pair.leases[0].view()
        assert (slot.leaving, slot.successor, slot.offer) == (True, None, None), "another one may ask"

    run(scenario())


@policies("last")
def test_a_thing_that_was_bound_during_an_offer_is_bound_once_more_when_that_is_taken_back(
    pair: Pair,
) -> None:
    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        await until(lambda: pair.leases[1].view().offer is not None)
        pair.old.bind(["late"])
        pair.new.bind(["late"])  # it wins: the incumbent hears nothing of that
        assert await offering is Outcome.BACK
        assert pair.platform.owners["late"] is pair.old

    run(scenario())


def test_after_a_successor_that_died_half_way_all_things_are_the_incumbents_again(pair: Pair) -> None:
    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        taking = asyncio.ensure_future(pair.take())
        await until(lambda: bool(pair.new.wanted & set(pair.platform.owners)) and pair.new.binds > 50)
        taking.cancel()
        pair.new.close()
        assert await offering is Outcome.BACK
        assert pair.leases[0].valid()
        assert pair.owners() == {pair.old}
        assert set(pair.platform.owners) == set(THINGS)

    run(scenario())


def test_after_an_incumbent_that_died_half_way_the_successor_takes_the_lease_at_once(pair: Pair) -> None:
    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        taking = asyncio.ensure_future(pair.take())
        await until(lambda: pair.new.binds > 50)
        offering.cancel()
        pair.old.close()
        assert await taking
        assert pair.leases[1].valid()
        assert not pair.leases[0].valid()
        assert pair.owners() == {pair.new}

    run(scenario())


@policies("first", "last")
def test_a_successor_without_a_connection_leaves_the_slot_where_it_is_served(pair: Pair) -> None:
    pair.new.down = True

    async def scenario() -> None:
        taking = asyncio.ensure_future(pair.take())
        assert await pair.offer() is Outcome.BACK
        taking.cancel()
        assert pair.leases[0].valid()
        assert pair.owners() == {pair.old}

    run(scenario())


@policies("last")
def test_a_successor_that_learns_too_late_what_to_bind_takes_no_thing_from_the_incumbent(pair: Pair) -> None:
    learned = asyncio.Event()
    load = pair.names.load

    async def slow() -> None:
        await learned.wait()
        await load()

    pair.names.load = slow  # type: ignore[method-assign] # what it asked before the offer had failed

    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        await until(lambda: pair.leases[1].view().offer is not None)
        taking = asyncio.ensure_future(pair.successor.take())
        assert await offering is Outcome.BACK
        learned.set()
        assert not await taking
        assert set(pair.platform.owners) == set(THINGS)
        assert pair.owners() == {pair.old}
        assert not pair.platform.away

    run(scenario())


def test_a_successor_that_was_too_slow_gives_back_what_it_had_bound(pair: Pair) -> None:
    slow = asyncio.Event()
    bound = pair.new.bound

    async def waiting(things: Iterable[str]) -> None:
        await slow.wait()
        await bound(things)

    pair.new.bound = waiting  # type: ignore[method-assign]
    pair.successor._patience = QUICK._replace(step=60)

    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        await until(lambda: pair.leases[1].view().offer is not None)
        taking = asyncio.ensure_future(pair.successor.take())
        assert await offering is Outcome.BACK
        slow.set()
        assert not await taking
        assert not pair.new.wanted

    run(scenario())


@policies("first", "last")
def test_a_table_that_fails_the_incumbent_for_a_while_breaks_nothing_off(pair: Pair) -> None:
    pair.unhurried()

    async def scenario() -> None:
        begun = pair.clients[0].calls
        pair.clients[0].fails = lambda call: begun + 1 < call < begun + 8
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)
        assert pair.leases[1].valid()
        assert pair.owners() == {pair.new}

    run(scenario())


def test_an_incumbent_that_can_not_reach_the_table_any_more_owns_nothing(pair: Pair) -> None:
    async def scenario() -> None:
        begun = pair.clients[0].calls
        pair.clients[0].fails = lambda call: call > begun + 1
        assert await pair.incumbent.offer(0, time.monotonic() + 0.1) is Outcome.UNKNOWN
        assert not pair.leases[0].valid()
        assert await pair.take()

    run(scenario())


def test_an_offer_whose_answer_is_lost_is_taken_back(pair: Pair) -> None:
    lease = pair.leases[0]
    offer = lease.offer

    def lost(offered: Offer) -> None:
        offer(offered)
        raise refused("InternalServerError")

    lease.offer = lost  # type: ignore[method-assign, assignment]

    async def scenario() -> None:
        assert await pair.offer() is Outcome.BACK
        assert lease.valid()
        assert lease.view().offer is None

    run(scenario())


@policies("first", "last")
def test_a_lease_taken_by_a_call_whose_answer_is_lost_is_kept(pair: Pair) -> None:
    lease = pair.leases[1]
    take = lease.take

    def lost(owner: str) -> None:
        take(owner)
        take(owner)  # as a client does that had no answer

    lease.take = lost  # type: ignore[method-assign]

    async def scenario() -> None:
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)
        assert lease.valid()
        assert pair.owners() == {pair.new}

    run(scenario())


def test_a_slot_that_is_stopped_meanwhile_goes_to_nobody(pair: Pair, client: DynamoDBClient) -> None:
    async def scenario() -> None:
        offering = asyncio.ensure_future(pair.offer())
        await until(lambda: not pair.leases[0].valid())
        client.update_item(
            TableName=CONTROL_TABLE,
            Key={"pk": {"S": "slots"}, "sk": {"S": "1"}},
            UpdateExpression="SET #state = :stopping",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":stopping": {"S": "stopping"}},
        )
        assert await offering is Outcome.BACK
        assert pair.leases[1].acquire() is Taken.STOPPING

    run(scenario())


def test_what_can_not_be_read_is_bound_later(pair: Pair) -> None:
    pair.names.failing = [refused("ThrottlingException")]

    async def scenario() -> None:
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)
        assert not pair.new.wanted

    run(scenario())


def test_without_things_to_bind_only_the_lease_goes_over(client: DynamoDBClient) -> None:
    pair = Pair(client, "first")
    pair.incumbent._transport = pair.successor._transport = None

    async def scenario() -> None:
        outcome, taken = await asyncio.gather(pair.offer(), pair.take())
        assert (outcome, taken) == (Outcome.TAKEN, True)

    run(scenario())


def test_groups_have_about_a_hundred_things_and_are_never_too_many() -> None:
    assert [groups_for(things) for things in (0, 1, 200, 201, 1000, 1_000_000)] == [0, 1, 1, 2, 5, 50]
    assert {group_of(f"thing-{number}", 7) for number in range(500)} == set(range(7))


def test_the_alwayson_transport_hands_over() -> None:
    for name in (entry for entry in vars(HandsOver) if not entry.startswith("_")):
        assert callable(getattr(AlwaysOnTransport, name, None)), name
