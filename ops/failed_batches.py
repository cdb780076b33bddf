"""A batch that the router's event source mapping gave up, read back from its object in the bucket.

The object is Lambda's record of a failed invocation; for S3 it has the whole event as the text `payload`
(docs/reference/data-formats.md). The records in it are as the topic rules wrote them.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ops.returning import LONGEST_KEY, StreamRecord, UnreadableError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["FailedBatch", "moment", "read_failed_batch"]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d")


class FailedBatch(NamedTuple):
    """One object's records.

    Attributes:
        first: sequence number of the first one.
        records: at least one, in the order of their shard.
    """

    first: int
    records: list[StreamRecord]


def moment(key: str, modified: datetime) -> str:
    """The second in which a batch was given up, as its object's name has it; later ones sort later.

    Args:
        key: the object's key, `aws/lambda/{mapping}/{shard}/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-{random}`.
        modified: when the object was written, UTC, for keys of another form.
    """
    found = _MOMENT.match(key.rpartition("/")[2])
    return found[0] if found else modified.strftime("%Y-%m-%dT%H.%M.%S")


def read_failed_batch(body: bytes) -> FailedBatch:
    """Read an object.

    Raises:
        UnreadableError: it isn't such a record, or one of its records has no data; nothing of it can be
            put back without the rest.
    """
    try:
        document: Any = orjson.loads(body)
        payload = document.get("payload") if type(document) is dict else None
        event: Any = orjson.loads(payload) if type(payload) is str else payload
    except orjson.JSONDecodeError as error:
        raise UnreadableError("it is not JSON, so no failed batch as Lambda writes it") from error
    records = event.get("Records") if type(event) is dict else None
    if type(records) is not list or not records:
        raise UnreadableError("it has no payload with Records, as a failed batch does")
    return FailedBatch(_sequence(records[0]), [_record(entry) for entry in records])


def _kinesis(entry: Any) -> dict[str, Any]:
    kinesis = entry.get("kinesis") if type(entry) is dict else None
    if type(kinesis) is not dict:
        raise UnreadableError("one of its Records is none of Kinesis")
    return kinesis


def _sequence(entry: Any) -> int:
    number = _kinesis(entry).get("sequenceNumber")
    if type(number) is not str or not re.fullmatch(r"[0-9]{1,128}", number):
        raise UnreadableError("its first record has no sequenceNumber")
    return int(number)


def _record(entry: Any) -> StreamRecord:
    kinesis = _kinesis(entry)
    key, data = kinesis.get("partitionKey"), kinesis.get("data")
    if type(key) is not str or not 0 < len(key) <= LONGEST_KEY or type(data) is not str:
        raise UnreadableError(
            f"one of its records has no partitionKey of 1 to {LONGEST_KEY} characters, or no data"
        )
    try:
        return StreamRecord(key, a2b_base64(data, strict_mode=True))
    except ValueError as error:
        raise UnreadableError("the data of one of its records is not base64") from error
