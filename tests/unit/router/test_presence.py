"""Lifecycle events: whose presence they change, what is remembered, and what never happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdas.router.presence import Spoken
from lambdas.shared.client_state import ClientState
from lambdas.shared.parcel import PresenceChange, decode, lane_of
from tests.unit.router.fakes import queue_url
from tests.unit.router.kinesis import NOW, lifecycle, record, telemetry
from tests.unit.router.test_router import Stack, sequence_id


@pytest.fixture
def stack() -> Stack:
    return Stack()


def counted(counters: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counters.items() if count and name.startswith("presence")}


def test_a_lifecycle_event_reaches_the_lane_of_the_thing_of_that_name(stack: Stack) -> None:
    outcome = stack.route(lifecycle("pump-1", "disconnected", 4, versionNumber=7))
    ((queue, group, body),) = stack.sqs.messages
    assert (queue, group) == (queue_url("1"), f"lane-{lane_of('pump-1', 8)}")
    parcel = decode(body)
    assert parcel.readings == []
    assert parcel.presence == (PresenceChange("pump-1", False, NOW + 4, 7, "pump-1", sequence_id(4)),)  # noqa: FBT003
    assert counted(outcome.counters) == {"presence_in": 1, "presence_routed": 1}
    assert outcome.counters["readings_in"] == 0
    assert outcome.unknown == frozenset()
    assert stack.held.items == {}
    assert stack.clients.states == {}


def test_presence_and_readings_of_a_lane_share_a_message(stack: Stack) -> None:
    stack.route(
        lifecycle("pump-1", "connected", 0),
        telemetry({"count": 1}, "pump-1", 1),
        lifecycle("pump-1", "disconnected", 2),
        telemetry({"count": 2}, "pump-1", 3),
    )
    (parcel,) = stack.parcels()
    assert [reading.id for reading in parcel.readings] == [sequence_id(1), sequence_id(3)]
    assert [(change.connected, change.id) for change in parcel.presence] == [
        (True, sequence_id(0)),
        (False, sequence_id(2)),
    ]


def test_a_batch_given_again_sends_the_same_bytes(stack: Stack) -> None:
    records = [
        lifecycle("gateway", "connected", 0),
        *(telemetry({"count": n}, f"pump-{n % 5}", n, c="gateway") for n in range(1, 20)),
        lifecycle("gateway", "disconnected", 20),
        lifecycle("stranger", "connected", 21),
    ]
    stack.route(*records)
    first, states = list(stack.sqs.messages), dict(stack.clients.states)
    stack.sqs.messages.clear()
    stack.route(*records)
    assert sorted(stack.sqs.messages) == sorted(first)
    assert stack.clients.states == states


def test_an_event_whose_message_fails_is_unsettled_and_not_counted(stack: Stack) -> None:
    stack.sqs.verdict = lambda queue, _entry: "InternalError" if queue == queue_url("1") else None
    outcome = stack.route(lifecycle("pump-0", number=0), lifecycle("pump-1", number=1))
    assert outcome.unsettled == 1
    assert counted(outcome.counters) == {"presence_in": 1, "presence_routed": 1}


def test_an_event_whose_message_fails_with_a_later_reading_is_given_again_with_it(stack: Stack) -> None:
    stack.sqs.verdict = lambda _queue, _entry: "InternalError"
    outcome = stack.route(lifecycle("pump-1", number=0), telemetry({"count": 1}, "pump-1", 1))
    assert outcome.unsettled == 0


def test_an_event_that_fits_in_no_message_is_counted_and_stops_nobody(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.shared.pack.MAX_BYTES", 200)
    stack.clients.things["g" * 150] = {"pump-1"}
    outcome = stack.route(lifecycle("g" * 150), lifecycle("pump-1", number=1))
    assert counted(outcome.counters) == {"presence_in": 2, "presence_rejected": 1, "presence_routed": 1}
    assert outcome.unsettled is None
    assert stack.held.items == {}


@pytest.mark.parametrize("kind", ["connect_failed", "subscribed", ""])
def test_other_lifecycle_events_are_counted_and_nothing_else(stack: Stack, kind: str) -> None:
    outcome = stack.route(lifecycle("pump-1", kind))
    assert counted(outcome.counters) == {"presence_in": 1, "presence_ignored": 1}
    assert (stack.sqs.messages, stack.held.items, stack.registry.reads) == ([], {}, [])


def test_a_malformed_lifecycle_event_is_held_with_the_reason_and_its_neighbours_arrive(stack: Stack) -> None:
    outcome = stack.route(lifecycle("pump-1", timestamp="now"), telemetry({"count": 1}, "pump-1", 1))
    (item,) = stack.held.items.values()
    assert (item.state, item.reason, item.thing) == ("rejected", "bad_presence", "")
    assert json.loads(item.payload or b"")["clientId"] == "pump-1"
    assert counted(outcome.counters) == {"presence_in": 1, "presence_rejected": 1}
    assert (outcome.counters["readings_in"], outcome.counters["held_rejected"]) == (1, 0)


def test_a_malformed_event_that_the_held_store_has_no_room_for_is_no_lost_reading(stack: Stack) -> None:
    stack.held.room = {"bad_presence": 0}
    outcome = stack.route(lifecycle("pump-1", timestamp="now"))
    assert counted(outcome.counters) == {"presence_in": 1, "presence_rejected": 1}
    assert outcome.counters["dropped_held_full"] == 0


def test_a_client_that_is_no_thing_is_remembered_never_held_and_never_wanted(stack: Stack) -> None:
    outcome = stack.route(lifecycle("stranger", "connected", 5, versionNumber=2))
    assert counted(outcome.counters) == {"presence_in": 1, "presence_unknown": 1}
    assert stack.clients.states == {"stranger": ClientState(connected=True, time=NOW + 5, version=2)}
    assert outcome.unknown == frozenset()
    assert (stack.sqs.messages, stack.held.items) == ([], {})


def test_a_thousand_foreign_clients_cost_three_round_trips_and_hold_nothing(stack: Stack) -> None:
    outcome = stack.route(*(lifecycle(f"dashboard-{n}", number=n) for n in range(1000)))
    assert outcome.unsettled is None
    assert counted(outcome.counters) == {"presence_in": 1000, "presence_unknown": 1000}
    assert (stack.clients.reads, stack.clients.writes, len(stack.registry.reads)) == (1, 1, 1)
    assert len(stack.clients.states) == 1000
    assert (stack.sqs.messages, stack.held.items, outcome.unknown) == ([], {}, frozenset())


def test_a_stale_event_of_a_foreign_client_overwrites_nothing(stack: Stack) -> None:
    newest = ClientState(connected=True, time=NOW + 1000, version=5)
    stack.clients.states["stranger"] = newest
    stack.route(lifecycle("stranger", "disconnected", 0, versionNumber=4))
    assert stack.clients.states == {"stranger": newest}
    assert stack.clients.writes == 0
    stack.route(lifecycle("stranger", "disconnected", 0, versionNumber=5))
    assert stack.clients.states["stranger"].connected is False


def test_of_several_events_of_a_foreign_client_the_newest_is_remembered_whatever_their_order(
    stack: Stack,
) -> None:
    stack.route(
        lifecycle("stranger", "connected", 2, versionNumber=1),
        lifecycle("stranger", "disconnected", 1, versionNumber=0),
        lifecycle("stranger", "connected", 0, versionNumber=0),
    )
    assert stack.clients.states == {"stranger": ClientState(connected=True, time=NOW + 2, version=1)}


def things_told(stack: Stack) -> list[str]:
    return sorted(change.thing for change in stack.presence())


def test_a_gateways_presence_moves_every_thing_it_spoke_for(stack: Stack) -> None:
    stack.route(*(telemetry({"count": 1}, f"pump-{n}", n, c="gateway") for n in range(3)))
    assert stack.clients.things == {"gateway": {"pump-0", "pump-1", "pump-2"}}
    stack.sqs.messages.clear()
    outcome = stack.route(lifecycle("gateway", "disconnected", 9))
    assert things_told(stack) == ["pump-0", "pump-1", "pump-2"]
    assert {(change.client, change.connected, change.time) for change in stack.presence()} == {
        ("gateway", False, NOW + 9)
    }
    assert counted(outcome.counters) == {"presence_in": 1, "presence_routed": 1}
    assert stack.clients.states == {}


def test_a_gateway_that_is_a_thing_moves_itself_too(stack: Stack) -> None:
    stack.route(telemetry({"count": 1}, "pump-2", 0, c="pump-1"))
    stack.sqs.messages.clear()
    stack.route(lifecycle("pump-1", "connected", 1))
    assert things_told(stack) == ["pump-1", "pump-2"]


def test_a_gateway_moves_what_it_speaks_for_in_the_very_same_batch(stack: Stack) -> None:
    stack.route(lifecycle("gateway", "connected", 0), telemetry({"count": 1}, "pump-3", 1, c="gateway"))
    assert things_told(stack) == ["pump-3"]


def test_a_gateways_things_that_the_registry_no_longer_knows_are_left_out(stack: Stack) -> None:
    stack.clients.things["gateway"] = {"pump-1", "gone"}
    stack.route(lifecycle("gateway", "connected"))
    assert things_told(stack) == ["pump-1"]
    stack.clients.things["other"] = {"gone"}
    outcome = stack.route(lifecycle("other", "connected"))
    assert outcome.counters["presence_unknown"] == 1


@pytest.mark.parametrize(
    "entry",
    [
        telemetry({"count": 1}, "pump-1", 0),
        telemetry({"count": 1}, "pump-1", 0, c="n/a"),
        telemetry({"count": 1}, "pump-1", 0, c=""),
        telemetry({"count": 1}, "stranger", 0, c="gateway"),
    ],
)
def test_who_speaks_for_itself_over_https_or_for_no_thing_is_no_gateway(
    stack: Stack, entry: dict[str, Any]
) -> None:
    stack.route(entry)
    assert (stack.clients.things, stack.clients.writes, stack.clients.reads) == ({}, 0, 0)


def test_who_spoke_for_whom_is_noted_once(stack: Stack) -> None:
    for number in range(3):
        stack.route(telemetry({"count": 1}, "pump-1", number, c="gateway"))
    assert stack.clients.writes == 1
    stack.route(telemetry({"count": 1}, "pump-2", 3, c="gateway"))
    assert stack.clients.writes == 2


def test_who_spoke_for_whom_is_noted_again_after_a_day_and_when_there_are_too_many() -> None:
    now = [0.0]
    spoken = Spoken(lambda: now[0])
    pair = {("gateway", "pump-1")}
    assert spoken.unnoted(pair) == {"gateway": {"pump-1"}}
    assert spoken.unnoted(pair) == {"gateway": {"pump-1"}}, "not noted yet"
    spoken.note(pair)
    assert spoken.unnoted(pair) == {}
    now[0] = 86_400.0
    assert spoken.unnoted(pair) == {"gateway": {"pump-1"}}
    spoken.note({("gateway", str(number)) for number in range(200_000)})
    assert spoken.unnoted({("gateway", "1")}) == {"gateway": {"1"}}


def test_telemetry_goes_on_when_nothing_can_be_noted_and_it_is_noted_later(stack: Stack) -> None:
    stack.clients.full = True
    outcome = stack.route(telemetry({"count": 1}, "pump-1", 0, c="gateway"), lifecycle("stranger", number=1))
    assert outcome.unsettled is None
    assert len(stack.delivered()) == 1
    stack.clients.full = False
    stack.route(telemetry({"count": 1}, "pump-1", 2, c="gateway"))
    assert stack.clients.things == {"gateway": {"pump-1"}}


def test_presence_waits_while_what_is_remembered_cannot_be_read(stack: Stack) -> None:
    stack.clients.down = True
    outcome = stack.route(telemetry({"count": 1}, "pump-1", 0), lifecycle("pump-1", number=1))
    assert (outcome.unsettled, outcome.counters) == (0, {"registry_unavailable": 1})
    assert stack.sqs.messages == []


def test_a_record_that_is_neither_is_a_bad_envelope(stack: Stack) -> None:
    stack.route(record(b'{"clientId": "pump-1"}'))
    assert [item.reason for item in stack.held.items.values()] == ["bad_envelope"]
