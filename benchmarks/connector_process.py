"""A slot in processes: the product's connector, the simulated platform, and DynamoDB and SQS.

For benchmarks. Connectors are the product's own code, each a process; the platform is in the caller's, which
should do little else; tables and queue are in a third (`aws_process`). Every Thing has a reading each half
second, sent as the router sends them: one parcel a lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from benchmarks.aws_process import Aws
from lambdas.connector.assigned import AssignedThings
from lambdas.connector.backlog_store import BacklogStore
from lambdas.connector.lease import Lease
from lambdas.connector.serve import Connector, Parts
from lambdas.connector.timing import plan
from lambdas.shared.chunks import chunks
from lambdas.shared.control_table import ASSIGNED, ControlTable, ThingRecord
from lambdas.shared.dynamo import to_item
from lambdas.shared.held_store import HeldStore
from lambdas.shared.parcel import Reading, encode, lane_of
from lambdas.shared.settings import ConnectorSettings
from lambdas.shared.shape import Property
from lambdas.thingworx.alwayson_transport import alwayson_transport
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import DEFAULT_APP_KEY, SimulatorServer
from sandbox.thingworx.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lambdas.connector.token import TaskToken
    from lambdas.shared.secrets import Secret

__all__ = ["TICK_SECONDS", "Options", "connector", "parcels", "until", "world"]

TICK_SECONDS = 0.5
_LANES = 8
_CONTROL, _HELD = "control", "held"
_TOLD = ("gap_ms", "transitions")
_SHAPES = {"s": {"temp": Property("NUMBER", "Temp")}}


class Options(NamedTuple):
    """What is set up.

    Attributes:
        things: of the slot.
        latency_ms: the platform's, before each answer.
        aws_latency_ms: of each call, beside the emulation's own time.
        serve_seconds: when a connector calls for its successor.
        concurrency: the setting DELIVERY_CONCURRENCY.
        life_seconds: how long a connector may live.
        max_writes: the setting MAX_WRITES_PER_SECOND.
    """

    things: int
    latency_ms: int
    aws_latency_ms: float
    serve_seconds: float
    concurrency: int
    life_seconds: float = 120.0
    max_writes: int = 0


class Key:
    """The platform's key."""

    def latest(self) -> tuple[str, str]:
        """Text and version."""
        return DEFAULT_APP_KEY, "1"


class Token:
    """A task token that tells the benchmark what it is answered."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell
        self.answered = False

    def beat(self) -> None:
        """Nobody waits for beats."""

    def answer(self, follow_up: str, reason: str) -> None:
        """The connector's answer."""
        self.answered = True
        self._tell.put((follow_up, reason))

    def fail(self, error: BaseException) -> None:
        """The connector failed."""
        self._tell.put(("failed", repr(error)))


def names(things: int) -> list[str]:
    """Of all Things."""
    return [f"pump-{number}" for number in range(things)]


def parcels(things: int, tick: int) -> list[tuple[str, str]]:
    """One reading of every Thing, by lane."""
    lanes: dict[int, list[Reading]] = defaultdict(list)
    for name in names(things):
        reading = Reading(name, tick, f"0:{tick}:{name}", "s", {"temp": float(tick)})
        lanes[lane_of(name, _LANES)].append(reading)
    return [(f"lane-{lane}", encode(readings, _SHAPES).decode()) for lane, readings in lanes.items()]


def connector(number: int, options: Options, aws_address: Any, url: str, tell: Any) -> None:
    """One connector's life; the main function of its process."""
    settings = ConnectorSettings.from_env(
        {
            "STACK": "benchmark",
            "CONTROL_TABLE": _CONTROL,
            "HELD_TABLE": _HELD,
            "THINGWORX_URL": "https://unused/Thingworx",
            "THINGWORX_APP_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:key",
            "DELIVERY_CONCURRENCY": str(options.concurrency),
            "MAX_WRITES_PER_SECOND": str(options.max_writes),
            "LOG_LEVEL": "ERROR",
        }
    )
    logging.getLogger("thingworx-connector").setLevel(logging.CRITICAL)
    aws = Aws(options.aws_latency_ms, aws_address)
    dynamodb, sqs = aws.client("dynamodb"), aws.client("sqs")
    table = ControlTable(_CONTROL, dynamodb)
    lease = Lease(dynamodb, _CONTROL, slot="1", epoch=1, owner=f"1-1-0/{number}/r/x", seconds=30)
    transport = alwayson_transport(url, cast("Secret", Key()))
    parts = Parts(
        token=cast("TaskToken", Token(tell)),
        lease=lease,
        transport=transport,
        held=HeldStore(_HELD, dynamodb, days=14, per_thing_per_day=1000, per_day=1_000_000),
        sqs=sqs,
        backlog=BacklogStore(dynamodb, control_table=_CONTROL, held_table=_HELD, slot="1", owner=str(number)),
        assigned=AssignedThings(
            "1", transport, lambda: [thing.name for thing in table.things_of("1")], lambda: None
        ),
    )

    async def live() -> None:
        # Of a whole life, only when a successor is called for differs.
        timing = plan(settings, options.life_seconds, time.monotonic())
        timing = timing._replace(handover_at=time.monotonic() + options.serve_seconds)
        life = Connector("1", settings, parts, options.life_seconds, timing=timing)
        running = asyncio.ensure_future(life.run())
        while not lease.valid() and not running.done():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        tell.put(("serving", time.time_ns() // 1_000_000))
        await running

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        asyncio.run(live())
    records = [json.loads(line) for line in printed.getvalue().splitlines() if '"_aws"' in line]
    told = {name: sum(record.get(f"handover_{name}", 0) for record in records) for name in _TOLD}
    tell.put(("ended", told))


@contextlib.contextmanager
def world(policy: str, options: Options) -> Iterator[tuple[SimulatorServer, Aws, str]]:
    """A platform of that policy, tables with the slot and its Things, and the slot's queue."""
    settings = Settings(bind_protection=cast("Any", policy), history_limit=1)
    aws = Aws(options.aws_latency_ms)
    try:
        with SimulatorServer(settings=settings, control_port=None) as simulator:
            for name in names(options.things):
                simulator.platform.add_thing(name, properties=[remote_property("Temp", is_logged=False)])
            simulator.faults.latency_ms = options.latency_ms
            yield simulator, aws, _fill(aws, options)
    finally:
        aws.shutdown()


def _fill(aws: Aws, options: Options) -> str:
    dynamodb = aws.client("dynamodb")
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    by_slot = {
        "IndexName": "by_slot",
        "KeySchema": [
            {"AttributeName": "slot", "KeyType": "HASH"},
            {"AttributeName": "pk", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "ALL"},
    }
    for table, indexes, kinds in (
        (_CONTROL, {"GlobalSecondaryIndexes": [by_slot]}, ("pk", "sk", "slot")),
        (_HELD, {}, ("pk", "sk")),
    ):
        dynamodb.create_table(
            TableName=table,
            KeySchema=keys,
            AttributeDefinitions=[{"AttributeName": kind, "AttributeType": "S"} for kind in kinds],
            BillingMode="PAY_PER_REQUEST",
            **indexes,
        )
    url: str = aws.client("sqs").create_queue(
        QueueName="slot-1.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    )["QueueUrl"]
    slot = {"pk": "slots", "sk": "1", "state": "active", "lanes": _LANES, "epoch": 1, "queue_url": url}
    dynamodb.put_item(TableName=_CONTROL, Item=to_item(slot))
    for some in chunks(names(options.things), 25):
        records = [ThingRecord(name, "1", "s", ASSIGNED, 1) for name in some]
        items = [to_item({"pk": f"thing#{it.name}", "sk": "thing", "v": 1, **it._asdict()}) for it in records]
        dynamodb.batch_write_item(RequestItems={_CONTROL: [{"PutRequest": {"Item": item}} for item in items]})
    return url


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition; fail when it doesn't come in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)
