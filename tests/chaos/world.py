"""One stack for one run: the real handlers in processes of their own, and everything around them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import redis

from lambdas.shared.control_table import REMOVED
from tests.chaos.aws_edge import APP_KEY_SECRET, REGION, AwsEdge, held_put
from tests.chaos.aws_faults import AwsFaults
from tests.chaos.functions import Changes, Function
from tests.chaos.history import Offer
from tests.chaos.lambda_service import LambdaService
from tests.chaos.machines import CONNECTOR, DISCOVERY, Machines
from tests.chaos.platform_process import PlatformProcess
from tests.chaos.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.certificates import Certificates
    from tests.chaos.history import HeldPut
    from tests.chaos.schedule import Schedule

__all__ = ["Common", "World"]

PROPERTIES = {"count": "INTEGER", "temp": "NUMBER", "note": "STRING"}
#: 45 s without a beat are 1.1 s in `machines`; the other times of production are cut to match.
_LEASE_SECONDS = 1.0
_BEAT_SECONDS = 0.2
_HANDOVER_SECONDS = 1.5
_MINUTE_SECONDS = 0.4
_THING_RETRY_SECONDS = 0.5
_ALWAYSON = {
    "connect": 1.0,
    "auth": 1.0,
    "bind": 0.8,
    "request": 0.8,
    "sync": 0.5,
    "ready": 1.2,
    "park_first": 0.3,
    "park_most": 0.6,
    "conflict_first": 0.1,
    "retry_first": 0.05,
    "retry_most": 0.3,
    "ping": 0.4,
    "pong": 0.4,
    "close": 0.3,
}
_RUN_SECONDS = 15.0
#: What a router may take from its look at the registry to the queue.
_UNDER_WAY_SECONDS = 0.3
_runs = itertools.count(1)


class Common(NamedTuple):
    """What runs share: a Redis server's port, certificates."""

    redis_port: int
    certificates: Certificates


class World:
    """The stack of one run; a context manager.

    Args:
        schedule: whose setting it has.
        common: what runs share.
        folder: takes the output of functions.
        changes: what is changed of the functions' code, and the pace of it all.
    """

    def __init__(self, schedule: Schedule, common: Common, folder: Path, changes: Changes) -> None:
        self.pace = pace = changes.pace
        self.name = f"chaos{next(_runs)}"
        self.schedule = schedule
        self.offers: list[Offer] = []
        self._setting = schedule.setting
        self._common = common
        self._redis = redis.Redis(port=common.redis_port)
        self._stack = contextlib.ExitStack()
        self._times: dict[str, int] = {}
        self._values = itertools.count(1)
        self._discoveries = itertools.count(1)
        self._others = itertools.count(1)
        platform_settings = {
            "bind_protection": self._setting.bind_protection,
            "idle_seconds": 1.5 * pace,
            "edge_answer_seconds": 1.0 * pace,
        }
        self.platform = PlatformProcess(common.certificates, platform_settings)
        self._variables: dict[str, str] = {}
        self.functions = LambdaService(
            {
                name: Function(name, f"lambdas.{name}.handler", self._variables)
                for name in ("router", "connector", "scaler", "assigner", "fetcher", "watch")
            },
            folder,
            changes,
        )
        self.machines = Machines(
            self.functions, lifetime=self._setting.lifetime, pace=pace, seed=schedule.seed
        )
        self.edge = AwsEdge(
            AwsFaults(schedule.seed),
            self.machines,
            control_table=f"{self.name}-control",
            held_table=f"{self.name}-held",
        )
        self.stream: Stream
        self._over = threading.Event()
        self._minutes = threading.Thread(target=self._watch, name="minutes", daemon=True)

    def __enter__(self) -> Self:
        self._redis.flushall()
        self._stack.enter_context(self.platform)
        self._stack.enter_context(self.edge)
        self._stack.callback(self.functions.close)
        self._stack.callback(self.machines.close)
        self._variables.update(self._environment())
        self._create_tables()
        for thing, push_type in self._setting.things.items():
            self.add_thing(thing, push_type)
        self.platform.call("latency", self._setting.latency_ms)
        self.stream = Stream(
            self.functions, shards=self._setting.shards, batch=self._setting.batch, seed=self.schedule.seed
        )
        self._stack.callback(self.stream.close)
        self._minutes.start()
        self._stack.callback(self._minutes.join, 10)
        self._stack.callback(self._over.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._redis.close()

    def _watch(self) -> None:
        """Call the watch function every minute."""
        while not self._over.wait(_MINUTE_SECONDS * self.pace):
            self.functions.invoke("watch", {}, _RUN_SECONDS)

    # What people and devices do

    def add_thing(self, thing: str, push_type: str) -> None:
        """Add a Thing to ThingWorx."""
        self.platform.call("add_thing", thing, PROPERTIES, push_type)

    def discover(self) -> str:
        """Run discovery once and wait for it; its status."""
        return self.machines.wait(DISCOVERY, self.start_discovery(), _RUN_SECONDS * self.pace)

    def start_discovery(self) -> str:
        """Start a discovery run; its name."""
        name = f"run-{next(self._discoveries)}"
        self.machines.start(DISCOVERY, name, "{}")
        return name

    def start_another(self, name: str) -> None:
        """Start a second execution for the slot and the epoch of one that runs."""
        given = self.machines.executions[CONNECTOR, name].given
        self.machines.start(CONNECTOR, f"{name}-other-{next(self._others)}", given)

    def let_a_day_pass(self, *things: str) -> bool:
        """Let Things that were removed have been away for a day, so that the next run forgets them.

        Not those whose readings are under way: in a day a router learns that they went, and what a queue
        holds of them is delivered or parked.

        Returns:
            Whether it was all of them.
        """
        records = {item["name"]["S"]: item for item in self._records() if item["state"]["S"] == REMOVED}
        since = (time.time() - self._setting.cache_seconds - _UNDER_WAY_SECONDS * self.pace) * 1000
        queued = {
            reading[0]
            for queue in list(self.edge.sqs.queues.values())
            for body in queue.bodies()
            for reading in json.loads(body)["readings"]
        }
        gone = [thing for thing in things or records if thing in records and thing not in queued]
        gone = [thing for thing in gone if int(records[thing]["changed"]["N"]) < since]
        for thing in gone:
            self.edge.request(
                "dynamodb",
                "UpdateItem",
                {
                    "TableName": f"{self.name}-control",
                    "Key": {name: records[thing][name] for name in ("pk", "sk")},
                    "UpdateExpression": "SET #changed = :long_ago",
                    "ExpressionAttributeNames": {"#changed": "changed"},
                    "ExpressionAttributeValues": {":long_ago": {"N": "1"}},
                },
            )
        return gone == list(things or records)

    def lose_registry(self) -> None:
        """Empty Redis."""
        self._redis.flushall()

    def publish(self, thing: str, parts: tuple[str, ...]) -> None:
        """Publish a reading as a device, through a topic rule.

        Args:
            thing: Thing name.
            parts: properties to send; `refused` adds a value of a wrong type, `broken` is no JSON at all.
        """
        number = next(self._values)
        known: dict[str, Any] = {"count": number, "temp": number + 0.5, "note": f"n{number}", "later": number}
        at = self._times[thing] = max(self._times.get(thing, 0) + 1, time.time_ns() // 1_000_000)
        values: dict[str, Any] = {name: known[name] for name in ("count", "temp", "note") if name in parts}
        optional: dict[str, Any] = {name: known[name] for name in ("later",) if name in parts}
        payload = {**values, **optional}
        if "refused" in parts:
            payload["count"] = "many"
            values.pop("count", None)
        raw = b"not json" if "broken" in parts else json.dumps(payload).encode()
        envelope = {
            "d": base64.b64encode(raw).decode(),
            "n": thing,
            "c": thing,
            "t": at,
            "s": f"dt/{thing}",
        }
        position = self.stream.put(thing, envelope)
        self.offers.append(Offer(thing, position.reading, at, values, optional, broken="broken" in parts))

    # What is looked at

    def slots(self) -> dict[str, dict[str, Any]]:
        """Items of all slots by id."""
        found = self.edge.request(
            "dynamodb",
            "Query",
            {
                "TableName": f"{self.name}-control",
                "KeyConditionExpression": "pk = :pk",
                "ExpressionAttributeValues": {":pk": {"S": "slots"}},
                "ConsistentRead": True,
            },
        )
        return {item["sk"]["S"]: item for item in found["Items"]}

    def things(self) -> dict[str, str]:
        """Slot of each Thing."""
        return {item["name"]["S"]: item["slot"]["S"] for item in self._records()}

    def _records(self) -> list[dict[str, Any]]:
        found = self._scan(f"{self.name}-control")
        return [item for item in found if item["pk"]["S"].startswith("thing#")]

    def held(self) -> list[HeldPut]:
        """What is in the held table, but for its allowances."""
        return [
            held_put(item, "")
            for item in self._scan(f"{self.name}-held")
            if item["pk"]["S"].partition("#")[0] in ("unrouted", "rejected", "parked")
        ]

    def unsettled(self) -> str:
        """What keeps this stack from being at rest; empty when it is."""
        lag = self.stream.lag()
        if lag:
            return f"{lag} records of the stream"
        for name, queue in list(self.edge.sqs.queues.items()):
            waiting, flying = queue.depth()
            if waiting or flying:
                return f"{waiting} messages of {name}, and {flying} in flight"
        running = self.machines.running(DISCOVERY)
        if running:
            return f"discovery runs {running}"
        parked = sorted({put.thing for put in self.held() if put.state == "parked"})
        if parked:  # of a Thing that nobody knows, they wait until it returns
            parked = [thing for thing in parked if thing in self.things()]
        return f"parked readings of {', '.join(parked)}" if parked else ""

    def end(self) -> None:
        """End it in the order of `terraform destroy`: what starts runs, then runs, then connectors."""
        self._over.set()
        self._minutes.join(_RUN_SECONDS)
        at_work = ("fetcher", "assigner", "scaler", "watch")
        wait_until(
            lambda: not self.machines.running(DISCOVERY) and not any(map(self.functions.busy, at_work)),
            _RUN_SECONDS * self.pace,
        )
        self._stop_slots()

    def _stop_slots(self) -> None:
        """Mark all slots as stopping, so that their connectors end."""
        for slot in self.slots():
            self.edge.request(
                "dynamodb",
                "UpdateItem",
                {
                    "TableName": f"{self.name}-control",
                    "Key": {"pk": {"S": "slots"}, "sk": {"S": slot}},
                    "UpdateExpression": "SET #state = :state",
                    "ExpressionAttributeNames": {"#state": "state"},
                    "ExpressionAttributeValues": {":state": {"S": "stopping"}},
                },
            )

    def _scan(self, table: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
        while True:
            answer = self.edge.request("dynamodb", "Scan", request)
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _create_tables(self) -> None:
        keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
        index = {
            "IndexName": "by_slot",
            "KeySchema": [
                {"AttributeName": "slot", "KeyType": "HASH"},
                {"AttributeName": "pk", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
        for kind, names, more in (
            ("control", ("pk", "sk", "slot"), {"GlobalSecondaryIndexes": [index]}),
            ("held", ("pk", "sk"), {}),
        ):
            definitions = [{"AttributeName": name, "AttributeType": "S"} for name in names]
            self.edge.request(
                "dynamodb",
                "CreateTable",
                {
                    "TableName": f"{self.name}-{kind}",
                    "KeySchema": keys,
                    "AttributeDefinitions": definitions,
                    "BillingMode": "PAY_PER_REQUEST",
                    **more,
                },
            )
        for kind in ("staging", "failures"):
            self.edge.create_bucket(f"{self.name}-{kind}")
        self.edge.request("sqs", "CreateQueue", {"QueueName": f"{self.name}-ingest-errors"})

    def _environment(self) -> dict[str, str]:
        bundle = str(self._common.certificates.bundle)
        return {
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.edge.address,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "STACK": self.name,
            "CONTROL_TABLE": f"{self.name}-control",
            "HELD_TABLE": f"{self.name}-held",
            "STAGING_BUCKET": f"{self.name}-staging",
            "REDIS_URL": f"redis://127.0.0.1:{self._common.redis_port}/0",
            "THINGWORX_URL": self.platform.call("url"),
            "THINGWORX_APP_KEY_SECRET_ARN": APP_KEY_SECRET,
            "THING_TAG": "AWS_CONNECTED_THING:AWS_CONNECTED_THING",
            "PROPERTY_CATEGORY": "AWSConnectorBound",
            "THINGS_PER_SLOT": str(self._setting.things_per_slot),
            "LANES_PER_SLOT": "3",
            "QUEUE_NAME_PREFIX": f"{self.name}-slot-",
            "CONNECTOR_STATE_MACHINE_ARN": CONNECTOR,
            "DISCOVERY_STATE_MACHINE_ARN": DISCOVERY,
            "REGISTRY_CACHE_SECONDS": str(self._setting.cache_seconds),
            "INGEST_ERRORS_QUEUE_URL": f"{self.edge.address}/000000000000/{self.name}-ingest-errors",
            "FAILURES_BUCKET": f"{self.name}-failures",
            "RETIRE_AFTER_SECONDS": "0",
            "RETIRE_DRAIN_SECONDS": str(math.ceil((self._setting.cache_seconds + 0.5) * self.pace)),
            "RETIRE_PAUSE_SECONDS": "0",
            "RESTART_AFTER_SECONDS": str(math.ceil(2 * self.pace)),
            "RUN_LEASE_SECONDS": str(math.ceil(3 * self.pace)),
            "LEASE_SECONDS": str(_LEASE_SECONDS * self.pace),
            "BEAT_SECONDS": str(_BEAT_SECONDS * self.pace),
            "HANDOVER_BEFORE_END_SECONDS": str(_HANDOVER_SECONDS * self.pace),
            "HANDOVER_JITTER_SECONDS": "0",
            "VISIBILITY_SECONDS": str(math.ceil(self.pace)),
            "THING_RETRY_SECONDS": str(_THING_RETRY_SECONDS * self.pace),
            "ALWAYSON_TIMEOUTS": json.dumps({name: wait * self.pace for name, wait in _ALWAYSON.items()}),
            "SSL_CERT_FILE": bundle,
            "REQUESTS_CA_BUNDLE": bundle,
            "AWS_LAMBDA_FUNCTION_NAME": "chaos",
        }


def wait_until(holds: Any, seconds: float, pause: float = 0.02) -> bool:
    """Wait until `holds()`; whether that came."""
    deadline = time.monotonic() + seconds
    stop = threading.Event()
    while not holds():
        if time.monotonic() >= deadline:
            return False
        stop.wait(pause)
    return True
