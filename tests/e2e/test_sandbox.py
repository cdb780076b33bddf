"""`make sandbox` as a person uses it: endpoints, a new Thing, a run by hand, the next message arrives."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis
import requests

from sandbox.thingworx.control import CONTROL_HEADER
from tests.e2e.processes import processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.timeout(300)


class RunningSandbox:
    """A sandbox in a process of its own, and the commands that a person types beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--folder", str(folder), "up"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.guide = self._read_guide()
        self.aws = dict(re.findall(r"^  export (\w+)=(\S+)$", self.guide, re.MULTILINE))
        self.endpoints: dict[str, Any] = json.loads((folder / "main" / "endpoints.json").read_text())

    def _read_guide(self) -> str:
        assert self._process.stdout is not None
        lines: list[str] = []
        for line in self._process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                return "".join(lines)
        raise AssertionError(f"the sandbox ended: {''.join(lines)}")

    def command(self, *arguments: str) -> str:
        """`python -m sandbox ...` as in the guide."""
        return subprocess.run(
            [sys.executable, "-m", "sandbox", "--folder", str(self.folder), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def ops(self, *arguments: str) -> str:
        """`python -m ops ...` with the printed exports."""
        command, *options = arguments
        return subprocess.run(
            [sys.executable, "-m", "ops", command, "--stack", "sandbox", *options],
            cwd=ROOT,
            env={**os.environ, **self.aws},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def client(self, service: str) -> Any:
        """A boto3 client as the printed exports configure it."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.aws["AWS_ENDPOINT_URL"],
            region_name=self.aws["AWS_REGION"],
            aws_access_key_id=self.aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.aws["AWS_SECRET_ACCESS_KEY"],
        )

    def discover(self) -> dict[str, Any]:
        """Run the printed start-execution command through the API; the execution at its end."""
        found = re.search(r"--state-machine-arn (\S+)", self.guide)
        assert found, self.guide
        client = self.client("stepfunctions")
        arn = client.start_execution(stateMachineArn=found[1])["executionArn"]
        deadline = time.monotonic() + 60
        while (execution := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline, "the run does not end"
            time.sleep(0.2)
        return dict(execution)

    def fault(self, rule: dict[str, Any]) -> Callable[[], None]:
        """Make ThingWorx misbehave; call the result to end it."""
        url = f"{self.endpoints['control_url']}/simulator/faults"
        headers = {CONTROL_HEADER: "test"}
        requests.post(url, json=rule, headers=headers, timeout=5).raise_for_status()
        return lambda: requests.delete(url, headers=headers, timeout=5).raise_for_status()

    def registry(self) -> dict[str, Any]:
        """Everything in Redis, as the guide says how to reach it."""
        found = re.search(r"Redis +(rediss://\S+)", self.guide)
        assert found, self.guide
        secret = self.client("secretsmanager").get_secret_value(SecretId="redis-password")
        with redis.Redis.from_url(
            found[1], password=secret["SecretString"], ssl_ca_certs=self.endpoints["ca_bundle"]
        ) as client:
            return {key.decode(): client.dump(key) for key in sorted(client.scan_iter())}

    def stop(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    running = RunningSandbox(tmp_path_factory.mktemp("sandbox"))
    try:
        yield running
    finally:
        running.stop()
    assert processes_of(running.folder) == []


def test_a_thing_added_a_moment_before_is_discovered_and_its_next_message_arrives(
    sandbox: RunningSandbox,
) -> None:
    sandbox.command("add-thing", "MyTestDevice1")
    assert sandbox.discover()["status"] == "SUCCEEDED"
    sandbox.command("publish", "MyTestDevice1", '{"temp": 10, "waterLevel": 12, "state": "reporting"}')
    deadline = time.monotonic() + 60
    while '"reporting"' not in (shown := sandbox.command("values", "MyTestDevice1")):
        assert time.monotonic() < deadline, f"the values did not arrive:\n{shown}"
        time.sleep(0.5)
    rows = {row["name"]: row for row in map(json.loads, shown.splitlines())}
    assert (rows["temp"]["value"], rows["waterLevel"]["value"]) == (10, 12)
    assert {rows[name]["quality"] for name in ("temp", "waterLevel", "state")} == {"GOOD"}


def test_an_alarm_reaches_who_subscribed_to_the_topic_with_what_to_do(sandbox: RunningSandbox) -> None:
    sns, sqs = sandbox.client("sns"), sandbox.client("sqs")
    (topic,) = [
        it["TopicArn"] for it in sns.list_topics()["Topics"] if it["TopicArn"].endswith(":sandbox-alarms")
    ]
    queue = sqs.create_queue(QueueName="pager")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    alarm = {"AlarmName": "sandbox-messages-near-loss", "StateReason": "tried"}
    sandbox.client("cloudwatch").set_alarm_state(**alarm, StateValue="ALARM")
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    told = json.loads(json.loads(message["Body"])["Message"])
    assert (told["AlarmName"], told["NewStateValue"]) == (alarm["AlarmName"], "ALARM")
    assert "docs/operations.md#readings-wait-in-the-queues" in told["AlarmDescription"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 401, "body": "no"}, "application key"),
        ({"status": 200, "html": True, "body": "Welcome"}, "JSON"),
        ({"redirect": "/login"}, "redirects"),
    ],
)
def test_a_refusing_platform_fails_the_run_with_its_reason_and_changes_nothing(
    sandbox: RunningSandbox, fault: dict[str, Any], reason: str
) -> None:
    before = sandbox.registry()
    assert "sandbox:thing:MyTestDevice1" in before
    end_fault = sandbox.fault(fault)
    try:
        execution = sandbox.discover()
    finally:
        end_fault()
    assert execution["status"] == "FAILED"
    assert "ThingworxRefused" in execution["error"]
    assert reason in execution["cause"]
    assert sandbox.registry() == before


def test_a_message_that_the_stream_did_not_take_arrives_once_it_is_put_back(sandbox: RunningSandbox) -> None:
    sandbox.command("add-thing", "MyTestDevice2")
    assert sandbox.discover()["status"] == "SUCCEEDED"
    iot = sandbox.client("iot")
    (name,) = [
        rule["ruleName"] for rule in iot.list_topic_rules()["rules"] if "telemetry" in rule["ruleName"]
    ]
    kept = ("sql", "description", "actions", "ruleDisabled", "awsIotSqlVersion", "errorAction")
    rule = {key: value for key, value in iot.get_topic_rule(ruleName=name)["rule"].items() if key in kept}
    (action,) = rule["actions"]
    away = {"kinesis": {**action["kinesis"], "streamName": "nowhere"}}
    iot.replace_topic_rule(ruleName=name, topicRulePayload={**rule, "actions": [away]})
    try:
        sandbox.command("publish", "MyTestDevice2", '{"temp": 21}')
        deadline = time.monotonic() + 30
        while json.loads(sandbox.ops("status", "--json"))["beside_the_stream"]["ingest_errors"] != 1:
            assert time.monotonic() < deadline, "the rule reported nothing"
            time.sleep(0.5)
    finally:
        iot.replace_topic_rule(ruleName=name, topicRulePayload=rule)
    assert "put 1 records of 1 messages into sandbox-ingest" in sandbox.ops("reingest")
    deadline = time.monotonic() + 60
    while '"temp"' not in (shown := sandbox.command("values", "MyTestDevice2")) or "21" not in shown:
        assert time.monotonic() < deadline, f"the value did not arrive:\n{shown}"
        time.sleep(0.5)
    assert json.loads(sandbox.ops("status", "--json"))["beside_the_stream"] == {
        "ingest_errors": 0,
        "failed_batches": 0,
        "failed_batches_complete": True,
    }
