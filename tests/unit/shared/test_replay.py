"""Held readings are sent through today's shapes, and deleted only once SQS took them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lambdas.shared.convert import convert_payload
from lambdas.shared.destination import Destination
from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldReading, HeldStore
from lambdas.shared.parcel import decode
from lambdas.shared.replay import Replayer
from lambdas.shared.send import Sender
from lambdas.shared.shape import Property
from tests.aws_mock import HELD_TABLE, aws, create_held_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lambdas.shared.parcel import Parcel
    from lambdas.shared.replay import Replayed

SHAPE = {"temp": Property("NUMBER", "Temp"), "name": Property("STRING", "Name")}


class World:
    """A held table and one slot's queue."""

    def __init__(self) -> None:
        self.dynamodb = create_held_table()
        self.sqs = boto3.client("sqs")
        self.url = self.sqs.create_queue(
            QueueName="slot-1.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        )["QueueUrl"]
        self.items = HeldItems(HELD_TABLE, self.dynamodb, threads=1)
        self.destination = Destination("1", self.url, 8, "s", SHAPE)

    def store(self, **bounds: int) -> HeldStore:
        """A held store."""
        options: dict[str, Any] = {"days": 14, "per_thing_per_day": 1000, "per_day": 10**6} | bounds
        return HeldStore(HELD_TABLE, self.dynamodb, threads=1, **options)

    def hold(self, *readings: HeldReading) -> None:
        """As the router and connectors do."""
        assert not self.store().hold(readings)

    def replay(
        self, state: str = "unrouted", name: str = "run-1", store: HeldStore | None = None, sqs: Any = None
    ) -> Replayed:
        """Send what is held of the pump."""
        replayer = Replayer(self.items, store or self.store(), Sender(sqs or self.sqs), name)
        return replayer.send(self.items.page(state, "pump", 100).items, self.destination, lambda: True)

    def sent(self) -> list[Parcel]:
        """The parcels in the queue."""
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
        return [decode(message["Body"]) for message in answer.get("Messages", [])]

    def left(self, state: str) -> list[tuple[int, str]]:
        """Time and reason of what is held of the pump."""
        page = self.items.page(state, "pump", 100)
        return [(item.reading.time, item.reading.reason) for item in page.items]


@pytest.fixture
def world() -> Iterator[World]:
    with aws():
        yield World()


def unrouted(at: int, payload: bytes = b'{"temp": 1.5}') -> HeldReading:
    return HeldReading("unrouted", "pump", at, f"0:{at}:0", "unknown_thing", "", "dt/pump", payload)


def refused(at: int, payload: bytes, shape: Mapping[str, Property] = SHAPE) -> HeldReading:
    """As the router holds the refused values of a reading whose others went on."""
    detail = "; ".join(convert_payload(payload, shape).refused)
    return unrouted(at, payload)._replace(state="rejected", reason="value_refused", detail=detail)


def test_readings_go_with_their_times_and_ids_in_a_parcel_that_names_the_replay(world: World) -> None:
    world.hold(unrouted(20), unrouted(10, b'{"temp": "2", "other": 1}'))
    assert world.replay() == ({"sent": 2}, "")
    (parcel,) = world.sent()
    assert parcel.replay == "run-1"
    assert [(entry.time, entry.id, entry.values) for entry in parcel.readings] == [
        (10, "0:10:0", {"temp": 2.0}),
        (20, "0:20:0", {"temp": 1.5}),
    ]
    assert parcel.shapes["s"]["temp"] == Property("NUMBER", "Temp")
    assert world.left("unrouted") == []


def test_another_replay_of_the_same_readings_is_not_dropped_by_sqs_but_a_retry_is(world: World) -> None:
    for name in ("run-1", "run-1", "run-2"):
        world.hold(unrouted(1))
        world.replay(name=name)
    assert [parcel.replay for parcel in world.sent()] == ["run-1", "run-2"]


def test_what_can_not_be_converted_becomes_rejected_and_keeps_its_payload(world: World) -> None:
    world.hold(unrouted(1, b"{"), unrouted(2), unrouted(3, b'{"temp": "hot", "name": "x"}'))
    assert world.replay() == ({"sent": 2, "rejected": 1}, "")
    assert [entry.values for parcel in world.sent() for entry in parcel.readings] == [
        {"temp": 1.5},
        {"name": "x"},
    ]
    assert world.left("unrouted") == []
    assert world.left("rejected") == [(1, "not_json"), (3, "value_refused")]
    assert world.items.page("rejected", "pump", 1).items[0].reading.payload == b"{"


def test_a_rejected_reading_that_is_still_not_right_stays_where_it_is(world: World) -> None:
    rejected = unrouted(1, b"{")._replace(state="rejected", reason="not_json")
    partly = refused(2, b'{"temp": "hot", "name": "x"}')
    mended = unrouted(3)._replace(state="rejected", reason="no_known_property")
    changed = unrouted(4, b"[]")._replace(state="rejected", reason="not_json")
    world.hold(rejected, partly, mended, changed)
    assert world.replay("rejected") == ({"sent": 1, "still_rejected": 2, "rejected": 1}, "")
    assert [entry.time for parcel in world.sent() for entry in parcel.readings] == [3]
    assert world.left("rejected") == [(1, "not_json"), (2, "value_refused"), (4, "not_an_object")]


@pytest.mark.parametrize("came_by", ["", "ops-1"], ids=["held by the router", "held after a replay"])
def test_a_value_that_was_mended_goes_on_while_another_one_is_still_refused(
    world: World, came_by: str
) -> None:
    payload = b'{"temp": "hot", "level": "high", "name": "x"}'
    bad = SHAPE | {"level": Property("NUMBER", "Level")}
    mended = SHAPE | {"level": Property("STRING", "Level")}
    world.hold(refused(1, payload, bad)._replace(replay=came_by))
    world.destination = world.destination._replace(shape=mended)
    assert world.replay("rejected", name="ops-2") == ({"sent": 1}, "")
    assert world.replay("rejected", name="ops-3") == ({"still_rejected": 1}, "")
    ((entry,),) = (parcel.readings for parcel in world.sent())
    assert (entry.time, entry.id, entry.values) == (1, "0:1:0", {"level": "high", "name": "x"})
    (kept,) = world.items.page("rejected", "pump", 100).items
    assert kept.reading == refused(1, payload, mended)._replace(replay=came_by)

    world.destination = world.destination._replace(shape={"temp": Property("STRING", "Temp")})
    assert world.replay("rejected", name="ops-4") == ({"sent": 1}, "")
    assert world.left("rejected") == []


def test_a_reason_that_was_cut_does_not_tell_what_was_sent(world: World) -> None:
    names = [f"property-{number}" for number in range(40)]
    payload = json.dumps(dict.fromkeys(names, "hot") | {"name": "x"}).encode()
    shape = SHAPE | dict.fromkeys(names, Property("NUMBER", ""))
    world.hold(unrouted(1, payload))
    world.destination = world.destination._replace(shape=shape)
    assert world.replay() == ({"sent": 1}, "")
    shape[names[-1]] = Property("STRING", "")
    assert world.replay("rejected", name="run-2") == ({"sent": 1}, "")
    assert [sorted(entry.values) for parcel in world.sent() for entry in parcel.readings] == [
        ["name"],
        ["name", names[-1]],
    ]
    assert world.left("rejected") == [(1, "value_refused")]


def test_a_reading_without_room_for_a_new_reason_stays_with_its_old_one(world: World) -> None:
    payload = b'{"temp": "hot", "name": "x"}'
    world.hold(refused(1, payload)._replace(detail="of before"))
    assert world.replay("rejected", store=world.store(per_thing_per_day=0)) == ({"sent": 1}, "")
    assert world.left("rejected") == [(1, "value_refused")]


def test_converted_values_of_a_parked_reading_go_through_todays_shape(world: World) -> None:
    parked = HeldReading(
        "parked", "pump", 5, "0:5:0", "not_bound", "", "", values='{"temp":7,"old":1}', shape="{}"
    )
    world.hold(parked)
    assert world.replay("parked") == ({"sent": 1}, "")
    ((entry,),) = (parcel.readings for parcel in world.sent())
    assert (entry.time, entry.id, entry.values) == (5, "0:5:0", {"temp": 7.0})


def test_what_is_held_again_before_its_old_item_is_deleted_stays_held(world: World) -> None:
    """A connector may refuse what it was sent sooner than the replay deletes what it has sent."""
    rejected = unrouted(1)._replace(state="rejected", reason="refused_as_malformed")
    world.hold(rejected)

    class RefusedAtOnce:
        def send_message_batch(self, **arguments: Any) -> Any:
            answer = world.sqs.send_message_batch(**arguments)
            world.hold(rejected._replace(replay="ops-1"))
            return answer

    assert world.replay("rejected", name="ops-1", sqs=RefusedAtOnce()) == ({"sent": 1}, "")
    (kept,) = world.items.page("rejected", "pump", 100).items
    assert (kept.reading.id, kept.reading.reason, kept.reading.replay) == (
        "0:1:0",
        "refused_as_malformed",
        "ops-1",
    )


def test_what_has_come_back_from_a_replay_is_left_alone_by_it_and_sent_by_another(world: World) -> None:
    """A page may begin with what was held again of the page before it."""
    world.hold(unrouted(1)._replace(state="rejected", reason="row_refused", replay="ops-1"))
    assert world.replay("rejected", name="ops-1") == ({}, "")
    assert world.left("rejected") == [(1, "row_refused")]
    assert world.replay("rejected", name="ops-2") == ({"sent": 1}, "")
    assert world.left("rejected") == []


def test_what_sqs_did_not_take_stays(world: World) -> None:
    class FailsAfterOne:
        def __init__(self) -> None:
            self.calls = 0

        def send_message_batch(self, **arguments: Any) -> Any:
            self.calls += 1
            if self.calls > 1:
                raise ClientError(
                    {"Error": {"Code": "ServiceUnavailable", "Message": ""}}, "SendMessageBatch"
                )
            return world.sqs.send_message_batch(**arguments)

    big = b'{"name": "' + b"x" * 150_000 + b'"}'
    world.hold(*(unrouted(at, big) for at in range(4)))
    replayed = world.replay(sqs=FailsAfterOne())
    assert replayed.counters == {"sent": 1, "unsent": 3}
    assert "ServiceUnavailable" in replayed.cause
    assert [at for at, _ in world.left("unrouted")] == [1, 2, 3]
    assert world.replay() == ({"sent": 3}, "")


def test_what_finds_no_room_as_rejected_stays_what_it_was_and_nothing_is_in_two_places(
    world: World,
) -> None:
    world.hold(unrouted(1, b"{"), unrouted(2, b"{"), unrouted(3))
    assert world.replay(store=world.store(per_thing_per_day=1)) == (
        {"sent": 1, "rejected": 1, "unsent": 1},
        "",
    )
    assert world.left("rejected") == [(1, "not_json")]
    assert world.left("unrouted") == [(2, "unknown_thing")]


def test_a_reading_whose_refused_value_finds_no_room_is_sent_again_by_another_replay(world: World) -> None:
    world.hold(unrouted(1, b'{"temp": "hot", "name": "x"}'))
    assert world.replay(store=world.store(per_thing_per_day=0)) == ({"unsent": 1}, "")
    assert world.left("unrouted") == [(1, "unknown_thing")]
    assert world.replay(name="run-2") == ({"sent": 1}, "")
    assert world.left("unrouted") == []
    assert world.left("rejected") == [(1, "value_refused")]
    sent = [(entry.time, entry.values) for parcel in world.sent() for entry in parcel.readings]
    assert sent == [(1, {"name": "x"})] * 2


def test_a_reading_that_fits_in_no_message_becomes_rejected(world: World) -> None:
    world.hold(unrouted(1, b'{"name": "' + b"\\u0001" * 45_000 + b'"}'), unrouted(2))
    assert world.replay() == ({"sent": 1, "rejected": 1}, "")
    assert world.left("rejected") == [(1, "too_large")]
