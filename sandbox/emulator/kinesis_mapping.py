"""Lambda event source mappings for Kinesis streams.

Restored behaviour, as documented for CreateEventSourceMapping:
- shards and mappings are independent of each other; a shard's records stay in order; the records of a
  split or merged shard come before those of its children; TRIM_HORIZON and LATEST;
- a batch: BatchSize (default 100), MaximumBatchingWindowInSeconds, at most 6 MB of payload;
- ReportBatchItemFailures: the lowest reported sequence number is where the batch starts again; an empty
  or unknown identifier fails the whole batch;
- a raised error halves the batch under BisectBatchOnFunctionError, which costs no attempt;
- MaximumRetryAttempts and MaximumRecordAgeInSeconds (-1: without end), throttles cost no attempt; then
  the batch goes to the failure destination: SQS and SNS get metadata, S3 the whole invocation record.
Replaces lambda_svc._poll_kinesis, _create_esm and _init_stream_position; uses _esms, _iter_all_esms,
_kinesis_positions, _apply_filter_criteria, _execute_function, _get_func_record_for_qualifier, esm_wake,
_request_account_id, _request_region, and kinesis._streams.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import base64
import contextvars
import logging
import threading
import time
from typing import Any

import ministack.services.lambda_svc as service
from ministack.core.responses import get_region
from ministack.services import kinesis

from . import kinesis_failures, patching, settings

log = logging.getLogger("sandbox.kinesis")

MAXIMUM_PAYLOAD_BYTES = 6 * 1024 * 1024
DEFAULTS = {
    "BatchSize": 100,
    "BisectBatchOnFunctionError": False,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1,
}
_busy: set[tuple[str, str]] = set()
Record = dict[str, Any]


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(kinesis, "_streams")
    patching.require(
        service,
        *("_esms", "_iter_all_esms", "_kinesis_positions", "_apply_filter_criteria", "_execute_function"),
        *("_get_func_record_for_qualifier", "esm_wake", "_request_account_id", "_request_region"),
    )
    kinesis_failures.check()
    patching.replace(service, "_create_esm", _create_for)
    patching.replace(service, "_init_stream_position", _first_position_for)
    patching.replace(service, "_poll_kinesis", lambda _: poll)


def _create_for(original: Any) -> Any:
    def create(data: dict[str, Any]) -> Any:
        if ":kinesis:" in data.get("EventSourceArn", ""):
            data = {**DEFAULTS, **data}
        return original(data)

    return create


def _first_position_for(original: Any) -> Any:
    def anchor(mapping: str, source: str, starting: str) -> None:
        """Note, per shard, the last sequence number before the first record to read."""
        stream = _stream(source) if ":kinesis:" in source else None
        if stream is None:
            original(mapping, source, starting)
        elif starting == "LATEST":
            service._kinesis_positions[mapping] = {
                name: int(shard["records"][-1]["SequenceNumber"])
                for name, shard in stream["shards"].items()
                if shard["records"]
            }
        else:
            service._kinesis_positions[mapping] = {}

    return anchor


def _stream(arn: str) -> dict[str, Any] | None:
    _, _, _, region, account, name = arn.split(":", 5)
    return kinesis._streams.get_scoped(account, region, name.removeprefix("stream/"))


def poll() -> bool:
    """Start a thread for every shard that has records and none at work."""
    for account, region, mapping in service._iter_all_esms():
        if ":kinesis:" not in mapping.get("EventSourceArn", "") or not mapping.get("Enabled", True):
            continue
        scope = contextvars.copy_context()
        scope.run(service._request_account_id.set, account)
        scope.run(service._request_region.set, region)
        stream = scope.run(_stream, mapping["EventSourceArn"])
        if stream is None or stream["StreamStatus"] != "ACTIVE":
            continue
        positions = scope.run(service._kinesis_positions.setdefault, mapping["UUID"], {})
        for name in list(stream["shards"]):
            key = (mapping["UUID"], name)
            if key not in _busy and _readable(stream, name, positions):
                _busy.add(key)
                threading.Thread(
                    target=scope.copy().run, args=(_serve, key, mapping, positions), daemon=True
                ).start()
    return False


def _readable(stream: dict[str, Any], name: str, positions: dict[str, int]) -> bool:
    shard = stream["shards"][name]
    parents = (
        stream["shards"].get(shard.get(key)) for key in ("parent_shard_id", "adjacent_parent_shard_id")
    )
    names = (shard.get("parent_shard_id"), shard.get("adjacent_parent_shard_id"))
    if any(
        parent and unread(parent, positions.get(key, 0)) for parent, key in zip(parents, names, strict=True)
    ):
        return False
    return bool(unread(shard, positions.get(name, 0)))


def unread(shard: dict[str, Any], position: int) -> list[Record]:
    """A shard's records after a sequence number, oldest first."""
    records: list[Record] = shard["records"]
    first = len(records)
    while first and int(records[first - 1]["SequenceNumber"]) > position:
        first -= 1
    return records[first:]


def _serve(key: tuple[str, str], mapping: dict[str, Any], positions: dict[str, int]) -> None:
    """Deliver a shard's records until none is left."""
    _, shard = key
    try:
        while _active(mapping) and (batch := _next_batch(mapping, shard, positions.get(shard, 0))):
            Delivery(mapping, shard, positions).run(batch)
    except Exception:
        log.exception("event source mapping %s, shard %s", *key)
    finally:
        _busy.discard(key)
        service.esm_wake.set()


def _active(mapping: dict[str, Any]) -> bool:
    return mapping["UUID"] in service._esms and mapping.get("Enabled", True)


def _next_batch(mapping: dict[str, Any], shard: str, position: int) -> list[Record]:
    size = mapping.get("BatchSize", DEFAULTS["BatchSize"])
    closes = time.monotonic() + (mapping.get("MaximumBatchingWindowInSeconds") or 0)
    while True:
        stream = _stream(mapping["EventSourceArn"])
        records = unread(stream["shards"][shard], position) if stream and shard in stream["shards"] else []
        batch, payload = [], 0
        for record in records[:size]:
            payload += len(_data(record)) + 400  # what the event wraps around a record
            if batch and payload > MAXIMUM_PAYLOAD_BYTES:
                return batch
            batch.append(record)
        if not batch or len(batch) == size or time.monotonic() >= closes:
            return batch
        time.sleep(min(settings.KINESIS_POLL_SECONDS, max(0.0, closes - time.monotonic())))


def _data(record: Record) -> str:
    """A record's data in base64, as the stream stores what its API was given."""
    data = record["Data"]
    return data if isinstance(data, str) else base64.b64encode(data).decode()


class Delivery:
    """One batch on its way to the function: its attempts, its parts, its end."""

    def __init__(self, mapping: dict[str, Any], shard: str, positions: dict[str, int]) -> None:
        self.mapping = mapping
        self.shard = shard
        self.positions = positions

    def run(self, batch: list[Record]) -> None:
        """Deliver a batch and all that becomes of it; the position moves as records are settled."""
        waiting: list[tuple[list[Record], int]] = [(batch, 0)]
        throttles = 0
        while waiting and _active(self.mapping):
            records, attempts = waiting.pop(0)
            records = self._without_expired(records, attempts)
            if not records:
                continue
            result, failed_at = self._invoke(records)
            if failed_at is None:
                self._settle(records)
                continue
            self._settle(records[:failed_at])
            rest = records[failed_at:]
            if result.get("throttle"):
                throttles += 1
                self._pause(throttles)
                waiting.insert(0, (rest, attempts))
            elif result.get("error") and self.mapping.get("BisectBatchOnFunctionError") and len(rest) > 1:
                middle = (len(rest) + 1) // 2
                waiting[:0] = [(rest[:middle], attempts), (rest[middle:], attempts)]
            elif 0 <= self._limit() <= attempts:
                self._give_up(rest, attempts + 1, result, "RetryAttemptsExhausted")
            else:
                self._pause(attempts + 1)
                waiting.insert(0, (rest, attempts + 1))

    def _limit(self) -> int:
        limit = self.mapping.get("MaximumRetryAttempts")
        return -1 if limit is None else limit

    def _pause(self, attempts: int) -> None:
        time.sleep(settings.KINESIS_RETRY_SECONDS * min(10, 2 ** (attempts - 1)))

    def _settle(self, records: list[Record]) -> None:
        if records:
            self.positions[self.shard] = int(records[-1]["SequenceNumber"])

    def _without_expired(self, records: list[Record], attempts: int) -> list[Record]:
        age = self.mapping.get("MaximumRecordAgeInSeconds") or -1
        if age < 0:
            return records
        oldest = time.time() - age
        expired = 0
        while expired < len(records) and records[expired]["ApproximateArrivalTimestamp"] < oldest:
            expired += 1
        if expired:
            self._give_up(records[:expired], attempts, {}, "RecordAgeExceeded")
        return records[expired:]

    def _give_up(
        self, records: list[Record], invocations: int, result: dict[str, Any], condition: str
    ) -> None:
        destination = ((self.mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get(
            "Destination"
        )
        if destination:
            kinesis_failures.send(
                destination,
                mapping=self.mapping,
                shard=self.shard,
                records=[self._event_record(record) for record in records],
                invocations=invocations,
                condition=condition,
                function_error="Unhandled" if result.get("error") else None,
            )
        self._settle(records)

    def _invoke(self, records: list[Record]) -> tuple[dict[str, Any], int | None]:
        """The invocation's result, and the index of the first record that isn't done (None: all are)."""
        events = service._apply_filter_criteria(
            [self._event_record(record) for record in records], self.mapping
        )
        if not events:
            return {}, None
        function, _ = service._get_func_record_for_qualifier(
            self.mapping["FunctionName"], self.mapping.get("Qualifier")
        )
        if function is None:
            return {"throttle": True}, 0
        result = service._execute_function(function, {"Records": events})
        self.mapping["LastProcessingResult"] = (
            "PROBLEM: Function call failed" if result.get("error") else "OK"
        )
        if result.get("error"):
            return result, 0
        if "ReportBatchItemFailures" not in (self.mapping.get("FunctionResponseTypes") or []):
            return result, None
        return result, first_failure(result.get("body"), [record["SequenceNumber"] for record in records])

    def _event_record(self, record: Record) -> Record:
        function, config = service._get_func_record_for_qualifier(
            self.mapping["FunctionName"], self.mapping.get("Qualifier")
        )
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record["PartitionKey"],
                "sequenceNumber": record["SequenceNumber"],
                "data": _data(record),
                "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"],
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{self.shard}:{record['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": (config or {}).get("Role", "") if function else "",
            "awsRegion": get_region(),
            "eventSourceARN": self.mapping["EventSourceArn"],
        }


def first_failure(answer: Any, sequence_numbers: list[str]) -> int | None:
    """Index of the first record to deliver again, from a function's partial batch response.

    None if the whole batch succeeded: no answer, {} or no failures in it. Anything that isn't understood,
    an empty identifier and one that isn't in the batch fail the batch as a whole (0).
    """
    if answer is None or answer == {}:
        return None
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else ()
    if failures is None or failures == []:
        return None
    try:
        return min(sequence_numbers.index(failure["itemIdentifier"]) for failure in failures)
    except (ValueError, KeyError, TypeError):
        return 0
