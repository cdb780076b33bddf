"""Who owns a slot, and until when it may believe so."""

# ruff: noqa: D102 - same as in fakes.py: stand-ins
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.connector import lease as lease_module
from lambdas.connector.lease import CLOCK_MARGIN, Lease, LeaseLost, Taken
from lambdas.connector.slot_view import Offer
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table
from tests.unit.connector.fakes import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

SECONDS = 30.0
USED = SECONDS * (1 - CLOCK_MARGIN)
OFFER = Offer(3, "pump", 1_000, 0)
KEY = {"pk": {"S": "slots"}, "sk": {"S": "1"}}


class Clock:
    """All clocks of the lease; they stand still until moved.

    Attributes:
        now: what all of them show.
        stopped: by how much each of them is behind, for a machine that was frozen.
    """

    CLOCK_BOOTTIME, CLOCK_MONOTONIC = 7, 1

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.stopped = {"monotonic": 0.0, "boot": 0.0, "day": 0.0}

    def monotonic(self) -> float:
        return self.now - self.stopped["monotonic"]

    def clock_gettime(self, clock: int) -> float:
        assert clock == lease_module._BOOT_TIME
        return self.now - self.stopped["boot"]

    def time(self) -> float:
        return self.now - self.stopped["day"]


class SlowClient:
    """A client whose answers take so many seconds of the clock."""

    def __init__(self, client: DynamoDBClient, clock: Clock, seconds: float) -> None:
        self._client, self._clock, self._seconds = client, clock, seconds

    def get_item(self, **arguments: Any) -> Any:
        return self._client.get_item(**arguments)

    def update_item(self, **arguments: Any) -> Any:
        answer = self._client.update_item(**arguments)
        self._clock.now += self._seconds
        return answer


class FailingClient:
    """A client whose writes fail."""

    def __init__(self, client: DynamoDBClient, error: ClientError) -> None:
        self._client, self._error = client, error

    def get_item(self, **arguments: Any) -> Any:
        return self._client.get_item(**arguments)

    def update_item(self, **arguments: Any) -> Any:
        raise self._error


class OvertakenClient:
    """A client for whom a newer epoch begins between its read and its write."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client

    def get_item(self, **arguments: Any) -> Any:
        answer = self._client.get_item(**arguments)
        put_slot(self._client, epoch=4)
        return answer

    def update_item(self, **arguments: Any) -> Any:
        return self._client.update_item(**arguments)


@pytest.fixture(scope="module")
def client() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_control_table()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _slot(client: DynamoDBClient) -> None:
    put_slot(client)


def put_slot(client: DynamoDBClient, *, state: str = "active", epoch: int = 3) -> None:
    client.put_item(
        TableName=CONTROL_TABLE,
        Item={**KEY, "state": {"S": state}, "epoch": {"N": str(epoch)}, "queue_url": {"S": "https://q"}},
    )


def lease(client: Any, owner: str, *, epoch: int = 3) -> Lease:
    return Lease(client, CONTROL_TABLE, slot="1", epoch=epoch, owner=owner, seconds=SECONDS)


def test_a_free_slot_is_taken_and_valid_for_the_lease(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(client, "a")
    assert not mine.valid()
    assert mine.acquire() is Taken.HELD
    assert mine.view().owner == "a"
    clock.now += USED - 0.1
    assert mine.valid()
    clock.now += 0.1
    assert not mine.valid()


def test_a_holder_stops_before_a_waiting_connector_whose_clock_is_ahead_may_begin(
    client: DynamoDBClient, clock: Clock
) -> None:
    mine, other = lease(client, "a"), lease(client, "b")
    mine.acquire()
    clock.now += USED
    assert not mine.valid()
    assert other.acquire() is Taken.BUSY
    clock.now += SECONDS - USED + 0.1
    assert other.acquire() is Taken.HELD


def test_a_live_lease_is_left_to_its_owner(client: DynamoDBClient, clock: Clock) -> None:
    lease(client, "a").acquire()
    other = lease(client, "b")
    assert other.acquire() is Taken.BUSY
    assert not other.valid()
    assert other.view().owner == "a"
    assert other.view().successor is None


def test_a_lease_that_has_run_out_is_taken(client: DynamoDBClient, clock: Clock) -> None:
    lease(client, "a").acquire()
    clock.now += SECONDS + 0.01
    other = lease(client, "b")
    assert other.acquire() is Taken.HELD
    assert other.view().owner == "b"


def test_an_owner_may_take_its_own_lease_again(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(client, "a")
    mine.acquire()
    clock.now += 10
    assert mine.acquire() is Taken.HELD
    clock.now += USED - 1
    assert mine.valid()


def test_one_of_two_that_saw_a_free_slot_gets_it(client: DynamoDBClient, clock: Clock) -> None:
    free = lease(client, "b").view()
    quicker, slower = lease(client, "a"), lease(client, "b")
    quicker.acquire()
    slower.view = lambda: free  # type: ignore[method-assign] # it looked before the other one wrote
    assert slower.acquire() is Taken.BUSY
    assert not slower.valid()
    assert quicker.view().owner == "a"


def test_a_newer_epoch_supersedes(client: DynamoDBClient, clock: Clock) -> None:
    assert lease(client, "a", epoch=2).acquire() is Taken.SUPERSEDED


def test_an_owner_of_an_older_epoch_can_not_renew(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(client, "a")
    mine.acquire()
    client.update_item(
        TableName=CONTROL_TABLE,
        Key=KEY,
        UpdateExpression="SET epoch = :four",
        ExpressionAttributeValues={":four": {"N": "4"}},
    )
    with pytest.raises(LeaseLost):
        mine.renew()
    with pytest.raises(LeaseLost):
        mine.leave()


def test_a_slot_that_stops_or_is_gone_is_not_taken(client: DynamoDBClient, clock: Clock) -> None:
    put_slot(client, state="stopping")
    assert lease(client, "a").acquire() is Taken.STOPPING
    client.delete_item(TableName=CONTROL_TABLE, Key=KEY)
    assert lease(client, "a").acquire() is Taken.STOPPING


def test_a_draining_slot_is_still_served(client: DynamoDBClient, clock: Clock) -> None:
    put_slot(client, state="draining")
    assert lease(client, "a").acquire() is Taken.HELD


def test_hand_over_by_leave_ask_release_acquire(client: DynamoDBClient, clock: Clock) -> None:
    incumbent, successor = lease(client, "a"), lease(client, "b")
    incumbent.acquire()
    assert successor.acquire() is Taken.BUSY
    assert incumbent.renew().successor is None, "nobody is asked to go before it announced it"
    incumbent.leave()
    assert successor.acquire() is Taken.NEXT
    view = incumbent.renew()
    assert (view.successor, view.takes, view.offer) == ("b", True, None)
    assert successor.acquire() is Taken.NEXT
    assert lease(client, "c").acquire() is Taken.BUSY
    assert incumbent.renew().successor == "b", "the first to ask is the successor"
    incumbent.release()
    assert not incumbent.valid()
    assert successor.acquire() is Taken.HELD
    after = successor.view()
    assert (after.owner, after.successor, after.leaving) == ("b", None, False)


def test_renewal_after_another_took_the_slot_says_that_it_is_lost(
    client: DynamoDBClient, clock: Clock
) -> None:
    mine = lease(client, "a")
    mine.acquire()
    clock.now += SECONDS + 1
    lease(client, "b").acquire()
    with pytest.raises(LeaseLost):
        mine.renew()
    assert not mine.valid()


def test_release_leaves_another_owner_alone(client: DynamoDBClient, clock: Clock) -> None:
    mine, other = lease(client, "a"), lease(client, "b")
    mine.acquire()
    clock.now += SECONDS + 1
    other.acquire()
    mine.release()
    assert other.view().owner == "b"
    assert other.valid()


def test_a_released_lease_stays_invalid_whatever_ends_later(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(client, "a")
    mine.acquire()
    mine.release()
    mine._counted_from = lease_module._clocks()  # what a renewal in another thread would leave behind
    assert not mine.valid()


@pytest.mark.parametrize("step", ["acquire", "renew"])
def test_the_deadline_is_counted_from_before_the_call(
    client: DynamoDBClient, clock: Clock, step: str
) -> None:
    lease(client, "a").acquire()
    mine = lease(SlowClient(client, clock, 20.0), "a")
    began = clock.now
    getattr(mine, step)()
    assert clock.now == began + 20
    clock.now = began + USED - 0.1
    assert mine.valid()
    clock.now = began + USED
    assert not mine.valid()


def test_an_epoch_that_begins_while_the_lease_is_taken_keeps_it_from_the_older_one(
    client: DynamoDBClient, clock: Clock
) -> None:
    mine = lease(OvertakenClient(client), "a")
    assert mine.acquire() is Taken.BUSY
    assert not mine.valid()
    assert mine.acquire() is Taken.SUPERSEDED
    assert mine.view().owner is None


def test_leaving_prolongs_nothing(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(client, "a")
    mine.acquire()
    until = mine.view().until
    clock.now += SECONDS / 2
    mine.leave()
    assert mine.view() == mine.view()._replace(leaving=True, until=until)
    clock.now += SECONDS / 2
    assert not mine.valid()


def test_a_failing_table_is_not_taken_for_a_lost_lease(client: DynamoDBClient, clock: Clock) -> None:
    mine = lease(FailingClient(client, refused("ThrottlingException")), "a")
    offer = partial(mine.offer, OFFER)
    for call in (mine.acquire, mine.renew, mine.leave, mine.release, offer, mine.take_back):
        with pytest.raises(Exception, match="ThrottlingException"):
            call()


@pytest.mark.parametrize("stopped", [("monotonic",), ("monotonic", "boot"), ("day",)])
def test_a_holder_that_was_frozen_past_its_lease_owns_nothing_whatever_clock_stood_still(
    client: DynamoDBClient, clock: Clock, stopped: tuple[str, ...]
) -> None:
    mine = lease(client, "a")
    mine.acquire()
    clock.now += SECONDS + 1
    for name in stopped:
        clock.stopped[name] = SECONDS + 1
    assert not mine.valid()


def offered(client: DynamoDBClient) -> tuple[Lease, Lease]:
    incumbent, successor = lease(client, "a"), lease(client, "b")
    incumbent.acquire()
    incumbent.leave()
    successor.acquire()
    incumbent.offer(OFFER)
    return incumbent, successor


def test_what_is_offered_is_taken_by_the_successor_at_once_and_leaves_no_trace(
    client: DynamoDBClient, clock: Clock
) -> None:
    incumbent, successor = offered(client)
    assert not incumbent.valid()
    assert not successor.valid()
    assert lease(client, "c").acquire() is Taken.BUSY
    assert successor.acquire() is Taken.OFFERED
    view = successor.view()
    assert view.offer == OFFER
    successor.take("a")
    assert successor.valid()
    with pytest.raises(LeaseLost):
        incumbent.take_back()
    with pytest.raises(LeaseLost):
        incumbent.renew()
    assert not incumbent.valid()
    item = client.get_item(TableName=CONTROL_TABLE, Key=KEY)["Item"]
    assert set(item) == {"pk", "sk", "state", "epoch", "queue_url", "owner", "until"}


def test_what_is_taken_back_can_not_be_taken_any_more(client: DynamoDBClient, clock: Clock) -> None:
    incumbent, successor = offered(client)
    incumbent.take_back()
    assert incumbent.valid()
    with pytest.raises(LeaseLost):
        successor.take("a")
    with pytest.raises(LeaseLost):
        successor.rebound(1, "a")
    assert not successor.valid()
    assert successor.acquire() is Taken.NEXT, "it may ask again"


class LateClient:
    """A client whose offers get no answer: `late` are those that the table has not yet carried out."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self.late: list[dict[str, Any]] = []

    def get_item(self, **arguments: Any) -> Any:
        return self._client.get_item(**arguments)

    def update_item(self, **arguments: Any) -> Any:
        if "#yielding = :me" not in arguments["UpdateExpression"]:
            return self._client.update_item(**arguments)
        self.late.append(arguments)
        raise ReadTimeoutError(endpoint_url="https://dynamodb")


def test_an_offer_that_reaches_the_table_after_it_was_taken_back_gives_nothing_away(
    client: DynamoDBClient, clock: Clock
) -> None:
    slow = LateClient(client)
    incumbent, successor = lease(slow, "a"), lease(client, "b")
    incumbent.acquire()
    incumbent.leave()
    successor.acquire()
    for _ in range(2):  # the second within the same millisecond
        with pytest.raises(ReadTimeoutError):
            incumbent.offer(OFFER)
        incumbent.take_back()
        assert successor.acquire() is Taken.NEXT
    for late in slow.late:
        with pytest.raises(ClientError, match="ConditionalCheckFailed"):
            client.update_item(**late)
    assert successor.acquire() is Taken.NEXT
    assert incumbent.valid()


@pytest.mark.parametrize("turned_back", [0, 500], ids=["same clock", "clock turned back"])
def test_after_an_offer_was_taken_back_the_next_one_stands(
    client: DynamoDBClient, clock: Clock, turned_back: int
) -> None:
    incumbent, successor = offered(client)
    incumbent.take_back()
    assert successor.acquire() is Taken.NEXT
    incumbent.offer(OFFER._replace(since=OFFER.since - turned_back))
    assert successor.acquire() is Taken.OFFERED
    successor.take("a")
    assert "withdrawn" not in client.get_item(TableName=CONTROL_TABLE, Key=KEY)["Item"]


def test_only_the_successor_that_was_named_takes_an_offer(client: DynamoDBClient, clock: Clock) -> None:
    offered(client)
    with pytest.raises(LeaseLost):
        lease(client, "c").take("a")


def test_each_side_sees_how_far_the_other_is(client: DynamoDBClient, clock: Clock) -> None:
    incumbent, successor = offered(client)
    seen = successor.rebound(0, "a").offer
    assert seen is not None
    assert (seen.unbound, seen.rebound) == (0, 0)
    seen = incumbent.unbound(2).offer
    assert seen is not None
    assert (seen.unbound, seen.rebound) == (2, 0)
    seen = successor.rebound(1, "a").offer
    assert seen is not None
    assert (seen.unbound, seen.rebound) == (2, 1)


def test_prolonging_what_is_offered_does_not_make_it_ours(client: DynamoDBClient, clock: Clock) -> None:
    incumbent, successor = offered(client)
    clock.now += SECONDS - 1
    incumbent.renew()
    clock.now += SECONDS - 1
    assert not incumbent.valid()
    assert lease(client, "c").acquire() is Taken.BUSY
    successor.take("a")
    assert successor.valid()


def test_an_offer_that_failed_half_way_gives_the_lease_away_all_the_same(
    client: DynamoDBClient, clock: Clock
) -> None:
    mine = lease(client, "a")
    mine.acquire()
    mine._client = FailingClient(client, refused("InternalServerError"))  # type: ignore[assignment]
    with pytest.raises(Exception, match="InternalServerError"):
        mine.offer(OFFER)
    assert not mine.valid(), "it may have been written"


def test_after_an_incumbent_that_died_the_offer_is_still_taken(client: DynamoDBClient, clock: Clock) -> None:
    _, successor = offered(client)
    clock.now += SECONDS + 1
    assert successor.acquire() is Taken.HELD


def test_an_offer_of_an_owner_before_this_one_counts_for_nothing(
    client: DynamoDBClient, clock: Clock
) -> None:
    """A release before offers were made doesn't remove them when it takes the lease."""
    offered(client)
    client.update_item(
        TableName=CONTROL_TABLE,
        Key=KEY,
        UpdateExpression="SET #owner = :old REMOVE successor, leaving",
        ExpressionAttributeNames={"#owner": "owner"},
        ExpressionAttributeValues={":old": {"S": "old"}},
    )
    assert lease(client, "b").view().offer is None


def test_a_second_invocation_of_one_event_leaves_the_slot_to_the_first(
    client: DynamoDBClient, clock: Clock
) -> None:
    first, second = lease(client, "1-1-0/0/request/a"), lease(client, "1-1-0/0/request/b")
    first.acquire()
    assert second.acquire() is Taken.TWIN
    assert lease(client, "1-1-0/1/request/a").acquire() is Taken.BUSY


def test_a_second_invocation_leaves_it_to_the_first_that_waits(client: DynamoDBClient, clock: Clock) -> None:
    incumbent = lease(client, "1-1-0/0/request/a")
    first, second = lease(client, "1-1-0/1/request/a"), lease(client, "1-1-0/1/request/b")
    incumbent.acquire()
    incumbent.leave()
    assert first.acquire() is Taken.NEXT
    assert second.acquire() is Taken.TWIN


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["acquire", "acquire", "renew", "leave", "release", "wait", "offer", "take", "take_back"]
        ),
        st.integers(0, 2),
        st.sampled_from([0.0, 9.0, 29.0, 31.0]),
    ),
    max_size=20,
)


@settings(max_examples=40, deadline=None)
@given(steps=_STEPS)
def test_no_two_are_ever_owners_at_the_same_time(
    client: DynamoDBClient, steps: list[tuple[str, int, float]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        put_slot(client)
        clock = Clock()
        patch.setattr(lease_module, "time", clock)
        leases = [lease(client, name) for name in "abc"]
        arguments: dict[str, tuple[Any, ...]] = {"offer": (OFFER,)}
        for name, index, seconds in steps:
            clock.now += seconds
            if name != "wait":
                owner = leases[index].view().owner
                arguments["take"] = (owner or "nobody",)
                try:
                    getattr(leases[index], name)(*arguments.get(name, ()))
                except LeaseLost:
                    # Who has the lease can't take it from itself, and keeps it.
                    assert name == "take" or not leases[index].valid()
            assert sum(entry.valid() for entry in leases) <= 1
