"""The five real handlers in one process: from a tagged Thing and Kinesis records to values in ThingWorx.

AWS is in memory, the registry is a real Valkey, ThingWorx is the simulator behind TLS. The steps of the
discovery state machine are walked by hand in its order.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import boto3

from lambdas.assigner import handler as assigner
from lambdas.connector import handler as connector
from lambdas.fetcher import handler as fetcher
from lambdas.router import handler as router
from lambdas.scaler import handler as scaler
from sandbox.redis_server import valkey_server
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table
from tests.unit.router.kinesis import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pytest
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from sandbox.certificates import Certificates

__all__ = ["BUCKET", "HELD", "Stack", "wait_until", "whole_stack"]

HELD = "demo-held"
BUCKET = "demo-staging"
_SECONDS = 60.0


class OpenToken:
    """Step Functions for one connector: takes every beat and remembers the answer."""

    def __init__(self) -> None:
        self.answers: list[str] = []

    def send_task_heartbeat(self, **_: str) -> None:
        """Always in time."""

    def send_task_success(self, *, taskToken: str, output: str) -> None:  # noqa: N803 - boto3's names
        """Keep the answer."""
        self.answers.append(output)

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> None:  # noqa: N803 - same
        """Keep the failure."""
        self.answers.append(f"{error}: {cause}")


class Stack:
    """What Terraform would have made, and the functions as AWS would call them."""

    def __init__(self, platform: SimulatorServer, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.server = platform
        self.platform = platform.platform
        self.token = OpenToken()
        self.dynamodb = create_control_table()
        self.dynamodb.create_table(
            TableName=HELD,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        boto3.client("s3").create_bucket(Bucket=environ["FAILURES_BUCKET"])

    def add_thing(self, name: str) -> None:
        """Add a tagged Thing to ThingWorx."""
        self.platform.add_thing(
            name,
            properties=[
                remote_property("temp", "NUMBER"),
                remote_property("waterLevel", "INTEGER"),
                remote_property("state", "STRING"),
                remote_property("on", "BOOLEAN"),
            ],
        )

    def discover(self, run: str, *, dry_run: bool = False, **options: Any) -> dict[str, Any]:
        """Walk the discovery state machine; the answers of its list and assign steps."""
        context = cast("LambdaContext", SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))

        def call(function: Any, **payload: Any) -> dict[str, Any]:
            return cast("dict[str, Any]", function.handle({**payload, "run": run}, context))

        begun = call(assigner, action="begin", dry_run=dry_run, **options)
        assert begun["acquired"]
        error = "unknown"
        try:
            listed = call(fetcher, action="list", full=begun["full"], things=begun["things"])
            for packet in listed["packets"]:
                call(fetcher, action="fetch", packet=packet)
            removals = begun["allow_removals"]
            plan = call(assigner, action="assign", dry_run=dry_run, allow_removals=removals)
            for slots in plan["slot_packets"]:
                call(scaler, action="open", slots=slots)
            if not dry_run:
                call(assigner, action="publish")
            error = ""
        except Exception as failure:
            error = type(failure).__name__
            raise
        finally:
            call(assigner, action="end", dry_run=dry_run, failed=bool(error), error=error)
        return {**listed, **plan}

    def report(self) -> dict[str, Any]:
        """The newest report."""
        s3 = boto3.client("s3")
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix="reports/").get("Contents", [])
        newest = max(found, key=lambda entry: (entry["LastModified"], entry["Key"]))
        report: dict[str, Any] = json.loads(s3.get_object(Bucket=BUCKET, Key=newest["Key"])["Body"].read())
        return report

    def route(self, *records: dict[str, Any]) -> dict[str, Any]:
        """Give the router a batch."""
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
        return router.handle(event(*records), cast("LambdaContext", context))

    def serve(self, slot: str, until: Callable[[], bool]) -> None:
        """Run the slot's connector until something holds, then stop the slot."""
        with self.serving(slot):
            wait_until(until)

    @contextlib.contextmanager
    def serving(self, slot: str) -> Iterator[None]:
        """Run the slot's connector beside what happens inside, then stop the slot."""
        item = self.dynamodb.get_item(
            TableName=CONTROL_TABLE, Key={"pk": {"S": "slots"}, "sk": {"S": slot}}, ConsistentRead=True
        )["Item"]
        start = {
            "v": 1,
            "slot": slot,
            "epoch": int(item["epoch"]["N"]),
            "token": "token",
            "execution": f"{slot}-{item['epoch']['N']}-0",
            "turn": 0,
        }
        context = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 60_000)
        serving = threading.Thread(target=connector.handle, args=(start, context))
        serving.start()
        try:
            yield
        finally:
            self.dynamodb.update_item(
                TableName=CONTROL_TABLE,
                Key={"pk": {"S": "slots"}, "sk": {"S": slot}},
                UpdateExpression="SET #state = :stopping",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":stopping": {"S": "stopping"}},
            )
            serving.join(_SECONDS)
            assert not serving.is_alive()

    def values(self, thing: str) -> dict[str, Any]:
        """Current values of a Thing."""
        return {write.property: write.value for write in self.platform.log.since(0, thing=thing)}

    def held(self) -> list[tuple[str, str]]:
        """Partition and reason of everything in the held store."""
        items = self.dynamodb.scan(TableName=HELD)["Items"]
        return sorted((i["pk"]["S"], i["reason"]["S"]) for i in items if "reason" in i)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait; fail when it doesn't come."""
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextlib.contextmanager
def whole_stack(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, **environ: str
) -> Iterator[Stack]:
    """A fresh stack, with these settings."""
    caches = (
        assigner._parts,
        assigner._registry,
        connector._clients,
        connector._settings,
        fetcher._parts,
        router.service,
        scaler._parts,
    )
    with (
        valkey_server() as valkey,
        SimulatorServer(tls=(certificates.chain, certificates.key), control_port=None) as platform,
        aws(),
    ):
        secret = boto3.client("secretsmanager").create_secret(Name="key", SecretString=platform.app_key)
        variables = {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "HELD_TABLE": HELD,
            "STAGING_BUCKET": BUCKET,
            "REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "THINGWORX_URL": f"{platform.url}/Thingworx",
            "THINGWORX_APP_KEY_SECRET_ARN": secret["ARN"],
            "THING_TAG": "AWS_CONNECTED_THING:AWS_CONNECTED_THING",
            "PROPERTY_CATEGORY": "AWSConnectorBound",
            "THINGS_PER_SLOT": "2",
            "QUEUE_NAME_PREFIX": "demo-slot-",
            "CONNECTOR_STATE_MACHINE_ARN": _state_machine(),
            "INGEST_ERRORS_QUEUE_URL": boto3.client("sqs").create_queue(QueueName="demo-ingest-errors")[
                "QueueUrl"
            ],
            "FAILURES_BUCKET": "demo-failures",
            "REGISTRY_CACHE_SECONDS": "0",
            "LEASE_SECONDS": "5",
            "BEAT_SECONDS": "0.2",
            "SSL_CERT_FILE": str(certificates.bundle),
            "REQUESTS_CA_BUNDLE": str(certificates.bundle),
        }
        for name, value in (variables | environ).items():
            monkeypatch.setenv(name, value)
        for cached in caches:
            cached.cache_clear()
        made = Stack(platform, variables | environ)
        clients = connector._clients()._replace(stepfunctions=cast("Any", made.token))
        monkeypatch.setattr(connector, "_clients", lambda: clients)
        yield made
        for cached in caches:
            cached.cache_clear()


def _state_machine() -> str:
    client = boto3.client("stepfunctions")
    made = client.create_state_machine(
        name="demo-connector",
        definition='{"StartAt": "End", "States": {"End": {"Type": "Pass", "End": true}}}',
        roleArn="arn:aws:iam::123456789012:role/demo",
    )
    return made["stateMachineArn"]
