"""Which held readings are sent, in which order, and what is told of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import boto3
import pytest

from lambdas.connector.backlog_store import BacklogStore
from lambdas.shared.control_table import ASSIGNED, REMOVED, ControlTable, ThingChange, ThingRecord
from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldReading, HeldStore
from lambdas.shared.parcel import decode
from lambdas.shared.shape import Property
from ops.__main__ import main
from ops.routing import Routing
from ops.stack import Stack
from tests.aws_mock import CONTROL_TABLE, HELD_TABLE, aws, create_control_table, create_held_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.destination import Destination

FAILURES = "demo-failures"
MINUTE = 60_000
MARCH = 1_772_323_200_000  # 2026-03-01T00:00:00Z


class World:
    """A stack with one slot that serves `pump` and `fan`; `gone` was removed."""

    def __init__(self) -> None:
        self.dynamodb = create_control_table()
        create_held_table()
        self.sqs = boto3.client("sqs")
        self.url = self.sqs.create_queue(
            QueueName="demo-slot-1.fifo",
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )["QueueUrl"]
        self.errors_url = self.sqs.create_queue(QueueName="demo-ingest-errors")["QueueUrl"]
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=FAILURES)
        control = ControlTable(CONTROL_TABLE, self.dynamodb, threads=1)
        control.create_slots(["1"], 8)
        control.set_queue_url("1", self.url)
        control.put_shapes({"s": {"temp": Property("NUMBER", "Temp")}})
        states = {"pump": ASSIGNED, "fan": ASSIGNED, "gone": REMOVED}
        control.assign(
            [ThingChange(None, ThingRecord(name, "1", "s", state, 1)) for name, state in states.items()]
        )
        self.items = HeldItems(HELD_TABLE, self.dynamodb, threads=1)
        self.settings: dict[str, str] = {}

    def hold(
        self,
        thing: str,
        minute: int,
        state: str = "unrouted",
        reason: str = "unknown_thing",
        payload: bytes = b'{"temp": 1}',
    ) -> None:
        """Hold a reading of a minute after March began."""
        at = MARCH + minute * MINUTE
        store = HeldStore(
            HELD_TABLE, self.dynamodb, days=14, per_thing_per_day=10**6, per_day=10**9, threads=1
        )
        store.hold(
            [HeldReading(state, thing, at, f"0:{minute}:0", reason, "", "t", payload)]  # type: ignore[arg-type]
        )

    def mark(self, thing: str) -> None:
        """As the slot's connector does before it parks a reading."""
        BacklogStore(
            self.dynamodb, control_table=CONTROL_TABLE, held_table=HELD_TABLE, slot="1", owner="me"
        ).mark(thing, "not_bound")

    def sent(self) -> list[tuple[str, int]]:
        """Thing and minute of the readings in the queue."""
        found: list[tuple[str, int]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                parcel = decode(message["Body"])
                assert parcel.replay.startswith("ops-")
                found += [(entry.thing, (entry.time - MARCH) // MINUTE) for entry in parcel.readings]
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def left(self) -> list[str]:
        """State and Thing of what is held."""
        return sorted(f"{state} {thing}" for state, thing in self.items.partitions())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    settings = {
        "CONTROL_TABLE": CONTROL_TABLE,
        "HELD_TABLE": HELD_TABLE,
        "HELD_DAYS": "14",
        "HELD_PER_THING_PER_DAY": "1000",
        "HELD_PER_DAY": "1000000",
    }
    lambda_client = SimpleNamespace(
        get_function_configuration=lambda **_: {"Environment": {"Variables": settings}}
    )
    monkeypatch.setattr(Stack, "functions", lambda_client)
    with aws():
        made = World()
        settings["INGEST_ERRORS_QUEUE_URL"] = made.errors_url
        settings["FAILURES_BUCKET"] = FAILURES
        made.settings = settings
        yield made


def replay(*options: str) -> int:
    return main(["replay", "--stack", "demo", *options])


def test_all_states_of_a_thing_go_together_in_time_order(world: World) -> None:
    world.hold("pump", 3)
    world.hold("pump", 1, "rejected", "not_json")
    world.hold("pump", 2, "parked", "not_bound")
    world.hold("fan", 1)
    assert replay("--all") == 0
    assert sorted(world.sent()) == [("fan", 1), ("pump", 1), ("pump", 2), ("pump", 3)]
    assert world.left() == []


def test_order_holds_over_many_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.replay._AT_ONCE", 7)
    monkeypatch.setattr("ops.selection._PAGE", 5)
    for minute in range(40):
        world.hold("pump", minute, *(("rejected", "not_json") if minute % 3 else ()))
    assert replay("--thing", "pump") == 0
    assert world.sent() == [("pump", minute) for minute in range(40)]
    assert world.left() == []


def test_only_what_was_asked_for_is_sent(world: World) -> None:
    for minute in range(4):
        world.hold("pump", minute)
        world.hold("fan", minute, "rejected", "not_json")
    assert replay("--thing", "pump", "--from", "2026-03-01T00:01:00Z", "--to", "2026-03-01T00:02") == 0
    assert world.sent() == [("pump", 1), ("pump", 2)]
    assert replay("--state", "rejected", "--from", "2026-03-01T01:03+01:00") == 0
    assert world.sent() == [("fan", 3)]
    assert replay("--reason", "not_json", "--to", "2026-03-01") == 0
    assert world.sent() == [("fan", 0)]
    assert world.left() == ["rejected fan"] * 2 + ["unrouted pump"] * 2


def test_what_can_not_be_sent_is_left_and_its_reason_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.hold("stranger", 1)
    world.hold("gone", 1)
    world.hold("", 1, "rejected", "no_thing")
    world.hold("pump", 1, "parked", "not_bound")
    world.hold("pump", 2)
    world.mark("pump")
    assert replay("--all") == 0
    shown = capsys.readouterr().out
    assert world.sent() == [("pump", 2)]
    assert "2  left alone: the Thing is not known" in shown
    assert "1  left alone: it came without a Thing's name" in shown
    assert "1  left alone: its connector sends it" in shown
    assert world.left() == ["parked pump", "rejected ", "unrouted gone", "unrouted stranger"]


def test_what_has_no_name_is_not_sent_as_of_a_thing_that_is_called_like_its_place(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.hold("", 1, "rejected", "no_thing")
    ControlTable(CONTROL_TABLE, world.dynamodb, threads=1).assign(
        [ThingChange(None, ThingRecord("-", "1", "s", ASSIGNED, 1))]
    )
    assert replay("--thing", "-") == 0
    assert "1  left alone: it came without a Thing's name" in capsys.readouterr().out
    assert (world.sent(), world.left()) == ([], ["rejected "])


def test_a_thing_that_is_parked_while_others_are_sent_is_left_to_its_connector(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.hold("fan", 1, "parked", "not_bound")
    world.hold("pump", 1)
    find = Routing.find

    def find_late(routing: Routing, thing: str) -> tuple[Destination | None, str]:
        if thing == "pump":
            world.mark("pump")
            world.hold("pump", 2, "parked", "not_bound")
        return find(routing, thing)

    monkeypatch.setattr(Routing, "find", find_late)
    assert replay("--all") == 0
    assert "1  left alone: its connector sends it" in capsys.readouterr().out
    assert sorted(world.sent()) == [("fan", 1), ("pump", 1)]
    assert world.left() == ["parked pump"]


def test_a_thing_that_is_parked_again_while_it_is_sent_is_left_to_its_connector_from_then_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.replay._AT_ONCE", 1)
    for minute in range(3):
        world.hold("pump", minute, "parked", "not_bound")
    asked = iter([False, True])
    monkeypatch.setattr(Routing, "catches_up", lambda *_: next(asked))
    assert replay("--all") == 0
    assert world.sent() == [("pump", 0)]
    assert world.left() == ["parked pump"] * 2


def test_a_dry_run_tells_counts_by_thing_and_reason_and_changes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for minute in range(3):
        world.hold("pump", minute)
    world.hold("fan", 1, "rejected", "not_json")
    world.hold("stranger", 1)
    before = world.left()
    assert replay("--all", "--dry-run") == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == ["would", "send", "4", "readings", "of", "2", "Things"]
    assert shown[1:3] == [["1", "rejected", "not_json"], ["3", "unrouted", "unknown_thing"]]
    assert shown[3:5] == [["3", "pump"], ["1", "fan"]]
    assert shown[5][:4] == ["1", "left", "alone:", "the"]
    assert (world.left(), world.sent()) == (before, [])


def test_readings_that_sqs_does_not_take_stay_and_the_command_fails(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.hold("pump", 1)
    world.sqs.delete_queue(QueueUrl=world.url)
    assert replay("--all") == 1
    shown = capsys.readouterr()
    assert "sent 0 readings" in shown.out
    assert "error: pump: " in shown.err
    assert "run the same command again" in shown.err
    assert world.left() == ["unrouted pump"]


def test_what_finds_no_room_as_rejected_stays_and_the_command_says_why_it_fails(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.settings["HELD_PER_THING_PER_DAY"] = "0"
    world.hold("pump", 1, payload=b"{")
    world.hold("pump", 2)
    assert replay("--all") == 1
    shown = capsys.readouterr()
    assert "sent 1 readings" in shown.out
    assert "1  stay held" in shown.out
    assert "finds no room as rejected" in shown.err
    assert world.left() == ["unrouted pump"]


def test_a_thing_whose_slot_takes_nothing_is_told_with_what_to_do(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.hold("pump", 1)
    ControlTable(CONTROL_TABLE, world.dynamodb).stop_slot("1")
    assert replay("--thing", "pump") == 0
    assert "slot 1 takes no readings; run discovery" in capsys.readouterr().out
    assert world.left() == ["unrouted pump"]
