"""Writes and reads made in ThingWorx, through the connector function, to shadows and back."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import boto3
import orjson
import pytest
from botocore.exceptions import ClientError

from lambdas.connector import handler, life, serve, successor, timing
from lambdas.connector.handover import Patience
from lambdas.shared.control_table import ASSIGNED, ThingChange, ThingRecord
from lambdas.shared.parcel import Reading, encode, lane_of
from lambdas.shared.shape import Property
from lambdas.thingworx.alwayson import Characteristic, Method, Status
from sandbox.thingworx.alwayson_calls import Question
from sandbox.thingworx.errors import EdgeRefusedError, PlatformError
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.writes import set_values
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import LANES, World, connector_world, end, issue_certificate, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lambdas.connector.successor import Successor
    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.alwayson import Response
    from sandbox.thingworx.history import WriteRecord

NAMES = [f"p{number}" for number in range(100)]
SHAPE = {name: Property("NUMBER", f"edge-{name}") for name in NAMES} | {
    "quiet": Property("NUMBER", "edge-quiet"),
    "note": Property("STRING", "edge-note"),
}
HOUR = 3_600_000


class Iot:
    """The IoT data plane: shadows of moto, `before(thing)` each update; clients of the world's broker."""

    def __init__(self, world: World) -> None:
        self.client = boto3.client("iot-data")
        self.broker = world.broker
        self.before: Callable[[str], None] = lambda _: None
        self.updates: list[tuple[str, dict[str, Any]]] = []

    def update_thing_shadow(self, *, thingName: str, payload: bytes, **which: str) -> Any:  # noqa: N803 - AWS's
        """As boto3's."""
        self.before(thingName)
        answer = self.client.update_thing_shadow(thingName=thingName, payload=payload, **which)
        self.updates.append((thingName, orjson.loads(payload)["state"]))
        return answer

    def get_thing_shadow(self, **which: str) -> Any:
        """As boto3's."""
        return self.client.get_thing_shadow(**which)

    def get_connection(self, **which: str) -> Any:
        """As boto3's."""
        return self.broker.get_connection(**which)

    def state(self, thing: str, section: str = "desired", **which: str) -> dict[str, Any]:
        """What the shadow holds."""
        try:
            answer = self.client.get_thing_shadow(thingName=thing, **which)
        except self.client.exceptions.ResourceNotFoundException:
            return {}
        return dict(orjson.loads(answer["payload"].read())["state"].get(section, {}))


class Plant:
    """Things with a hundred properties, their connectors, and people who write in ThingWorx."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.platform = world.server.platform
        self.iot = Iot(world)
        clients = handler._clients()._replace(iot_data=self.iot)  # type: ignore[arg-type] # a stand-in
        monkeypatch.setattr(handler, "_clients", lambda: clients)
        world.table.put_shapes({"wide": SHAPE})
        self.reading_numbers = itertools.count()

    def add(self, *things: str, in_iot: bool = True) -> None:
        """Things that ThingWorx, discovery and AWS IoT know."""
        properties = [remote_property(name, edge_name=f"edge-{name}") for name in NAMES]
        properties.append(remote_property("quiet", edge_name="edge-quiet", push_type="NEVER"))
        properties.append(remote_property("note", "STRING", edge_name="edge-note"))
        properties.append(remote_property("fixed", edge_name="edge-fixed", is_read_only=True))
        properties.append(remote_property("alien", edge_name="edge-alien"))
        for thing in things:
            self.platform.add_thing(thing, properties=properties)
            if in_iot:
                boto3.client("iot").create_thing(thingName=thing)
        self.world.table.assign(
            [ThingChange(None, ThingRecord(thing, "1", "wide", ASSIGNED, 1)) for thing in things]
        )

    def bound(self, *things: str) -> None:
        """Wait until these are connected and synchronised."""
        edges = self.platform.edges
        until(lambda: all(thing in edges and edges[thing].synchronised for thing in things))  # type: ignore[attr-defined] # all edges here are AlwaysOn's

    def write(self, thing: str, values: Mapping[str, Any]) -> list[Any]:
        """As somebody does in ThingWorx; the answers, or the errors, of each."""
        batch = set_values(self.platform, self.platform.thing(thing), values, "PUT")
        return [future.exception(20) or future.result(20) for future in batch.forwards]

    def read(self, thing: str, edge: str) -> Response:
        """As the platform does when a cached value is too old."""
        question = Question(Method.GET, Characteristic.PROPERTIES, edge)
        return self.world.server.alwayson.request(thing, question).result(20)

    def send(self, thing: str, at: int, **values: float) -> None:
        """Readings, as the router sends them."""
        reading = Reading(thing, at, f"0:{next(self.reading_numbers)}:0", "wide", dict(values))
        used = {name: SHAPE[name] for name in values}
        self.world.sqs.send_message(
            QueueUrl=self.world.queues["1"],
            MessageBody=encode([reading], {"wide": used}).decode(),
            MessageGroupId=f"lane-{lane_of(thing, LANES)}",
        )

    def stored(self, thing: str, name: str) -> list[WriteRecord]:
        """What the platform stored of one property, in the order it came."""
        return [record for record in self.world.written(thing) if record.property == name]

    def current(self, thing: str, name: str) -> tuple[Any, int]:
        """Current value and time."""
        value, at, _ = self.platform.thing(thing).values[name]
        return value, at


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issue_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def environ() -> dict[str, str]:
    return {}


@pytest.fixture
def plant(certificate: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    # A lease that outlasts a busy machine.
    fixed = {"DELIVERY": "alwayson", "BIND": "always", "LEASE_SECONDS": "3"}
    with connector_world(certificate, monkeypatch, **fixed, **environ) as world:
        plant = Plant(world, monkeypatch)
        plant.add("press")
        yield plant


def now() -> int:
    return time.time_ns() // 1_000_000


def test_a_hundred_properties_written_while_telemetry_flows_reach_the_device_and_come_back_once(
    plant: Plant,
) -> None:
    running = plant.world.start("t")
    plant.bound("press")
    flowing = threading.Event()

    def telemetry() -> None:
        for number in range(60):
            plant.send("press", now(), p0=-1.0 - number, p1=-1.0 - number)
            if number == 20:
                flowing.set()

    device = threading.Thread(target=telemetry)
    device.start()
    assert flowing.wait(20)
    wanted = {name: float(number) for number, name in enumerate(NAMES)}
    before = now()
    assert plant.write("press", wanted) == [None] * len(NAMES)
    assert plant.iot.state("press") == wanted
    device.join()
    until(lambda: plant.world.left() == (0, 0))
    until(lambda: all(len(plant.stored("press", name)) == 1 for name in NAMES[2:]))
    for name in NAMES[2:]:
        value, at = plant.current("press", name)
        assert value == wanted[name]
        assert at >= before
    for name in ("p0", "p1"):
        echoes = [record for record in plant.stored("press", name) if record.value >= 0]
        assert len(echoes) == 1
        assert len(plant.stored("press", name)) == 61
    assert len(plant.iot.updates) <= 3
    end(plant.world, running, "t")


def test_slow_shadows_delay_neither_telemetry_nor_other_things(plant: Plant) -> None:
    slow = [f"slow-{number}" for number in range(19)]
    plant.add(*slow)
    release = threading.Event()
    hanging = threading.Semaphore(0)

    def before(thing: str) -> None:
        if thing != "press":
            hanging.release()
            release.wait(20)

    plant.iot.before = before
    running = plant.world.start("t")
    plant.bound("press", *slow)
    writers = [threading.Thread(target=plant.write, args=(thing, {"p0": 1.0})) for thing in slow]
    for writer in writers:
        writer.start()
    for _ in slow:
        assert hanging.acquire(timeout=20)
    beats = plant.world.states.beats["t"]
    for thing in ("press", *slow):
        plant.send(thing, now(), p1=7.0)
    until(lambda: all(plant.stored(thing, "p1") for thing in ("press", *slow)))
    assert plant.write("press", {"p2": 1.0}) == [None]
    until(lambda: plant.world.states.beats["t"] > beats + 2)
    assert not any(plant.stored(thing, "p0") for thing in slow)
    release.set()
    for writer in writers:
        writer.join()
    until(lambda: all([record.value for record in plant.stored(thing, "p0")] == [1.0] for thing in slow))
    end(plant.world, running, "t")


def test_refusals_tell_people_in_thingworx_why(plant: Plant) -> None:
    plant.add("press 2", in_iot=False)
    plant.add("stranger", in_iot=False)
    running = plant.world.start("t")
    plant.bound("press", "press 2", "stranger")
    [unknown] = plant.write("press", {"alien": 1.0})
    assert isinstance(unknown, EdgeRefusedError)
    assert "edge-alien: the connector serves no such property of press" in str(unknown)
    [named] = plant.write("press 2", {"p0": 1.0})
    assert "AWS IoT has no such thing" in str(named)
    [missing] = plant.write("stranger", {"p0": 1.0})
    assert "AWS IoT has no thing or shadow of stranger" in str(missing)
    [large] = plant.write("press", {"note": "x" * 9000})
    assert "a shadow has at most 8192 bytes" in str(large)
    with pytest.raises(PlatformError, match="read-only"):
        plant.write("press", {"fixed": 1.0})
    assert not plant.iot.updates
    for thing in ("press", "press 2", "stranger"):
        assert not plant.world.written(thing)
    end(plant.world, running, "t")


def test_a_version_conflict_is_tried_again_and_seen_by_nobody(plant: Plant) -> None:
    conflicts = [2]

    def before(_: str) -> None:
        if conflicts[0]:
            conflicts[0] -= 1
            raise ClientError(
                {
                    "Error": {"Code": "ConflictException", "Message": "Version conflict"},
                    "ResponseMetadata": {"HTTPStatusCode": 409},  # type: ignore[typeddict-item] # enough of it
                },
                "UpdateThingShadow",
            )

    plant.iot.before = before
    running = plant.world.start("t")
    plant.bound("press")
    assert plant.write("press", {"p0": 5.0}) == [None]
    until(lambda: [record.value for record in plant.stored("press", "p0")] == [5.0])
    end(plant.world, running, "t")


@pytest.mark.parametrize("environ", [{"WRITE_DEADLINE_MS": "500"}])
def test_past_the_deadline_thingworx_is_told_and_what_the_device_got_after_all_comes_back(
    plant: Plant,
) -> None:
    release = threading.Event()
    plant.iot.before = lambda _: (release.wait(20), None)[1]
    running = plant.world.start("t")
    plant.bound("press")
    [late] = plant.write("press", {"p0": 5.0})
    assert isinstance(late, EdgeRefusedError)
    assert "AWS IoT has not confirmed it within 0.5 s" in str(late)
    assert not plant.stored("press", "p0")
    release.set()
    until(lambda: [record.value for record in plant.stored("press", "p0")] == [5.0])
    assert plant.iot.state("press") == {"p0": 5.0}
    end(plant.world, running, "t")


@pytest.mark.parametrize(
    "environ", [{"ECHO_WRITES": "false", "SHADOW_SECTION": "reported", "SHADOW_NAME": "control"}]
)
def test_the_shadow_its_section_and_the_echo_by_choice(plant: Plant) -> None:
    running = plant.world.start("t")
    plant.bound("press")
    assert plant.write("press", {"p0": 5.0}) == [None]
    assert plant.iot.state("press", "reported", shadowName="control") == {"p0": 5.0}
    assert plant.iot.state("press", "reported") == {}
    end(plant.world, running, "t")
    assert not plant.stored("press", "p0")


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_a_written_value_becomes_current_and_the_devices_next_one_too_whatever_its_clock(
    plant: Plant, offset: int
) -> None:
    running = plant.world.start("t")
    plant.bound("press")
    at = now() + offset
    plant.send("press", at, p0=1.0)
    until(lambda: len(plant.stored("press", "p0")) == 1)
    assert plant.write("press", {"p0": 5.0}) == [None]
    until(lambda: len(plant.stored("press", "p0")) == 2)
    assert plant.current("press", "p0") == (5.0, at + 1)
    plant.send("press", at + 1000, p0=2.0)
    until(lambda: len(plant.stored("press", "p0")) == 3)
    assert plant.current("press", "p0") == (2.0, at + 1000)
    end(plant.world, running, "t")


def test_telemetry_never_comes_back_as_a_write_and_an_echo_never_as_another(plant: Plant) -> None:
    running = plant.world.start("t")
    plant.bound("press")
    for number in range(5):
        plant.send("press", now(), p0=float(number))
    until(lambda: len(plant.stored("press", "p0")) == 5)
    assert not plant.iot.updates
    # A script on the platform that writes what it sees: each new value once more to the edge.
    answered = 0
    assert plant.write("press", {"p1": 9.0}) == [None]
    until(lambda: len(plant.stored("press", "p1")) == 1)
    while answered < len(plant.stored("press", "p1")):
        assert plant.write("press", {"p1": plant.stored("press", "p1")[answered].value}) == [None]
        answered += 1
        plant.send("press", now(), p0=float(answered))
        until(lambda: plant.stored("press", "p0")[-1].value == float(answered))  # noqa: B023 - waited for here
    assert answered == 1
    assert len(plant.iot.updates) == 2
    end(plant.world, running, "t")


def test_reads_are_answered_with_what_was_not_pushed_also_by_the_successor(plant: Plant) -> None:
    boto3.client("iot-data").update_thing_shadow(
        thingName="press", payload=orjson.dumps({"state": {"reported": {"p9": 4}}})
    )
    running = plant.world.start("first")
    plant.bound("press")
    plant.send("press", now(), quiet=3.5, p0=1.0)
    until(lambda: len(plant.stored("press", "p0")) == 1)
    for token in ("first", "second", "third"):
        quiet = plant.read("press", "edge-quiet")
        assert quiet.content
        assert quiet.content.first("edge-quiet").value == 3.5
        reported = plant.read("press", "edge-p9")
        assert reported.content
        assert reported.content.first("edge-p9").value == 4.0
        nothing = plant.read("press", "edge-p8")
        assert nothing.status == Status.NOT_FOUND
        assert nothing.reason == "edge-p8: no value of it has come yet, and the device's shadow reports none"
        if token == "third":
            break
        following = {"first": "second", "second": "third"}[token]
        end(plant.world, running, token)
        plant.world.set_state("1", "active")
        running = plant.world.start(following)
        plant.bound("press")
    assert not plant.stored("press", "quiet")
    end(plant.world, running, "third")


@pytest.fixture
def leaves_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connector of 60 s calls for a successor at once, others stay."""
    plan = timing.plan

    def soon(settings: ConnectorSettings, seconds_left: float, at: float) -> timing.Timing:
        return plan(settings, seconds_left, at)._replace(
            handover_at=at + (0.5 if seconds_left <= 60 else 1000)
        )

    monkeypatch.setattr(serve, "plan", soon)


def quiet_value(plant: Plant) -> Any:
    """What a GET of the property that is never pushed gives."""
    answer = plant.read("press", "edge-quiet")
    return answer.content.first("edge-quiet").value if answer.content else None


@pytest.mark.usefixtures("leaves_soon")
def test_a_hand_over_makes_no_history_and_changes_no_value(plant: Plant) -> None:
    first = plant.world.start("first", seconds=60)
    plant.bound("press")
    plant.send("press", now(), p0=1.0, quiet=3.5)
    until(lambda: len(plant.stored("press", "p0")) == 1)
    assert plant.write("press", {"p1": 2.0}) == [None]
    until(lambda: len(plant.stored("press", "p1")) == 1)
    until(lambda: plant.world.item("1").get("leaving", {}).get("BOOL", False))
    until(lambda: bool(left_behind(plant)))
    plant.send("press", now(), quiet=4.5)
    until(lambda: quiet_value(plant) == 4.5)
    values = dict(plant.platform.thing("press").values)
    written = plant.world.written("press")
    second = plant.world.start("second", seconds=200)
    first.wait()
    until(lambda: quiet_value(plant) is not None)
    assert quiet_value(plant) == 4.5
    assert plant.world.written("press") == written
    after = dict(plant.platform.thing("press").values)
    for name in ("isConnected", "lastConnection"):
        values.pop(name), after.pop(name)
    assert after == values
    assert plant.write("press", {"p1": 3.0}) == [None]
    until(lambda: plant.current("press", "p1")[0] == 3.0)
    end(plant.world, second, "second")


def left_behind(plant: Plant) -> list[Any]:
    """Items for the successor."""
    answer = plant.world.dynamodb.query(
        TableName=CONTROL_TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "values#1"}},
    )
    return answer["Items"]


@pytest.mark.usefixtures("leaves_soon")
def test_after_a_hand_over_that_failed_writes_go_on(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "Patience", lambda: Patience(sign=0.5))
    answers: list[Any] = []
    writers: list[threading.Thread] = []

    async def dies(_: Successor) -> bool:
        # While the slot is offered: the write waits at the one who offers.
        writers.append(threading.Thread(target=lambda: answers.extend(plant.write("press", {"p0": 5.0}))))
        writers[0].start()
        raise RuntimeError("killed")

    first = plant.world.start("first", seconds=60)
    plant.bound("press")
    until(lambda: "first" in plant.world.states.answers)
    with monkeypatch.context() as patch:
        patch.setattr(successor.Successor, "take", dies)
        second = plant.world.start("second", seconds=200)
        until(lambda: "second" in plant.world.states.answers)
        with pytest.raises(RuntimeError, match="killed"):
            second.wait()
    writers[0].join(20)
    assert answers == [None]
    until(lambda: [record.value for record in plant.stored("press", "p0")] == [5.0])
    plant.world.set_state("1", "stopping")
    first.wait()


def test_a_write_that_waits_when_the_connector_ends_is_answered(plant: Plant) -> None:
    running = plant.world.start("t")
    plant.bound("press")
    reached = threading.Event()
    plant.iot.before = lambda _: reached.set()
    answers: list[Any] = []
    writer = threading.Thread(target=lambda: answers.extend(plant.write("press", {"p0": 5.0})))
    writer.start()
    assert reached.wait(20)
    end(plant.world, running, "t")
    writer.join()
    assert answers == [None]
    assert plant.iot.state("press") == {"p0": 5.0}
