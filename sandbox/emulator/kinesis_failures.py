"""Where batches go that a Kinesis event source mapping gives up.

AWS documents one record for all destinations, with the batch's shard, sequence numbers and arrival
times; SQS and SNS get only that, S3 also the whole invocation record as the text `payload`, under the
key `aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<random>`. Uses ministack's
app.call_service_handler_sync and SERVICE_HANDLERS.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any
from urllib.parse import urlencode

from ministack import app

from . import patching

log = logging.getLogger("sandbox.kinesis")


def check() -> None:
    """Raise OverlayError if the emulator lacks what this module uses."""
    patching.require(app, "call_service_handler_sync", "SERVICE_HANDLERS")


def send(
    destination: str,
    *,
    mapping: dict[str, Any],
    shard: str,
    records: list[dict[str, Any]],
    invocations: int,
    condition: str,
    function_error: str | None,
) -> None:
    """Send one failed batch; a destination that refuses it loses it, as on AWS."""
    first, last = records[0]["kinesis"], records[-1]["kinesis"]
    response = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": function_error}
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": mapping["FunctionArn"],
            "condition": condition,
            "approximateInvokeCount": invocations,
        },
        "responseContext": {key: value for key, value in response.items() if value is not None},
        "version": "1.0",
        "timestamp": _iso(time.time()),
        "KinesisBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": first["sequenceNumber"],
            "endSequenceNumber": last["sequenceNumber"],
            "approximateArrivalOfFirstRecord": _iso(first["approximateArrivalTimestamp"]),
            "approximateArrivalOfLastRecord": _iso(last["approximateArrivalTimestamp"]),
            "batchSize": len(records),
            "streamArn": mapping["EventSourceArn"],
        },
    }
    service = destination.split(":")[2]
    if service == "s3":
        document["payload"] = json.dumps({"Records": records})
        status = _put_object(
            destination.rpartition(":")[2], _key(mapping["UUID"], shard), json.dumps(document)
        )
    elif service == "sqs":
        region, account, name = destination.split(":")[3:6]
        url = f"https://sqs.{region}.amazonaws.com/{account}/{name}"
        status = _call("sqs", "AmazonSQS.SendMessage", {"QueueUrl": url, "MessageBody": json.dumps(document)})
    elif service == "sns":
        status = _publish(destination, json.dumps(document))
    else:
        status = 400
    if status >= 400:
        log.error("failure destination %s answered %d: %d records lost", destination, status, len(records))


def _key(mapping: str, shard: str) -> str:
    now = time.gmtime()
    day, moment = time.strftime("%Y/%m/%d", now), time.strftime("%Y-%m-%dT%H.%M.%S", now)
    return f"aws/lambda/{mapping}/{shard}/{day}/{moment}-{uuid.uuid4()}"


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _put_object(bucket: str, key: str, body: str) -> int:
    handler = app.SERVICE_HANDLERS["s3"]
    headers = {"host": "s3.amazonaws.com", "content-type": "application/json"}
    answer = app.call_service_handler_sync(handler, "PUT", f"/{bucket}/{key}", headers, body.encode(), {})
    return int(answer[0])


def _call(service: str, target: str, body: dict[str, Any]) -> int:
    headers = {
        "x-amz-target": target,
        "content-type": "application/x-amz-json-1.0",
        "host": f"{service}.amazonaws.com",
    }
    handler = app.SERVICE_HANDLERS[service]
    answer = app.call_service_handler_sync(handler, "POST", "/", headers, json.dumps(body).encode(), {})
    return int(answer[0])


def _publish(topic: str, message: str) -> int:
    body = urlencode({"Action": "Publish", "TopicArn": topic, "Message": message}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "host": "sns.amazonaws.com"}
    answer = app.call_service_handler_sync(app.SERVICE_HANDLERS["sns"], "POST", "/", headers, body, {})
    return int(answer[0])
