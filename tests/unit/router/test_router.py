"""One batch from end to end: what arrives, what is held, what is reported, and that the sums are right."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.router.router import Outcome, Router
from lambdas.router.routes import Routes
from lambdas.shared.convert import convert_payload
from lambdas.shared.held_store import HeldStoreUnavailable
from lambdas.shared.own_time import OwnTimes
from lambdas.shared.parcel import MAX_BYTES, Parcel, PresenceChange, Reading, decode, lane_of
from lambdas.shared.send import Sender
from tests.unit.router.fakes import (
    PUMP_ID,
    FakeClients,
    FakeHeldStore,
    FakeRegistry,
    FakeSqs,
    client_error,
    queue_url,
)
from tests.unit.router.kinesis import FIRST_SEQUENCE, NOW, lifecycle, record, telemetry

if TYPE_CHECKING:
    import random

    from mypy_boto3_sqs import SQSClient


class Stack:
    """A router on fakes; Things pump-0 to pump-9 are on slots 0 and 1."""

    def __init__(self, *, hold_unregistered: bool = True, time_paths: dict[str, str] | None = None) -> None:
        self.registry = FakeRegistry({f"pump-{number}": str(number % 2) for number in range(10)})
        self.sqs = FakeSqs()
        self.held = FakeHeldStore()
        self.routes = Routes(self.registry, 60)
        sender = Sender(cast("SQSClient", self.sqs))
        self.clients = FakeClients()
        self.router = Router(
            self.routes,
            sender,
            self.held,
            self.clients,
            own_times=OwnTimes(time_paths or {}, 60),
            hold_unregistered=hold_unregistered,
        )

    def route(self, *records: dict[str, Any], seconds_left: float = 60.0) -> Outcome:
        """Route records; check what must hold of every outcome."""
        outcome = self.router.route(records, lambda: seconds_left)
        assert_conserved(outcome)
        return outcome

    def delivered(self) -> list[Reading]:
        """Readings in the queues, lane by lane."""
        return [reading for parcel in self.parcels() for reading in parcel.readings]

    def presence(self) -> list[PresenceChange]:
        """Changes of presence in the queues, lane by lane."""
        return [change for parcel in self.parcels() for change in parcel.presence]

    def parcels(self) -> list[Parcel]:
        """Parcels in the queues, lane by lane."""
        lanes = sorted({(queue, group) for queue, group, _ in self.sqs.messages})
        return [decode(body) for queue, group in lanes for body in self.sqs.bodies(queue, group)]


def assert_conserved(outcome: Outcome) -> None:
    counters = outcome.counters
    if "registry_unavailable" in counters:
        assert counters == {"registry_unavailable": 1}
        return
    ways = ("routed", "held_unrouted", "held_rejected", "dropped_unregistered", "dropped_held_full")
    assert counters["readings_in"] == sum(counters[way] for way in ways)
    kinds = ("presence_routed", "presence_unknown", "presence_ignored", "presence_rejected")
    assert counters["presence_in"] == sum(counters[kind] for kind in kinds)
    assert all(value >= 0 for value in counters.values())


def sequence_id(number: int) -> str:
    return f"0:{FIRST_SEQUENCE + number}:0"


@pytest.fixture
def stack() -> Stack:
    return Stack()


def test_a_reading_arrives_converted_in_its_slot_and_lane(stack: Stack) -> None:
    outcome = stack.route(telemetry({"temp": "21", "running": True}, "pump-1", 4))
    assert outcome.unsettled is None
    ((queue, group, body),) = stack.sqs.messages
    assert (queue, group) == (queue_url("1"), f"lane-{lane_of('pump-1', 8)}")
    parcel = decode(body)
    assert parcel.readings == [
        Reading("pump-1", NOW + 4, sequence_id(4), PUMP_ID, {"temp": 21.0, "running": True})
    ]
    assert stack.held.items == {}


def test_an_unknown_thing_is_held_as_it_came(stack: Stack) -> None:
    outcome = stack.route(telemetry(b'{"temp" : 1}', "stranger"), telemetry({"temp": 1}, "pump-1", 1))
    (item,) = stack.held.items.values()
    assert (item.state, item.thing, item.reason) == ("unrouted", "stranger", "unknown_thing")
    assert (item.payload, item.topic, item.time) == (b'{"temp" : 1}', "dt/stranger", NOW)
    assert (outcome.counters["held_unrouted"], outcome.counters["routed"]) == (1, 1)


def test_an_unknown_thing_is_dropped_and_counted_when_the_stack_says_so() -> None:
    stack = Stack(hold_unregistered=False)
    outcome = stack.route(telemetry({"temp": 1}, "stranger"))
    assert stack.held.items == {}
    assert outcome.counters["dropped_unregistered"] == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\x00", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"colour": 1}', "no_known_property"),
        (b'{"temp": {}}', "all_values_refused"),
        (b'{"temp": null}', "only_nulls"),
        (b'{"serial": "%s"}' % (b"x" * MAX_BYTES), "too_large"),
        (b"[" * 100_000, "not_json"),
    ],
)
def test_a_bad_payload_is_held_whole_and_its_neighbours_arrive(
    stack: Stack, payload: bytes, reason: str
) -> None:
    outcome = stack.route(
        telemetry({"count": 1}, "pump-1", 0),
        telemetry(payload, "pump-1", 1),
        telemetry({"count": 2}, "pump-1", 2),
    )
    assert outcome.unsettled is None
    assert [reading.values for reading in stack.delivered()] == [{"count": 1}, {"count": 2}]
    (item,) = stack.held.items.values()
    assert (item.state, item.thing, item.reason, item.payload) == ("rejected", "pump-1", reason, payload)
    assert item.id == sequence_id(1)
    assert (outcome.counters["routed"], outcome.counters["held_rejected"]) == (2, 1)


def test_a_broken_envelope_is_held_whole_and_its_neighbours_arrive(stack: Stack) -> None:
    outcome = stack.route(record(b"junk", 0), telemetry({"count": 1}, "pump-1", 1))
    (item,) = stack.held.items.values()
    assert (item.reason, item.thing, item.payload) == ("bad_envelope", "", b"junk")
    assert (outcome.counters["routed"], outcome.counters["held_rejected"]) == (1, 1)


def test_the_good_values_of_a_partly_refused_reading_arrive_and_the_refused_are_held(stack: Stack) -> None:
    outcome = stack.route(telemetry({"temp": "warm", "count": 1, "colour": "red", "serial": None}, "pump-1"))
    assert [reading.values for reading in stack.delivered()] == [{"count": 1}]
    (item,) = stack.held.items.values()
    assert (item.state, item.reason) == ("rejected", "value_refused")
    assert item.detail == 'temp: NUMBER takes a finite number; got the text "warm"'
    assert b'"colour"' in (item.payload or b"")
    assert (outcome.counters["readings_in"], outcome.counters["routed"]) == (1, 1)
    assert outcome.counters["held_rejected"] == 0
    values = [outcome.counters[name] for name in ("values_refused", "values_null", "values_unmapped")]
    assert values == [1, 1, 1]


def test_a_fault_of_the_code_in_one_record_is_that_records(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(payload: bytes, shape: Any, time_path: Any) -> Any:
        if b"13" in payload:
            raise ZeroDivisionError("thirteen")
        return convert_payload(payload, shape, time_path)

    monkeypatch.setattr("lambdas.router.batch.convert_payload", faulty)
    outcome = stack.route(*(telemetry({"count": 12 + n}, "pump-1", n) for n in range(3)))
    assert outcome.unsettled is None
    assert [reading.values for reading in stack.delivered()] == [{"count": 12}, {"count": 14}]
    (item,) = stack.held.items.values()
    assert (item.reason, item.detail) == ("internal", "ZeroDivisionError: thirteen")
    assert item.payload == b'{"count": 13}'


def test_a_fault_of_the_code_in_one_envelope_is_that_records(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_record: Any) -> Any:
        raise ZeroDivisionError("thirteen")

    monkeypatch.setattr("lambdas.router.batch.read_record", faulty)
    outcome = stack.route(record(b"bytes"))
    (item,) = stack.held.items.values()
    assert (item.reason, item.payload) == ("internal", b"bytes")
    assert outcome.counters["held_rejected"] == 1


def test_an_unavailable_registry_reports_the_first_record_and_touches_nothing(stack: Stack) -> None:
    stack.registry.down = True
    outcome = stack.route(record(b"junk", 0), telemetry({"count": 1}, "pump-1", 1))
    assert (outcome.unsettled, outcome.counters) == (0, {"registry_unavailable": 1})
    assert "ConnectionError" in outcome.cause
    assert stack.held.items == {}
    assert stack.sqs.messages == []


def test_a_failed_message_reports_its_first_record_and_later_ones_do_not_count(stack: Stack) -> None:
    stack.sqs.verdict = lambda queue, _entry: "InternalError" if queue == queue_url("1") else None
    outcome = stack.route(
        telemetry(b"junk", "pump-0", 0),
        telemetry({"count": 1}, "pump-0", 1),
        telemetry({"count": 2}, "pump-1", 2),
        telemetry(b"junk", "pump-0", 3),
        telemetry({"count": 3}, "pump-0", 4),
    )
    assert outcome.unsettled == 2
    assert (outcome.counters["readings_in"], outcome.counters["routed"]) == (2, 1)
    assert [item.id for item in stack.held.items.values()] == [sequence_id(0)]


def test_refused_values_of_an_unsent_reading_wait_for_it(stack: Stack) -> None:
    stack.sqs.verdict = lambda _queue, _entry: "InternalError"
    partly = telemetry({"temp": "warm", "count": 1}, "pump-1")
    assert stack.route(partly).unsettled == 0
    assert stack.held.items == {}
    stack.sqs.verdict = lambda _queue, _entry: None
    stack.route(partly)
    assert [item.reason for item in stack.held.items.values()] == ["value_refused"]


def test_a_missing_queue_makes_the_router_read_the_registry_again(stack: Stack) -> None:
    stack.sqs.verdict = lambda _queue, _entry: client_error("AWS.SimpleQueueService.NonExistentQueue")
    assert stack.route(telemetry({"count": 1}, "pump-1")).unsettled == 0
    stack.registry.slot_items["1"] = stack.registry.slot_items["1"]._replace(queue_url=queue_url("new"))
    stack.sqs.verdict = lambda _queue, _entry: None
    assert stack.route(telemetry({"count": 1}, "pump-1")).unsettled is None
    assert stack.sqs.messages[0][0] == queue_url("new")


def test_time_running_out_reports_what_is_unsent(stack: Stack) -> None:
    left = iter([60.0, 60.0, 1.0, 1.0])
    records = [telemetry({"serial": "x" * 100_000}, "pump-1", n) for n in range(6)]
    outcome = stack.router.route(records, lambda: next(left))
    assert_conserved(outcome)
    assert outcome.unsettled == outcome.counters["routed"] == len(stack.delivered()) > 0


def test_time_running_out_while_holding_reports_what_is_not_held(stack: Stack) -> None:
    left = iter([60.0, 20.0, 20.0, 5.0, 5.0])
    records = [telemetry({"temp": 1}, "stranger", n) for n in range(1000)]
    outcome = stack.router.route(records, lambda: next(left))
    assert_conserved(outcome)
    assert outcome.unsettled == outcome.counters["held_unrouted"] == len(stack.held.items)
    assert 0 < len(stack.held.items) < 1000
    assert "time" in outcome.cause


def test_a_short_invocation_still_gets_something_done(stack: Stack) -> None:
    left = iter([5.0, 4.0, 3.0])
    outcome = stack.router.route([telemetry({"count": 1}, "pump-1")], lambda: next(left))
    assert outcome.unsettled is None


@pytest.mark.parametrize("error", [HeldStoreUnavailable("unwritten"), client_error("InternalServerError")])
def test_an_unavailable_held_store_reports_the_first_record_it_did_not_take(
    stack: Stack, error: Exception
) -> None:
    stack.held.error = error
    outcome = stack.route(
        telemetry({"count": 1}, "pump-1", 0),
        telemetry(b"junk", "pump-1", 1),
        telemetry({"count": 2}, "pump-1", 2),
    )
    assert outcome.unsettled == 1
    assert outcome.counters["readings_in"] == outcome.counters["routed"] == 1
    assert "held store" in outcome.cause


def test_what_the_held_store_has_no_room_for_is_counted_as_dropped(stack: Stack) -> None:
    stack.held.room = {"unknown_thing": 1, "not_json": 0, "value_refused": 0}
    outcome = stack.route(
        telemetry({"temp": 1}, "stranger", 0),
        telemetry({"temp": 1}, "stranger", 1),
        telemetry(b"junk", "pump-1", 2),
        telemetry({"temp": "warm", "count": 1}, "pump-1", 3),
    )
    counted = [outcome.counters[n] for n in ("held_unrouted", "held_rejected", "dropped_held_full", "routed")]
    assert counted == [1, 0, 2, 1]
    assert outcome.counters["readings_in"] == sum(counted)
    details = {name: number for name, number in outcome.counters.items() if ":" in name}
    # The refused value's reading went on, so it is in no sum.
    assert details == {
        "dropped_held_full:unknown_thing": 1,
        "dropped_held_full:not_json": 1,
        "dropped_held_full:value_refused": 1,
    }


def test_a_batch_given_again_sends_the_same_bytes_and_holds_the_same_items(stack: Stack) -> None:
    records = [telemetry({"temp": n, "count": "x"}, f"pump-{n % 12}", n) for n in range(50)]
    stack.route(*records)
    first, held = list(stack.sqs.messages), dict(stack.held.items)
    stack.sqs.messages.clear()
    stack.route(*records)
    assert sorted(stack.sqs.messages) == sorted(first)
    assert stack.held.items == held


def test_a_reading_has_the_time_its_payload_tells_where_that_can_be_believed() -> None:
    stack = Stack(time_paths={"dt/+": "header.ts"})
    own = [NOW - 3_600_000, str(NOW - 1), NOW + 3_600_000, "soon", None]
    records = [telemetry({"count": n, "header": {"ts": ts}}, "pump-1", n) for n, ts in enumerate(own)]
    other = telemetry({"count": 9, "header": {"ts": 1}}, "pump-1", 9, s="other/topic")
    outcome = stack.route(*records, telemetry({"count": 5, "header": 5}, "pump-1", 5), other)
    assert [(reading.values["count"], reading.time) for reading in stack.delivered()] == [
        (0, NOW - 3_600_000),
        (1, NOW - 1),
        (2, NOW + 2),
        (3, NOW + 3),
        (4, NOW + 4),
        (5, NOW + 5),
        (9, NOW + 9),
    ]
    assert [reading.broker_time for reading in stack.delivered()] == [NOW, NOW + 1, *[None] * 5]
    assert (outcome.counters["times_clamped"], outcome.counters["times_unreadable"]) == (1, 3)


def test_a_held_reading_waits_under_its_own_time() -> None:
    stack = Stack(time_paths={"dt/#": "ts"})
    own = NOW - 3_600_000
    outcome = stack.route(
        telemetry({"count": 1, "ts": own}, "stranger", 0),
        telemetry(b"junk", "stranger", 1),
        telemetry({"count": 1, "temp": "warm", "ts": own + 2}, "pump-1", 2),
        telemetry({"colour": "red", "ts": own + 3}, "pump-1", 3),
        telemetry({"count": 1, "ts": own}, "stranger", 4, s="other/topic"),
    )
    held = {item.id: (item.reason, item.time) for item in stack.held.items.values()}
    assert held == {
        sequence_id(0): ("unknown_thing", own),
        sequence_id(1): ("unknown_thing", NOW + 1),
        sequence_id(2): ("value_refused", own + 2),
        sequence_id(3): ("no_known_property", own + 3),
        sequence_id(4): ("unknown_thing", NOW + 4),
    }
    assert outcome.counters["times_unreadable"] == 1


def test_times_of_readings_that_are_not_settled_do_not_count() -> None:
    stack = Stack(time_paths={"#": "ts"})
    stack.sqs.verdict = lambda queue, _entry: "InternalError" if queue == queue_url("1") else None
    outcome = stack.route(telemetry({"count": 1}, "pump-0", 0), telemetry({"count": 1}, "pump-1", 1))
    assert (outcome.unsettled, outcome.counters["times_unreadable"]) == (1, 1)


def test_an_empty_batch_is_settled(stack: Stack) -> None:
    assert stack.route().unsettled is None


GOOD, PARTLY, JUNK, BROKEN, PRESENT, HUGE = "good", "partly", "junk", "broken", "present", "huge"
kinds = st.sampled_from([GOOD, GOOD, GOOD, PARTLY, JUNK, BROKEN, PRESENT, HUGE])


def make_record(kind: str, thing: str, number: int) -> dict[str, Any]:
    if kind in (BROKEN, PRESENT):
        return record(b"junk", number) if kind == BROKEN else lifecycle(thing, number=number)
    payloads: dict[str, Any] = {
        GOOD: {"count": number},
        PARTLY: {"count": number, "temp": []},
        JUNK: b"junk",
        HUGE: {"count": number, "serial": "x" * 90_000},
    }
    return telemetry(payloads[kind], thing, number)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(kinds, st.sampled_from([f"pump-{n}" for n in range(12)])), max_size=40),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.3, 0.8]),
    st.sampled_from([0, 3, 100]),
)
def test_through_any_failures_and_retries_every_reading_ends_somewhere_in_order_and_is_counted_once(
    drawn: list[tuple[str, str]], dice: random.Random, failing: float, room: int
) -> None:
    stack = Stack()
    stack.held.room = dict.fromkeys(("unknown_thing", "not_json", "bad_envelope"), room)
    lock = threading.Lock()

    def verdict(_queue: str, _entry: dict[str, Any]) -> str | None:
        with lock:
            return "InternalError" if dice.random() < failing else None

    stack.sqs.verdict = verdict
    records = [make_record(kind, thing, n) for n, (kind, thing) in enumerate(drawn)]
    start = 0
    kept = ("routed", "held_unrouted", "held_rejected", "dropped_held_full")
    totals = dict.fromkeys(("readings_in", *kept), 0)
    for attempt in range(1000):
        if attempt == 20:
            stack.sqs.verdict = lambda _queue, _entry: None
        outcome = stack.route(*records[start:])
        totals = {name: total + outcome.counters[name] for name, total in totals.items()}
        if outcome.unsettled is None:
            break
        start += outcome.unsettled
    known = {f"pump-{n}" for n in range(10)}
    wanted: dict[str, list[str]] = {}
    for number, (kind, thing) in enumerate(drawn):
        if kind in (GOOD, PARTLY, HUGE) and thing in known:
            wanted.setdefault(thing, []).append(sequence_id(number))
    arrived: dict[str, list[str]] = {}
    for reading in stack.delivered():
        arrived.setdefault(reading.thing, []).append(reading.id)
    events: dict[str, list[str]] = {}
    for number, (kind, thing) in enumerate(drawn):
        if kind == PRESENT and thing in known:
            events.setdefault(thing, []).append(sequence_id(number))
    told: dict[str, list[str]] = {}
    for change in stack.presence():
        told.setdefault(change.thing, []).append(change.id)
    assert {thing: list(dict.fromkeys(ids)) for thing, ids in told.items()} == events
    # Sent twice is allowed, lost or overtaken isn't: what arrives first of each is in order and complete.
    assert {thing: list(dict.fromkeys(ids)) for thing, ids in arrived.items()} == wanted
    presence = sum(kind == PRESENT for kind, _ in drawn)
    assert totals["readings_in"] == len(drawn) - presence
    assert totals["readings_in"] == sum(totals[name] for name in kept)
    assert totals["routed"] == sum(map(len, wanted.values()))
    states = [item.state for item in stack.held.items.values() if item.reason != "value_refused"]
    assert totals["held_unrouted"] == states.count("unrouted")
    assert totals["held_rejected"] == states.count("rejected")
