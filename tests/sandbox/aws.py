"""The few helpers that the contract tests of the local AWS speak with."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.emulator_process import EmulatorProcess

T = TypeVar("T")
ROLE = "arn:aws:iam::000000000000:role/any"


class Aws:
    """Clients of the emulator, and waiting for what happens in it."""

    def __init__(self, emulator: EmulatorProcess) -> None:
        self.emulator = emulator
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        """The client of a service by its boto3 name."""
        if service not in self._clients:
            make: Any = boto3.client  # the stubs know names of services only as literals
            self._clients[service] = make(
                service,
                endpoint_url=self.emulator.endpoint_url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}, max_pool_connections=50),
            )
        return self._clients[service]

    def function(self, source: str, *, environment: dict[str, str] | None = None, **settings: Any) -> str:
        """Create a Python function from the source of its module; `handle` is its handler."""
        name = unique("function")
        self("lambda").create_function(
            FunctionName=name,
            Runtime=settings.pop("Runtime", "python3.13"),
            Role=ROLE,
            Handler="module.handle",
            Code={"ZipFile": zipped({"module.py": source})},
            Timeout=settings.pop("Timeout", 20),
            Environment={"Variables": environment or {}},
            **settings,
        )
        return name

    def invoke(self, name: str, event: Any = None, **options: Any) -> dict[str, Any]:
        """The answer of Invoke with its payload decoded."""
        answer: dict[str, Any] = self("lambda").invoke(
            FunctionName=name, Payload=json.dumps(event), **options
        )
        payload = answer["Payload"].read()
        answer["Payload"] = json.loads(payload) if payload else None
        return answer

    def queue(self, **attributes: str) -> tuple[str, str]:
        """Create a queue; its URL and its ARN."""
        name = unique("queue") + (".fifo" if attributes.get("FifoQueue") == "true" else "")
        url = self("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        found = self("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def messages(self, url: str) -> list[Any]:
        """The JSON bodies of messages received in one call and deleted."""
        answer = self("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def stream(self, shards: int = 1) -> tuple[str, str]:
        """Create a Kinesis stream; its name and its ARN."""
        name = unique("stream")
        self("kinesis").create_stream(StreamName=name, ShardCount=shards)

        def active() -> str | None:
            found = self("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
            return str(found["StreamARN"]) if found["StreamStatus"] == "ACTIVE" else None

        return name, eventually(active)

    def records(self, stream: str) -> list[dict[str, Any]]:
        """All records of a stream's first shard."""
        client = self("kinesis")
        shard = client.list_shards(StreamName=stream)["Shards"][0]["ShardId"]
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        found: list[dict[str, Any]] = client.get_records(ShardIterator=iterator)["Records"]
        return found

    def log_lines(self, function: str) -> list[str]:
        """What a function has logged so far; [] before its log group exists."""
        try:
            events = self("logs").filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        except self("logs").exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def zipped(files: dict[str, str]) -> bytes:
    """A deployment package."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return package.getvalue()


def eventually(probe: Callable[[], T | None], seconds: float = 20.0) -> T:
    """The first truthy answer of `probe`; fails the test if none comes."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"nothing within {seconds} s: last answer {answer!r}")
        time.sleep(0.05)
