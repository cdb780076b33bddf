"""How many readings a second of CPU takes through the router, next to a per-record router.

    python -m benchmarks.router [--rounds 10] [--batch 2000] [--things 1000]

Both routers get the same batches in the same process, turn by turn, with a real Valkey on loopback,
and do the same conversion. CPU seconds are this process's own, user and system. The per-record router
is what is usually written: Powertools' BatchProcessor, a GET a record, an SQS message a reading.

Each is measured twice. With "no client" a queue that only counts stands in the place of the SQS client:
decode, look-up, convert and pack alone. With "boto3" the client does its work (serialise, sign, parse) and
only the network is left out, which is what a function pays. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import orjson
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from botocore.awsrequest import AWSResponse

from lambdas.router.router import Router
from lambdas.router.routes import Routes
from lambdas.shared.convert import convert_payload
from lambdas.shared.own_time import OwnTimes
from lambdas.shared.parcel import Reading, encode, lane_of
from lambdas.shared.registry import Entry, Registry, Route, connect
from lambdas.shared.send import Sender
from lambdas.shared.shape import Property, Shape, shape_id
from sandbox.redis_server import valkey_server

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from lambdas.shared.client_state import ClientState, KnownClient
    from lambdas.shared.held_store import HeldReading

SHAPE: Shape = {
    "temperature": Property("NUMBER", "temperature"),
    "pressure": Property("NUMBER", "pressure"),
    "rpm": Property("INTEGER", "rpm"),
    "running": Property("BOOLEAN", "running"),
    "serial": Property("STRING", "serial"),
}
SHAPE_ID = shape_id(SHAPE)
READINGS_PER_CPU_SECOND = 25_000
TIMES_BY_RECORD = 10
IMPORT_SECONDS = 0.4
NOW = 1_767_268_800_000

LOOKED_UP, CACHED, BY_RECORD = "batch, every Thing looked up", "batch, Things cached 60 s", "record by record"
NO_CLIENT, BOTO3 = "no client", "boto3"


class CountingSqs:
    """Takes every message and counts calls; in the place of a client."""

    def __init__(self) -> None:
        self.calls = 0

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002, N803
        """Take all of them."""
        self.calls += 1
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def send_message(self, QueueUrl: str, MessageBody: str, MessageGroupId: str) -> None:  # noqa: ARG002, N803
        """Take it."""
        self.calls += 1


class CountingEndpoint:
    """Answers a boto3 SQS client in the place of the network; takes every message and counts calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.client = boto3.client(
            "sqs",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - signs requests that go nowhere
        )
        events: Any = self.client.meta.events  # its stubs know no handler that answers
        events.register("before-send.sqs.*", self._answer)

    def _answer(self, request: Any, **_event: Any) -> AWSResponse:
        self.calls += 1
        entries = orjson.loads(request.body).get("Entries", [])
        answers = [
            {"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": "", "SequenceNumber": "1"}
            for entry in entries
        ]
        body = orjson.dumps(
            {"Successful": answers} if entries else {"MessageId": "1", "MD5OfMessageBody": ""}
        )
        headers: Any = {"content-type": "application/x-amz-json-1.0", "content-length": str(len(body))}
        return AWSResponse(request.url, 200, headers, _Body(body))


class _Body(io.BytesIO):
    """The part of urllib3's response that botocore reads."""

    def stream(self, **_options: Any) -> Iterator[bytes]:
        """All of it."""
        yield self.read()


class NothingHeld:
    """No reading of the benchmark may be held."""

    def hold(self, items: Sequence[HeldReading]) -> dict[str, int]:
        """Refuse to hold anything."""
        assert not items, items[0]
        return {}


class NothingNoted:
    """No client of the benchmark speaks for another Thing, and none connects."""

    def read(self, names: Collection[str]) -> dict[str, KnownClient]:
        """Refuse to be asked."""
        raise AssertionError(names)

    def write(self, spoke: Mapping[str, Collection[str]], states: Mapping[str, ClientState]) -> None:
        """Refuse to note anything."""
        raise AssertionError(spoke, states)


class Measured(NamedTuple):
    """One router's figures: CPU seconds a batch (median), calls to SQS a million readings."""

    name: str
    queue: str
    cpu_seconds: float
    calls_per_million: float


def batch_event(things: int, size: int, seed: int) -> dict[str, Any]:
    """A Kinesis event with `size` readings of random Things."""
    dice = random.Random(seed)
    return {"Records": [_record(f"pump-{dice.randrange(things):05d}", n, dice) for n in range(size)]}


def _record(thing: str, number: int, dice: random.Random) -> dict[str, Any]:
    payload = {
        "temperature": round(dice.uniform(10, 90), 2),
        "pressure": round(dice.uniform(1, 9), 3),
        "rpm": dice.randrange(3000),
        "running": dice.random() < 0.9,
        "serial": f"SN-{dice.randrange(10**8):08d}",
        "firmware": "4.2.1",
    }
    envelope = {
        "d": base64.b64encode(json.dumps(payload).encode()).decode(),
        "n": thing,
        "c": thing,
        "t": NOW + number,
        "s": f"dt/plant/{thing}",
    }
    sequence = str(49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + number)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": thing,
            "sequenceNumber": sequence,
            "data": base64.b64encode(json.dumps(envelope).encode()).decode(),
            "approximateArrivalTimestamp": NOW / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/ingest",
    }


def batch_router(registry: Registry, sqs: Any, cache_seconds: float) -> Callable[[dict[str, Any]], None]:
    """The product's router; 0 cache seconds look every Thing of every batch up."""
    routes = Routes(registry, cache_seconds)
    own_times = OwnTimes({}, 60)
    router = Router(
        routes, Sender(sqs), NothingHeld(), NothingNoted(), own_times=own_times, hold_unregistered=True
    )

    def route(event: dict[str, Any]) -> None:
        outcome = router.route(event["Records"], lambda: 60.0)
        assert outcome.counters["routed"] == len(event["Records"])

    return route


def record_router(client: Any, sqs: Any) -> Callable[[dict[str, Any]], None]:
    """A router that takes record by record; slots and shapes are in memory, Things are looked up."""
    processor = BatchProcessor(event_type=EventType.KinesisDataStreams)

    def handle_record(record: Any) -> None:
        envelope = record.kinesis.data_as_json()
        entry = json.loads(client.get(f"demo:thing:{envelope['n']}"))
        converted = convert_payload(base64.b64decode(envelope["d"]), SHAPE)
        reading_id = f"0:{record.kinesis.sequence_number}:0"
        reading = Reading(envelope["n"], envelope["t"], reading_id, entry["shape"], converted.values)
        sqs.send_message(
            QueueUrl=f"https://sqs/demo-slot-{entry['slot']}.fifo",
            MessageBody=encode([reading], {SHAPE_ID: SHAPE}).decode(),
            MessageGroupId=f"lane-{lane_of(envelope['n'], 8)}",
        )

    def route(event: dict[str, Any]) -> None:
        context = cast("Any", SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
        answer = process_partial_response(
            event=event, record_handler=handle_record, processor=processor, context=context
        )
        assert answer == {"batchItemFailures": []}

    return route


def measure(things: int, batch: int, rounds: int) -> list[Measured]:
    """Figures of the routers, measured turn by turn."""
    with valkey_server() as server:
        client = connect(
            cast(
                "Any",
                SimpleNamespace(redis_url=f"redis://127.0.0.1:{server.port}/0", redis_auth_secret_arn=None),
            )
        )
        registry = Registry(client, "demo")
        slots = {"1": Route("https://sqs/demo-slot-1.fifo", 8)}
        entries = {f"pump-{number:05d}": Entry("1", SHAPE_ID) for number in range(things)}
        registry.publish({SHAPE_ID: SHAPE}, slots, entries, [])
        routers: list[tuple[str, str, CountingSqs | CountingEndpoint, Callable[[dict[str, Any]], None]]] = []
        for queue in (NO_CLIENT, BOTO3):
            counters = [CountingSqs() if queue == NO_CLIENT else CountingEndpoint() for _ in range(3)]
            clients = [sqs if isinstance(sqs, CountingSqs) else sqs.client for sqs in counters]
            routers += [
                (LOOKED_UP, queue, counters[0], batch_router(registry, clients[0], 0)),
                (CACHED, queue, counters[1], batch_router(registry, clients[1], 60)),
                (BY_RECORD, queue, counters[2], record_router(client, clients[2])),
            ]
        seconds: list[list[float]] = [[] for _ in routers]
        for turn in range(-1, rounds):  # the first turn warms up
            event = batch_event(things, batch, turn)
            for (_, _, _, route), spent in zip(routers, seconds, strict=True):
                before = time.process_time()
                route(event)
                if turn >= 0:
                    spent.append(time.process_time() - before)
        client.close()
    readings = batch * (rounds + 1)
    return [
        Measured(name, queue, statistics.median(spent), sqs.calls / readings * 1e6)
        for (name, queue, sqs, _), spent in zip(routers, seconds, strict=True)
    ]


def import_seconds() -> float:
    """What importing the handler costs a new process, beyond starting Python (median of 5)."""
    code = (
        "import time; start = time.perf_counter(); import lambdas.router.handler;"
        " print(time.perf_counter() - start)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(5)
    ]
    return statistics.median(float(run) for run in runs)


def main() -> int:
    """Measure, print the table, compare with the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--things", type=int, default=1000)
    options = parser.parse_args()
    results = measure(options.things, options.batch, options.rounds)
    spent = {(result.name, result.queue): result.cpu_seconds for result in results}
    print(
        f"{options.rounds} batches of {options.batch} readings, {options.things} Things, 5 values a reading\n"
    )
    print(f"{'router':<32}{'queue':<12}{'readings / CPU s':>18}{'times':>8}{'SQS calls / M':>16}")
    for name, queue, seconds, calls in results:
        rate, times = options.batch / seconds, spent[BY_RECORD, queue] / seconds
        print(f"{name:<32}{queue:<12}{rate:>18,.0f}{times:>8.1f}{calls:>16,.0f}")
    imported = import_seconds()
    print(f"\nimport of lambdas.router.handler: {imported * 1000:.0f} ms\n")
    rate = options.batch / spent[LOOKED_UP, NO_CLIENT]
    times = spent[BY_RECORD, BOTO3] / spent[LOOKED_UP, BOTO3]
    bars = {
        f"at least {READINGS_PER_CPU_SECOND:,} readings / CPU s, {NO_CLIENT}": rate
        >= READINGS_PER_CPU_SECOND,
        f"at least {TIMES_BY_RECORD} times {BY_RECORD}, {BOTO3}": times >= TIMES_BY_RECORD,
        f"import in at most {IMPORT_SECONDS * 1000:.0f} ms": imported <= IMPORT_SECONDS,
    }
    for bar, reached in bars.items():
        print(f"{'reached' if reached else 'MISSED':<8} {bar}")
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
