"""Kinesis event records as Lambda gets them, around any data."""

from __future__ import annotations

import base64
import json
from typing import Any

__all__ = ["envelope", "event", "lifecycle", "record", "telemetry"]

STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/iot-ingest"
FIRST_SEQUENCE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
NOW = 1_767_268_800_000


def record(data: bytes, number: int = 0, shard: int = 0, key: str = "pump-1") -> dict[str, Any]:
    """One of `Records`, with the sequence number `FIRST_SEQUENCE + number`."""
    sequence = str(FIRST_SEQUENCE + number)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": (NOW + number) / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-{shard:012d}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/router",
        "awsRegion": "us-east-1",
        "eventSourceARN": STREAM,
    }


def envelope(payload: bytes, thing: str = "pump-1", **changes: Any) -> dict[str, Any]:
    """What the topic rules put around a payload."""
    fields = {"d": base64.b64encode(payload).decode(), "n": thing, "c": thing, "t": NOW, "s": f"dt/{thing}"}
    return fields | changes


def telemetry(payload: Any, thing: str = "pump-1", number: int = 0, **changes: Any) -> dict[str, Any]:
    """A record with a payload: bytes as they are, anything else as JSON."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return record(json.dumps(envelope(raw, thing, t=NOW + number) | changes).encode(), number, key=thing)


def lifecycle(
    client: str = "pump-1", kind: str = "connected", number: int = 0, **changes: Any
) -> dict[str, Any]:
    """A record with a lifecycle event as AWS IoT publishes it."""
    fields = {
        "clientId": client,
        "timestamp": NOW + number,
        "eventType": kind,
        "sessionIdentifier": "a4666d2a7d844ae4ac5d7b38c9cb7967",
        "principalIdentifier": "12b58b5a4c7a",
        "versionNumber": 0,
    }
    return record(json.dumps(fields | changes).encode(), number, key=client)


def event(*records: dict[str, Any]) -> dict[str, Any]:
    """A Lambda event."""
    return {"Records": list(records)}
