"""Who owns a slot, and until when it may believe so."""

# ruff: noqa: D102 - same as in fakes.py: stand-ins
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.connector import lease as lease_module
from lambdas.connector.lease import CLOCK_MARGIN, Lease, LeaseLost, Taken
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table
from tests.unit.connector.fakes import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import ClientError
    from mypy_boto3_dynamodb import DynamoDBClient

SECONDS = 30.0
USED = SECONDS * (1 - CLOCK_MARGIN)
KEY = {"pk": {"S": "slots"}, "sk": {"S": "1"}}


class Clock:
    """Both clocks of the lease; they stand still until moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


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
    assert successor.acquire() is Taken.BUSY
    assert incumbent.renew().successor == "b"
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
    mine._deadline = clock.now + SECONDS  # what a renewal in another thread would leave behind
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
    for call in (mine.acquire, mine.renew, mine.leave, mine.release):
        with pytest.raises(Exception, match="ThrottlingException"):
            call()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "acquire", "renew", "leave", "release", "wait"]),
        st.integers(0, 2),
        st.sampled_from([0.0, 9.0, 29.0, 31.0]),
    ),
    max_size=14,
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
        for name, index, seconds in steps:
            clock.now += seconds
            if name != "wait":
                try:
                    getattr(leases[index], name)()
                except LeaseLost:
                    assert not leases[index].valid()
            assert sum(entry.valid() for entry in leases) <= 1
