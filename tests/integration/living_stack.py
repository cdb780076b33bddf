"""A stack that lives through simulated time: devices that speak, discovery, the watch function, connectors.

The handlers are the real ones and get the real events; AWS is in memory, Redis is a Valkey, ThingWorx is the
simulator. What is written here stands for AWS: the stream that gives a batch again, the executions that
Step Functions would run, the minute schedule of the watch function.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import redis

from lambdas.connector import handler as connector
from lambdas.shared.control_table import ControlTable
from lambdas.shared.held_items import HeldItems
from lambdas.shared.parcel import Reading, encode, lane_of
from lambdas.shared.registry import Registry
from lambdas.shared.shape import Property
from lambdas.watch import handler as watch
from tests.aws_mock import CONTROL_TABLE
from tests.integration.connector_world import FakeBroker, FakeStates, Running, until
from tests.integration.discovery_machine import DiedError, DiscoveryMachine
from tests.integration.whole_stack import HELD, Stack
from tests.unit.router.kinesis import FIRST_SEQUENCE, telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from lambdas.shared.control_table import Slot, ThingRecord
    from lambdas.shared.held_items import HeldItem
    from sandbox.thingworx.history import WriteRecord
    from tests.simulated_clock import SimulatedClock

__all__ = ["HOUR", "MINUTE", "LivingStack", "Offered"]

MINUTE, HOUR = 60, 3600
_BATCH = 100
_LIFETIME = 900
_EMPTY_SECONDS = 0.03
_MACHINE = '{"StartAt": "End", "States": {"End": {"Type": "Pass", "End": true}}}'
_ROLE = "arn:aws:iam::123456789012:role/demo"


class Offered(NamedTuple):
    """A reading as a device sent it: `number` is its value of `temp`, unique in the whole week."""

    thing: str
    time: int
    number: int

    @property
    def id(self) -> str:
        """As the router names it."""
        return f"0:{FIRST_SEQUENCE + self.number}:0"


class Counted:
    """Where the functions print their metric records; their sums by stage and name."""

    def __init__(self) -> None:
        self.sums: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def write(self, text: str) -> int:
        """As a text stream's; anything but a metric record is of no interest."""
        if text.startswith("{") and '"_aws"' in text:
            found = json.loads(text)
            stage = found.get("stage", "watch")
            for name, value in found.items():
                if isinstance(value, int) and ":" not in name:
                    self.sums[stage][name] += value
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


class States(FakeStates):
    """Step Functions as connectors know it: their tokens, and executions that they start."""

    def __init__(self) -> None:
        super().__init__()
        self._client = boto3.client("stepfunctions")
        self.exceptions = self._client.exceptions

    def start_execution(self, **arguments: Any) -> Any:
        """As boto3's."""
        return self._client.start_execution(**arguments)


class _ShortPolls:
    """SQS without waiting: an empty queue is known to stay so while nobody sends."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def receive_message(self, **request: Any) -> Any:
        answer = self._client.receive_message(**request | {"WaitTimeSeconds": 0})
        if not answer.get("Messages"):
            time.sleep(_EMPTY_SECONDS)
        return answer


class LivingStack:
    """The stack and its surroundings.

    Args:
        stack: from `whole_stack`.
        clock: simulated time.
        patch: of the test.

    Attributes:
        speaking: devices that send a reading every hour.
        offered: every reading that a device sent, in the order of their times.
        late: those of them that come to a slot's queue by `thaw`.
        outputs: name of each discovery execution -> its output, None when it died.
        moment: present step of the clock, milliseconds since 1970 UTC.
        taken: time of the newest reading when the queues were last empty.
    """

    def __init__(self, stack: Stack, clock: SimulatedClock, patch: pytest.MonkeyPatch) -> None:
        self.stack = stack
        self.clock = clock
        self.platform = stack.platform
        self.control = ControlTable(CONTROL_TABLE, stack.dynamodb, threads=1)
        self.items = HeldItems(HELD, stack.dynamodb)
        self.redis = redis.Redis.from_url(stack.environ["REDIS_URL"])
        self.registry = Registry(self.redis, "demo")
        self.machine = DiscoveryMachine()
        self.counted = Counted()
        self.speaking: list[str] = []
        self.offered: list[Offered] = []
        self.late: list[Offered] = []
        self.outputs: dict[str, Any] = {}
        self.moment = clock.ms
        self.taken = 0
        self._stream: deque[dict[str, Any]] = deque()
        self._places: dict[str, ThingRecord] = {}
        self._sqs = boto3.client("sqs")
        self._sfn = boto3.client("stepfunctions")
        self._arn = self._sfn.create_state_machine(name="demo-discovery", definition=_MACHINE, roleArn=_ROLE)[
            "stateMachineArn"
        ]
        self._turn = 0
        patch.setenv("DISCOVERY_STATE_MACHINE_ARN", self._arn)
        self.states, self.broker = States(), FakeBroker()
        clients = connector._clients()
        patched = clients._replace(
            stepfunctions=cast("Any", self.states),
            iot_data=cast("Any", self.broker),
            sqs=cast("Any", _ShortPolls(clients.sqs)),
        )
        patch.setattr(connector, "_clients", lambda: patched)
        connector._settings.cache_clear()

    # Time and devices

    def step(self, seconds: float) -> None:
        """Time goes on, from the last step."""
        self.moment += int(seconds * 1000)
        self.clock.move_to(self.moment / 1000)

    def speak(self, *devices: str) -> None:
        """A reading of each device (all that speak, when none is named) into the stream."""
        for device in devices or tuple(self.speaking):
            offered = self._offer(device)
            values = dict.fromkeys(("temp", "level", "speed", "depth", "count", "extra"), offered.number)
            payload = values | {"state": str(offered.number)}
            self._stream.append(telemetry(payload, device, offered.number, t=offered.time))

    def route(self) -> bool:
        """The stream gives the router what it holds; whether all of it was settled."""
        while self._stream:
            batch = [self._stream[index] for index in range(min(_BATCH, len(self._stream)))]
            failures = self.stack.route(*batch)["batchItemFailures"]
            again = failures[0]["itemIdentifier"] if failures else None
            for record in batch:
                if record["kinesis"]["sequenceNumber"] == again:
                    return False
                self._stream.popleft()
        return True

    def freeze(self, device: str) -> Offered:
        """A reading of a device, in a router that has looked it up and then stands still."""
        offered = self._offer(device)
        self.late.append(offered)
        return offered

    def thaw(self, frozen: Offered, slot: str) -> None:
        """That router goes on, and sends to the queue that the Thing had then."""
        values = {"temp": float(frozen.number)}
        reading = Reading(frozen.thing, frozen.time, frozen.id, "s", values)
        self._sqs.send_message(
            QueueUrl=self.slots()[slot].queue_url or "",
            MessageBody=encode([reading], {"s": {"temp": Property("NUMBER", "temp")}}).decode(),
            MessageGroupId=f"lane-{lane_of(frozen.thing, 8)}",
        )

    def _offer(self, device: str) -> Offered:
        time = max(self.moment, self.offered[-1].time + 1) if self.offered else self.moment
        self.offered.append(Offered(device, time, len(self.offered) + 1))
        return self.offered[-1]

    # Connectors

    @contextlib.contextmanager
    def serving(self, *, only_busy: bool = False) -> Iterator[None]:
        """The connectors of all served slots are at work inside, and go when their queues are empty.

        Their time-outs follow the clock, so it isn't to be moved meanwhile.

        Args:
            only_busy: leave out those whose queue is empty already.
        """
        slots = [slot for slot in self.control.slots() if slot.queue_url and slot.state != "stopping"]
        if only_busy:
            slots = [slot for slot in slots if any(self._depth(slot.queue_url or ""))]
        self._turn += 1
        running: dict[str, Running] = {}
        try:
            for slot in slots:
                token = f"{slot.id}-{slot.epoch}-{self._turn}"
                running[token] = Running(_event(slot, token, self._turn), _LIFETIME)
            yield
            self.drained()
        finally:
            self.states.closed |= running.keys()
            for connector_ in running.values():
                connector_.wait()

    def deliver(self) -> None:
        """Connectors take all that the queues hold."""
        with self.serving(only_busy=True):
            pass

    def drained(self) -> None:
        """Wait until all queues that are served are empty."""
        urls = [
            slot.queue_url for slot in self.slots().values() if slot.queue_url and slot.state != "stopping"
        ]
        until(lambda: not any(any(self._depth(url)) for url in urls))
        self.taken = self.offered[-1].time if self.offered else 0

    def waits(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; `what` is said when it doesn't come."""
        try:
            until(holds)
        except AssertionError as error:
            raise AssertionError(what) from error

    def _depth(self, url: str) -> tuple[int, int]:
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return (
            int(found["ApproximateNumberOfMessages"]),
            int(found["ApproximateNumberOfMessagesNotVisible"]),
        )

    # Discovery and the watch function

    def discover(self, name: str = "", /, **options: Any) -> Any:
        """An execution of the discovery machine, and those that follow it; its output, None when it died.

        Raises:
            TaskError: it failed.
            AssertionError: what the control table says afterwards can't be.
        """
        name = name or f"run-{len(self.outputs)}"
        self.outputs[name] = None
        with contextlib.suppress(DiedError):
            self.outputs[name] = self.machine.run(name, options)
        self._check_places(name)
        following = [arguments["Input"] for arguments in self.machine.started]
        self.machine.started.clear()
        for given in following:
            self.discover(**given)
        return self.outputs[name]

    def _check_places(self, run: str) -> None:
        """No Thing in two slots, none above capacity, no move without cause."""
        slots, before = self.slots(), self._places
        self._places = self.records()
        by_slot = [found.name for slot in slots for found in self.control.things_of(slot)]
        assert len(by_slot) == len(set(by_slot)), f"{run}: a Thing is in two slots"
        room = int(self.stack.environ["THINGS_PER_SLOT"])
        full = Counter(record.slot for record in self._places.values())
        assert max(full.values(), default=0) <= room, f"{run}: a slot has more Things than it may: {full}"
        for name, record in self._places.items():
            moved = name in before and before[name].slot != record.slot
            assert not moved or slots[before[name].slot].state != "active", f"{run}: {name} moved"

    def look(self) -> list[str]:
        """The watch function looks, and the discovery runs that were started are run; their names."""
        watch.handle({}, None)
        found = self._sfn.list_executions(stateMachineArn=self._arn)["executions"]
        new = sorted(entry["name"] for entry in found if entry["name"] not in self.outputs)
        arns = {entry["name"]: entry["executionArn"] for entry in found}
        for name in new:
            given = json.loads(self._sfn.describe_execution(executionArn=arns[name])["input"])
            self.discover(name, **given)
        return new

    # What there is

    def slots(self) -> dict[str, Slot]:
        """All slots by id."""
        return {slot.id: slot for slot in self.control.slots()}

    def records(self) -> dict[str, ThingRecord]:
        """What the control table says of each Thing."""
        return {record.name: record for record in self.control.things()}

    def places(self) -> dict[str, str]:
        """Thing -> slot, of Things that are served."""
        return {name: record.slot for name, record in self.records().items() if record.state == "assigned"}

    def published(self) -> dict[str, str]:
        """Thing -> slot as routers see it."""
        names = sorted(self.registry.thing_names())
        return {
            name: entry.slot
            for name, entry in zip(names, self.registry.lookup(names), strict=True)
            if entry is not None
        }

    def queues(self) -> set[str]:
        """Slot ids of the queues that there are."""
        urls = self._sqs.list_queues(QueueNamePrefix="demo-slot-").get("QueueUrls", [])
        return {url.rpartition("-")[2].removesuffix(".fifo") for url in urls}

    def items_of(self, slot: str) -> list[str]:
        """Partitions of the control table that belong to a slot."""
        items = self.stack.dynamodb.scan(TableName=CONTROL_TABLE)["Items"]
        return sorted({item["pk"]["S"] for item in items if item["pk"]["S"].endswith(f"#{slot}")})

    def written(self, thing: str) -> list[WriteRecord]:
        """What ThingWorx stored of a Thing, in the order in which it came."""
        return self.platform.log.since(0, thing=thing)

    def held(self) -> list[HeldItem]:
        """All held readings."""
        return [
            item
            for state, thing in sorted(set(self.items.partitions()))
            for page in self.items.pages(state, thing, 1000)
            for item in page
        ]


def _event(slot: Slot, token: str, turn: int) -> dict[str, Any]:
    return {
        "v": 1,
        "slot": slot.id,
        "epoch": slot.epoch,
        "token": token,
        "execution": f"{slot.id}-{slot.epoch}-0",
        "turn": turn,
    }
