"""What devices and ThingWorx notice of a slot going from one connector to the next, under both bind policies.

    python -m benchmarks.handover [--handovers 50] [--things 1000] [--latency-ms 20] [--policy both]

Connectors are processes of the product's own code, one after the other, each calling for its successor
`--serve-seconds` after it took the slot. The simulated platform, which answers after `latency-ms`, is in a
process of its own, and so are DynamoDB and SQS (moto), whose calls take `--aws-latency-ms` beside moto's own
time. Every Thing has a reading each half second, sent as the router sends them: one parcel a lane.

Measured at the platform: how often isConnected changed and for how long a Thing was not connected; for each
Thing the longest time without a write around each hand-over, and away from them; lost, repeated and reordered
readings. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import multiprocessing
import re
import sys
import time
from array import array
from collections import defaultdict
from functools import partial
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
    from collections.abc import Iterator

    from lambdas.connector.token import TaskToken
    from lambdas.shared.secrets import Secret

POLICIES = ("last-in-wins", "first-in-wins")
GAP_P99_SECONDS, GAP_MOST_SECONDS, OFF_P99_SECONDS = 2.0, 10.0, 0.25
TICK_SECONDS = 0.5
LANES = 8
LIFE_SECONDS = 120.0
CONTROL, HELD = "control", "held"
SHAPES = {"s": {"temp": Property("NUMBER", "Temp")}}
#: Around a hand-over's middle, what belongs to it: from stopping to receive to the last Thing's first write.
_AROUND_MS = 1500


class Options(NamedTuple):
    """What is measured, see the module's description."""

    handovers: int
    things: int
    latency_ms: int
    aws_latency_ms: float
    serve_seconds: float
    concurrency: int


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
        lanes[lane_of(name, LANES)].append(reading)
    return [(f"lane-{lane}", encode(readings, SHAPES).decode()) for lane, readings in lanes.items()]


def connector(number: int, options: Options, aws_address: Any, url: str, tell: Any) -> None:
    """One connector's life; the main function of its process."""
    settings = ConnectorSettings.from_env(
        {
            "STACK": "benchmark",
            "CONTROL_TABLE": CONTROL,
            "HELD_TABLE": HELD,
            "THINGWORX_URL": "https://unused/Thingworx",
            "THINGWORX_APP_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:key",
            "DELIVERY_CONCURRENCY": str(options.concurrency),
            "LOG_LEVEL": "ERROR",
        }
    )
    aws = Aws(options.aws_latency_ms, aws_address)
    dynamodb, sqs = aws.client("dynamodb"), aws.client("sqs")
    table = ControlTable(CONTROL, dynamodb)
    lease = Lease(dynamodb, CONTROL, slot="1", epoch=1, owner=f"1-1-0/{number}/r/x", seconds=30)
    transport = alwayson_transport(url, cast("Secret", Key()))
    parts = Parts(
        token=cast("TaskToken", Token(tell)),
        lease=lease,
        transport=transport,
        held=HeldStore(HELD, dynamodb, days=14, per_thing_per_day=1000, per_day=1_000_000),
        sqs=sqs,
        backlog=BacklogStore(dynamodb, control_table=CONTROL, held_table=HELD, slot="1", owner=str(number)),
        assigned=AssignedThings(
            "1", transport, lambda: [thing.name for thing in table.things_of("1")], lambda: None
        ),
    )

    async def live() -> None:
        # Of a whole life, only when a successor is called for differs.
        timing = plan(settings, LIFE_SECONDS, time.monotonic())
        timing = timing._replace(handover_at=time.monotonic() + options.serve_seconds)
        life = Connector("1", settings, parts, LIFE_SECONDS, timing=timing)
        running = asyncio.ensure_future(life.run())
        while not lease.valid() and not running.done():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        tell.put(("serving", time.time_ns() // 1_000_000))
        await running

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        asyncio.run(live())
    told = [float(gap) for gap in re.findall(r'"handover_gap_ms":\[([0-9.]+)', printed.getvalue())]
    moved = [float(count) for count in re.findall(r'"handover_transitions":\[([0-9.]+)', printed.getvalue())]
    tell.put(("ended", {"gap_ms": sum(told), "transitions": sum(moved)}))


class Writes:
    """What the platform stored of each Thing: when, and of what time."""

    def __init__(self, simulator: SimulatorServer) -> None:
        self._log = simulator.platform.log
        self._lock = simulator.platform.lock
        self.received: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self.times: dict[str, array[int]] = defaultdict(lambda: array("q"))

    def collect(self) -> None:
        """Take over what was written since the last time."""
        with self._lock:
            records = self._log.since()
            self._log.clear()
        for record in records:
            self.received[record.thing].append(record.received)
            self.times[record.thing].append(record.time)

    def gaps(self, middle: int) -> list[int]:
        """Each Thing's longest time without a write around a moment, in ms."""
        found = []
        for received in self.received.values():
            near = [at for at in received if middle - _AROUND_MS * 4 <= at <= middle + _AROUND_MS * 4]
            pairs = itertools.pairwise(near)
            found.append(
                max(
                    (
                        late - early
                        for early, late in pairs
                        if late >= middle - _AROUND_MS and early <= middle
                    ),
                    default=_AROUND_MS * 4,
                )
            )
        return found

    def everyday(self, middles: list[int]) -> list[int]:
        """All times without a write of all Things away from hand-overs, in ms."""
        return [
            late - early
            for received in self.received.values()
            for early, late in itertools.pairwise(received)
            if all(late < middle - _AROUND_MS or early > middle + _AROUND_MS for middle in middles)
        ]

    def faults(self, ticks: int) -> tuple[int, int, int]:
        """How many readings were lost, repeated, and came after a later one."""
        wanted = set(range(1, ticks + 1))
        lost = sum(len(wanted - set(times)) for times in self.times.values())
        repeated = sum(len(times) - len(set(times)) for times in self.times.values())
        reordered = sum(
            later < earlier for times in self.times.values() for earlier, later in itertools.pairwise(times)
        )
        return lost, repeated, reordered


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
        (CONTROL, {"GlobalSecondaryIndexes": [by_slot]}, ("pk", "sk", "slot")),
        (HELD, {}, ("pk", "sk")),
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
    slot = {"pk": "slots", "sk": "1", "v": 1, "state": "active", "lanes": LANES, "epoch": 1, "queue_url": url}
    dynamodb.put_item(TableName=CONTROL, Item=to_item(slot))
    for some in chunks(names(options.things), 25):
        records = [ThingRecord(name, "1", "s", ASSIGNED, 1) for name in some]
        items = [to_item({"pk": f"thing#{it.name}", "sk": "thing", "v": 1, **it._asdict()}) for it in records]
        dynamodb.batch_write_item(RequestItems={CONTROL: [{"PutRequest": {"Item": item}} for item in items]})
    return url


class Run:
    """Connectors, one after the other.

    Attributes:
        middles: when each hand-over's successor took the slot, ms since 1970.
        gap_ms: what the connectors themselves counted as gaps.
        transitions: what they counted as transitions caused.
    """

    def __init__(self, simulator: SimulatorServer, aws: Aws, options: Options) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start = partial(self._process, options, aws.address, f"{simulator.url}/Thingworx")
        self._numbers = itertools.count()
        self.middles: list[int] = []
        self.gap_ms: list[float] = []
        self.transitions = 0

    def _process(self, options: Options, *where: Any) -> tuple[Any, Any]:
        tell = self._context.Queue()
        process = self._context.Process(
            target=connector, args=(next(self._numbers), options, *where, tell), daemon=True
        )
        process.start()
        return process, tell

    @staticmethod
    def _expect(tell: Any, what: str) -> Any:
        kind, content = tell.get(timeout=LIFE_SECONDS)
        assert kind == what, (kind, content)
        return content

    def first(self) -> None:
        """The first connector, until it serves."""
        self._now = self._start()
        self._expect(self._now[1], "serving")

    def next(self) -> None:
        """One hand-over: from the call for a successor until the one before has ended."""
        process, tell = self._now
        self._expect(tell, "handover")
        successor = self._start()
        self.middles.append(self._expect(successor[1], "serving"))
        ended = self._expect(tell, "ended")
        self.gap_ms.append(ended["gap_ms"])
        self.transitions += int(ended["transitions"])
        process.join()
        self._now = successor

    def last(self) -> None:
        """End the last connector."""
        self._now[0].kill()
        self._now[0].join()


def measure(policy: str, options: Options) -> bool:
    """Print the figures of one policy; whether all bars are met."""
    with world(policy, options) as (simulator, aws, queue_url):
        writes, run = Writes(simulator), Run(simulator, aws, options)
        aws.produce(queue_url, TICK_SECONDS, partial(parcels, options.things))
        run.first()
        _until(lambda: len(simulator.platform.edges) == options.things)
        writes.collect()
        connected = len(simulator.platform.transitions)
        for number in range(options.handovers):
            run.next()
            writes.collect()
            print(f"\r{policy}: {number + 1} of {options.handovers}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        time.sleep(options.serve_seconds / 2)
        ticks = aws.stop_producing()
        _until(lambda: _drained(writes, ticks, options.things))
        moved = list(simulator.platform.transitions)[connected:]
        run.last()
    print(f"{policy}, {options.handovers} hand-overs of {options.things} Things at {options.latency_ms} ms:")
    most_moves = 0 if policy == "last-in-wins" else 2 * options.things * options.handovers
    return _report(options, writes, run, ticks, moved) and len(moved) <= most_moves


def _drained(writes: Writes, ticks: int, things: int) -> bool:
    writes.collect()
    return sum(bool(times) and times[-1] >= ticks for times in writes.times.values()) == things


def _report(options: Options, writes: Writes, run: Run, ticks: int, moved: list[Any]) -> bool:
    """Print the figures; whether the bars that both policies have are met, and that of being off."""
    off: list[int] = []
    gone: dict[str, int] = {}
    for entry in moved:
        if not entry.connected:
            gone[entry.thing] = entry.time
        elif entry.thing in gone:
            off.append(entry.time - gone.pop(entry.thing))
    gaps = sorted(itertools.chain.from_iterable(writes.gaps(middle) for middle in run.middles))
    everyday = sorted(writes.everyday(run.middles))
    lost, repeated, reordered = writes.faults(ticks)
    handed_over = options.things * options.handovers
    counted = [gap for gap in run.gap_ms if gap]
    print(f"  isConnected changes a Thing and hand-over: {len(moved) / handed_over:.3f}", end="")
    print(f" (the connectors counted {run.transitions / handed_over:.3f})")
    if off:
        off.sort()
        print(f"  a Thing is off for: {_spread(off)} (bar p99 {OFF_P99_SECONDS:g} s)")
    print(f"  longest time without a write around a hand-over: {_spread(gaps)}", end="")
    print(f" (bar p99 {GAP_P99_SECONDS:g} s, max {GAP_MOST_SECONDS:g} s); away from one: {_spread(everyday)}")
    if counted:
        print(f"  gap as the connectors count it: mean {sum(counted) / len(counted) / 1000:.3f} s")
    print(
        f"  of {ticks * options.things:,} readings: {lost} lost, {repeated} repeated, {reordered} reordered"
    )
    return (
        not gone
        and not lost
        and not reordered
        and _at(gaps, 0.99) < GAP_P99_SECONDS * 1000
        and gaps[-1] < GAP_MOST_SECONDS * 1000
        and (not off or _at(off, 0.99) < OFF_P99_SECONDS * 1000)
    )


def _at(ordered: list[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


def _spread(ordered: list[int]) -> str:
    median, high, most = (_at(ordered, part) / 1000 for part in (0.5, 0.99, 1.0))
    return f"p50 {median:.3f}, p99 {high:.3f}, max {most:.3f} s"


def _until(condition: Any) -> None:
    deadline = time.monotonic() + LIFE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.05)


def main() -> int:
    """Measure; 0 when all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--handovers", type=int, default=50)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--aws-latency-ms", type=float, default=5.0)
    parser.add_argument("--serve-seconds", type=float, default=4.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--policy", choices=(*POLICIES, "both"), default="both")
    asked = vars(parser.parse_args())
    policy = asked.pop("policy")
    options = Options(**asked)
    chosen = POLICIES if policy == "both" else (policy,)
    met = [measure(name, options) for name in chosen]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
