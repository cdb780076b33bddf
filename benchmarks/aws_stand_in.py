"""AWS for the discovery benchmark: moto, but with the bulk of the data in plain dictionaries.

moto takes milliseconds for each item, which would hide what is measured. So the records of Things
(TransactWriteItems and Scan of the control table), shapes and all objects in S3 are kept here; locks,
slots, queues, secrets and executions stay with moto. boto3 itself does all of its work: it serialises, signs
and parses. Conditions on Things' records are checked as DynamoDB would.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, cast
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from botocore.awsrequest import AWSResponse, HeadersDict
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse

from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSPreparedRequest

__all__ = ["StandIn", "aws_with_stand_in"]

#: DynamoDB ends a page at 1 MB.
_PAGE_BYTES = 1_000_000
#: The bulk: what is kept here and not by moto.
_BULK = ("thing#", "shape#")


class StandIn:
    """The dictionaries, and how often each operation was called.

    Attributes:
        items: (pk, sk) -> item in DynamoDB's JSON form.
        objects: (bucket, key) -> bytes.
        calls: operation -> how often.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.objects: dict[tuple[str, str], bytes] = {}
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def answer(self, request: AWSPreparedRequest) -> AWSResponse | None:
        """The answer to a request, or None for one that is moto's."""
        target = request.headers.get("X-Amz-Target", "")
        if isinstance(target, bytes):
            target = target.decode()
        operation = target.rpartition(".")[2] if target.startswith("DynamoDB") else ""
        handler = {
            "TransactWriteItems": self._transact,
            "Scan": self._scan,
            "BatchGetItem": self._batch_get,
            "PutItem": self._put_shape,
        }.get(operation)
        if handler is not None:
            found = handler(orjson.loads(_text(request)))
            if found is not None:
                self._count(operation)
                status, document = found
                return _response(request, status, orjson.dumps(document), "application/x-amz-json-1.0")
        if ".s3." in urlsplit(request.url).netloc or urlsplit(request.url).netloc.startswith("s3."):
            return self._s3(request)
        return None

    def _transact(self, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            reasons = [self._refusal(*next(iter(entry.items()))) for entry in body["TransactItems"]]
            if any(reasons):
                codes = [{"Code": reason or "None"} for reason in reasons]
                return 400, {"__type": "TransactionCanceledException", "CancellationReasons": codes}
            for entry in body["TransactItems"]:
                ((kind, write),) = entry.items()
                if kind == "Put":
                    self.items[_key(write["Item"])] = write["Item"]
                else:
                    self.items.pop(_key(write["Key"]), None)
        return 200, {}

    def _refusal(self, kind: str, write: dict[str, Any]) -> str | None:
        before = self.items.get(_key(write["Item" if kind == "Put" else "Key"]))
        condition = write["ConditionExpression"]
        if condition == "attribute_not_exists(pk)":
            return "ConditionalCheckFailed" if before else None
        names, values = write["ExpressionAttributeNames"], write["ExpressionAttributeValues"]
        for part in condition.split(" AND "):
            name, value = part.split(" = ")
            if before is None or before.get(names[name]) != values[value]:
                return "ConditionalCheckFailed"
        return None

    def _scan(self, body: dict[str, Any]) -> tuple[int, Any]:
        wanted = set(body.get("ProjectionExpression", "").replace(" ", "").split(",")) - {""}
        wanted = {body.get("ExpressionAttributeNames", {}).get(name, name) for name in wanted}
        segment, segments = body.get("Segment", 0), body.get("TotalSegments", 1)
        with self._lock:
            keys = [key for key in self.items if key[0].startswith("thing#")]
        mine = keys[segment::segments]
        start = int(body["ExclusiveStartKey"]["at"]["N"]) if "ExclusiveStartKey" in body else 0
        found: list[Any] = []
        size = 0
        for at in range(start, len(mine)):
            item = self.items[mine[at]]
            size += 60 + sum(len(name) + 20 for name in item)
            if size > _PAGE_BYTES:
                return 200, {"Items": found, "LastEvaluatedKey": {"at": {"N": str(at)}}}
            found.append({name: item[name] for name in wanted} if wanted else item)
        return 200, {"Items": found}

    def _batch_get(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        ((table, asked),) = body["RequestItems"].items()
        keys = [_key(key) for key in asked["Keys"]]
        if not all(key[0].startswith(_BULK) for key in keys):
            return None
        return 200, {
            "Responses": {table: [self.items[key] for key in keys if key in self.items]},
            "UnprocessedKeys": {},
        }

    def _put_shape(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        key = _key(body["Item"])
        if not key[0].startswith(_BULK):
            return None
        self.items.setdefault(key, body["Item"])
        return 200, {}

    def _s3(self, request: AWSPreparedRequest) -> AWSResponse:
        parts = urlsplit(request.url)
        bucket, key = parts.netloc.split(".")[0], unquote(parts.path.lstrip("/"))
        query = parse_qs(parts.query)
        self._count(f"s3 {request.method}")
        if request.method == "PUT":
            source = request.headers.get("x-amz-copy-source")
            if source is None:
                self.objects[bucket, key] = _body(request)
                return _response(request, 200, b"", "text/plain")
            source = source.decode() if isinstance(source, bytes) else source
            original = self.objects.get((bucket, unquote(source).split("/", 1)[1]))
            if original is None:
                return _missing(request)
            self.objects[bucket, key] = original
            return _response(request, 200, b"<CopyObjectResult/>", "application/xml")
        if request.method == "DELETE":
            self.objects.pop((bucket, key), None)
            return _response(request, 204, b"", "text/plain")
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            here = [name for where, name in list(self.objects) if where == bucket]
            keys = sorted(name for name in here if name.startswith(prefix))
            entries = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in keys)
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            return _response(request, 200, text.encode(), "application/xml")
        found = self.objects.get((bucket, key))
        return _missing(request) if found is None else _response(request, 200, found, "application/json")

    def _count(self, operation: str) -> None:
        with self._lock:
            self.calls[operation] = self.calls.get(operation, 0) + 1


@contextlib.contextmanager
def aws_with_stand_in() -> Iterator[StandIn]:
    """An empty AWS account, for the boto3 clients made inside."""
    stand_in = StandIn()
    original = BotocoreStubber.__call__

    def first(stubber: Any, event_name: str, request: Any, **more: Any) -> Any:
        found = stand_in.answer(request)
        return found if found is not None else original(stubber, event_name, request, **more)

    with mock.patch.object(BotocoreStubber, "__call__", first), aws():
        yield stand_in


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _body(request: AWSPreparedRequest) -> bytes:
    """What is put; boto3 sends it in chunks, with a checksum after it."""
    text = _text(request)
    if "x-amz-trailer" not in request.headers:
        return text
    found = b""
    while True:
        size, _, text = text.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return found
        found, text = found + text[:length], text[length + 2 :]


def _text(request: AWSPreparedRequest) -> bytes:
    body: Any = request.body
    text = body if isinstance(body, (bytes, bytearray)) else body.read()
    return bytes(text)


def _missing(request: AWSPreparedRequest) -> AWSResponse:
    return _response(request, 404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")


def _response(request: AWSPreparedRequest, status: int, body: bytes, kind: str) -> AWSResponse:
    headers = HeadersDict({"Content-Type": kind, "Content-Length": str(len(body))})
    return AWSResponse(request.url, status, cast("Any", headers), MockRawResponse(body))
