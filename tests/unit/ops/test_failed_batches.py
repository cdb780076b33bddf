"""Batches that the router gave up are read back as they were in the stream, whole or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.failed_batches import moment, read_failed_batch
from ops.returning import StreamRecord, UnreadableError
from tests.unit.router.kinesis import FIRST_SEQUENCE, event, record

MODIFIED = datetime(2026, 3, 1, 12, 30, 59, tzinfo=UTC)


def batch(*records: Any, **changes: Any) -> bytes:
    """As Lambda writes it to S3."""
    document: dict[str, Any] = {
        "requestContext": {"condition": "RecordAgeExceeded", "approximateInvokeCount": 7},
        "version": "1.0",
        "timestamp": "2026-03-01T12:30:59.001Z",
        "KinesisBatchInfo": {"shardId": "shardId-000000000000", "batchSize": len(records)},
        "payload": json.dumps(event(*records)),
    }
    return json.dumps(document | changes).encode()


@given(
    records=st.lists(
        st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=50)), min_size=1, max_size=9
    )
)
def test_keys_data_and_order_are_those_of_the_stream(records: list[tuple[str, bytes]]) -> None:
    body = batch(*(record(data, number, key=key) for number, (key, data) in enumerate(records)))
    assert read_failed_batch(body) == (FIRST_SEQUENCE, [StreamRecord(*entry) for entry in records])


def test_an_event_that_is_no_text_is_read_too() -> None:
    assert read_failed_batch(batch(payload=event(record(b"x")))).records == [StreamRecord("pump-1", b"x")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\xff", "not JSON"),
        (b"[]", "no payload with Records"),
        (batch(payload="{"), "not JSON"),
        (batch(), "no payload with Records"),
        (batch(payload=None), "no payload with Records"),
        (batch(record(b"x"), {"eventSource": "aws:sqs"}), "none of Kinesis"),
        (batch({"kinesis": {"data": "eA==", "partitionKey": "k"}}), "no sequenceNumber"),
        (batch(record(b"x"), {"kinesis": {"data": "eA=="}}), "no partitionKey"),
        (batch(record(b"x", key="k" * 257)), "no partitionKey of 1 to 256 characters"),
        (batch(record(b"x"), {"kinesis": {"data": "e", "partitionKey": "k"}}), "not base64"),
        (batch(record(b"x"), {"kinesis": {"partitionKey": "k"}}), "no data"),
    ],
)
def test_what_is_no_failed_batch_is_told(body: bytes, told: str) -> None:
    with pytest.raises(UnreadableError, match=told):
        read_failed_batch(body)


def test_batches_are_ordered_by_when_they_were_given_up() -> None:
    folder = "aws/lambda/0d0e/shardId-000000000000/2026/03/01"
    assert moment(f"{folder}/2026-03-01T12.30.58-5f3c", MODIFIED) == "2026-03-01T12.30.58"
    assert moment("copies/batch.json", MODIFIED) == "2026-03-01T12.30.59"
