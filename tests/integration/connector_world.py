"""What surrounds a connector function in tests: AWS in memory, the simulated platform over HTTPS."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import trustme
from botocore.exceptions import ClientError

from lambdas.connector import handler
from lambdas.shared.control_table import ASSIGNED, ControlTable, ThingChange, ThingRecord
from lambdas.shared.parcel import PresenceChange, Reading, encode, lane_of
from lambdas.shared.shape import Property
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from sandbox.thingworx.history import WriteRecord

__all__ = [
    "HELD_TABLE",
    "LANES",
    "SHAPES",
    "THINGS",
    "Context",
    "Running",
    "World",
    "connector_world",
    "end",
    "event_of",
    "issue_certificate",
    "until",
]

HELD_TABLE = "demo-held"
LANES = 8
THINGS = [f"pump-{index}" for index in range(6)]
SHAPES = {"s": {"temp": Property("NUMBER", "Temp")}}
_DEADLINE_SECONDS = 60.0


class FakeStates:
    """The Step Functions calls of a connector: a token is open until it is answered or closed."""

    def __init__(self) -> None:
        self.beats: dict[str, int] = defaultdict(int)
        self.answers: dict[str, str] = {}
        self.closed: set[str] = set()
        self._lock = threading.Lock()

    def send_task_heartbeat(self, *, taskToken: str) -> None:  # noqa: N803 - AWS's name
        """As boto3's."""
        with self._lock:
            self.beats[taskToken] += 1
            self._check(taskToken, "SendTaskHeartbeat")

    def send_task_success(self, *, taskToken: str, output: str) -> None:  # noqa: N803 - AWS's name
        """As boto3's."""
        with self._lock:
            self._check(taskToken, "SendTaskSuccess")
            self.answers[taskToken] = output
            self.closed.add(taskToken)

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> None:  # noqa: N803 - AWS's name
        """As boto3's."""
        with self._lock:
            self._check(taskToken, "SendTaskFailure")
            self.answers[taskToken] = f"{error}: {cause}"
            self.closed.add(taskToken)

    def _check(self, token: str, operation: str) -> None:
        if token in self.closed:
            raise ClientError({"Error": {"Code": "TaskTimedOut", "Message": "over"}}, operation)


class FakeBroker:
    """What AWS IoT's broker says of clients.

    Attributes:
        clients: client id -> its answer; others were never seen.
        asked: client ids in the order in which they were asked for.
    """

    def __init__(self) -> None:
        self.clients: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def get_connection(self, *, clientId: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        """As boto3's."""
        self.asked.append(clientId)
        if clientId not in self.clients:
            error = {"Code": "ResourceNotFoundException", "Message": "no such client"}
            raise ClientError({"Error": error}, "GetConnection")  # type: ignore[typeddict-item] # as short
        return self.clients[clientId]


class Context(NamedTuple):
    """What Lambda tells an invocation."""

    aws_request_id: str
    end: float

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is killed."""
        return int((self.end - time.monotonic()) * 1000)


class Running:
    """One invocation in a thread of its own."""

    def __init__(self, event: dict[str, Any], seconds: float) -> None:
        self.error: BaseException | None = None
        self._context = Context(f"request-{event['token']}", time.monotonic() + seconds)
        self._event = event
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            handler.handle(self._event, self._context)  # type: ignore[arg-type] # a stand-in
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits for it
            self.error = error

    def wait(self) -> None:
        """Until it has returned; what it raised is raised here."""
        self._thread.join(_DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the connector did not end"
        if self.error:
            raise self.error


class World:
    """What surrounds the connectors of slots 1 and 2."""

    def __init__(self, server: SimulatorServer, states: FakeStates) -> None:
        self.server = server
        self.states = states
        self.broker = FakeBroker()
        self.sqs = boto3.client("sqs")
        self.dynamodb = create_control_table()
        self.table = ControlTable(CONTROL_TABLE, self.dynamodb)
        self.queues = {slot: self._slot(slot) for slot in ("1", "2")}

    def _slot(self, slot: str) -> str:
        url = self.sqs.create_queue(
            QueueName=f"demo-slot-{slot}.fifo",
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )["QueueUrl"]
        self.dynamodb.put_item(
            TableName=CONTROL_TABLE,
            Item={
                "pk": {"S": "slots"},
                "sk": {"S": slot},
                "state": {"S": "active"},
                "epoch": {"N": "1"},
                "queue_url": {"S": url},
            },
        )
        return url

    def start(self, token: str, *, slot: str = "1", seconds: float = 60) -> Running:
        """Invoke the function."""
        return Running(event_of(token, slot), seconds)

    def send(self, times: Sequence[int], *, slot: str = "1", things: Sequence[str] = THINGS) -> None:
        """Put a reading of each Thing and time into the slot's queue, as the router does."""
        lanes: dict[int, list[Reading]] = defaultdict(list)
        for thing, at in itertools.product(things, times):
            lanes[lane_of(thing, LANES)].append(
                Reading(thing, at, f"0:{at}:{thing}", "s", {"temp": float(at)})
            )
        for lane, readings in lanes.items():
            self.sqs.send_message(
                QueueUrl=self.queues[slot],
                MessageBody=encode(readings, SHAPES).decode(),
                MessageGroupId=f"lane-{lane}",
            )

    def send_presence(self, *changes: PresenceChange, slot: str = "1") -> None:
        """Put presence events into the slot's queue, as the router does: a message each."""
        for change in changes:
            self.sqs.send_message(
                QueueUrl=self.queues[slot],
                MessageBody=encode([], {}, [change]).decode(),
                MessageGroupId=f"lane-{lane_of(change.thing, LANES)}",
            )

    def assign(self, *things: str, slot: str = "1") -> None:
        """As discovery does with new Things."""
        self.table.assign([ThingChange(None, ThingRecord(name, slot, "s", ASSIGNED, 1)) for name in things])

    def forget(self, thing: str, *, slot: str = "1") -> None:
        """As discovery does with a Thing that is gone for good."""
        self.table.assign([ThingChange(ThingRecord(thing, slot, "s", ASSIGNED, 1), None)])

    def set_state(self, slot: str, state: str) -> None:
        """As an operator or the scaler does."""
        self.dynamodb.update_item(
            TableName=CONTROL_TABLE,
            Key={"pk": {"S": "slots"}, "sk": {"S": slot}},
            UpdateExpression="SET #state = :state",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={":state": {"S": state}},
        )

    def item(self, slot: str) -> dict[str, Any]:
        """The slot's item."""
        return self.dynamodb.get_item(
            TableName=CONTROL_TABLE, Key={"pk": {"S": "slots"}, "sk": {"S": slot}}, ConsistentRead=True
        )["Item"]

    def left(self, slot: str = "1") -> tuple[int, int]:
        """Messages of the queue: waiting, and received but not deleted."""
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queues[slot], AttributeNames=["All"])
        numbers = answer["Attributes"]
        return (
            int(numbers["ApproximateNumberOfMessages"]),
            int(numbers["ApproximateNumberOfMessagesNotVisible"]),
        )

    def written(self, thing: str) -> list[WriteRecord]:
        """What the platform stored of a Thing, in the order it came."""
        return self.server.platform.log.since(0, thing=thing)

    def times(self, thing: str) -> list[int]:
        """The times of it."""
        return [entry.time for entry in self.written(thing)]


def event_of(token: str, slot: str = "1") -> dict[str, Any]:
    """The event of the connector state machine."""
    return {"v": 1, "slot": slot, "epoch": 1, "token": token, "execution": f"{slot}-1-0", "turn": 0}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail when it doesn't come."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.03)


def end(world: World, running: Running, token: str, slot: str = "1") -> None:
    """Stop the slot and wait for its connector."""
    world.set_state(slot, "stopping")
    running.wait()
    assert '"next":"stop"' in world.states.answers[token]
    assert "owner" not in world.item(slot)


def issue_certificate(folder: Path) -> Path:
    """Put `ca.pem`, and `server.pem` for the loopback address with its key, into a folder."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder


@contextlib.contextmanager
def connector_world(certificate: Path, patch: pytest.MonkeyPatch, **environ: str) -> Iterator[World]:
    """A fresh AWS account and platform, and the environment of a connector function, but for `environ`."""
    pem = certificate / "server.pem"
    states = FakeStates()
    with aws(), SimulatorServer(control_port=None, tls=(pem, pem)) as server:
        for thing in THINGS:
            server.platform.add_thing(thing, properties=[remote_property("Temp")])
        arn = boto3.client("secretsmanager").create_secret(Name="key", SecretString=server.app_key)["ARN"]
        world = World(server, states)
        world.dynamodb.create_table(
            TableName=HELD_TABLE,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        defaults = {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "HELD_TABLE": HELD_TABLE,
            "THINGWORX_URL": f"{server.url}/Thingworx",
            "THINGWORX_APP_KEY_SECRET_ARN": arn,
            "SSL_CERT_FILE": str(certificate / "ca.pem"),
            "REQUESTS_CA_BUNDLE": str(certificate / "ca.pem"),
            "BEAT_SECONDS": "0.1",
            "LEASE_SECONDS": "4",
            "HANDOVER_BEFORE_END_SECONDS": "60",
            "HANDOVER_JITTER_SECONDS": "0",
            "VISIBILITY_SECONDS": "10",
            "THING_RETRY_SECONDS": "0.3",
        }
        for name, value in (defaults | environ).items():
            patch.setenv(name, value)
        clients = handler._Clients(
            world.dynamodb,
            boto3.client("secretsmanager"),
            world.sqs,
            states,  # type: ignore[arg-type] # the emulation has no task tokens
            world.broker,  # type: ignore[arg-type] # nor clients' states
        )
        patch.setattr(handler, "_clients", lambda: clients)
        handler._settings.cache_clear()
        try:
            yield world
        finally:
            handler._settings.cache_clear()
