"""AWS over HTTP for processes of their own: unmodified boto3 clients come here by `AWS_ENDPOINT_URL`.

SQS and the task tokens are this package's; DynamoDB and S3 are moto's, one call at a time, so that every
conditional write is atomic. Each call may be struck by a fault. A caller is known by its access key, which is
the name of its process; the secret with the application key is the same name again, so that the simulated
platform knows the process behind each connection.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from aiohttp import web
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from moto.core.botocore_stubber import BotocoreStubber

from tests.chaos.aws_sqs import AwsError, Sqs
from tests.chaos.history import HeldPut, Hold, Sent

if TYPE_CHECKING:
    from tests.chaos.aws_faults import AwsFault, AwsFaults

__all__ = ["APP_KEY_SECRET", "REGION", "AwsEdge", "States"]

REGION = "us-east-1"
APP_KEY_SECRET = f"arn:aws:secretsmanager:{REGION}:000000000000:secret:thingworx-key"
_START_SECONDS = 20.0
_JSON_BATCHES = ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")
_THROTTLED = {
    "dynamodb": "ProvisionedThroughputExceededException",
    "sqs": "ThrottlingException",
    "states": "ThrottlingException",
}
#: Attributes of a slot that say who owns it.
_LEASE = ("owner", "until")

_Answer = tuple[int, dict[str, str], bytes]


class States(Protocol):
    """The Step Functions operations that functions call; `AwsError` refuses."""

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one."""


class AwsEdge:
    """The stand-in, listening on loopback in a thread of its own; a context manager.

    Args:
        faults: what strikes calls.
        states: state machines and task tokens.
        control_table: its slots' leases are noted.
        held_table: what is put there is noted.

    Attributes:
        address: `http://127.0.0.1:port`.
        holds: every change of a slot's owner, and every renewal, in order.
        puts: every item put into the held table, in order.
        sent: every message that the queues took.
        assigned: all slots that each Thing was ever assigned to.
    """

    def __init__(self, faults: AwsFaults, states: States, *, control_table: str, held_table: str) -> None:
        self.faults = faults
        self.holds: list[Hold] = []
        self.puts: list[HeldPut] = []
        self.sent: list[Sent] = []
        self.assigned: dict[str, set[str]] = {}
        self.address = ""
        self.sqs = Sqs("", self._note_sent)
        self._states = states
        self._control_table = control_table
        self._held_table = held_table
        self._moto = BotocoreStubber()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aws-edge", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise TimeoutError("the AWS stand-in did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_SECONDS)

    def request(self, service: str, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call of the test itself, past all faults, from any thread.

        Raises:
            AwsError: what AWS answers instead.
        """
        call = self._answer(service, operation, "test", body, set())
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(_START_SECONDS)

    def create_bucket(self, name: str) -> None:
        """Make an S3 bucket."""

        async def create() -> None:
            self._call_moto("PUT", f"https://s3.{REGION}.amazonaws.com/{name}", {}, b"")

        asyncio.run_coroutine_threadsafe(create(), self._loop).result(_START_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.sqs = Sqs(self.address, self._note_sent)
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionError:  # its process was killed in the middle of it
            return web.Response(status=400)
        caller, service = _who(request.headers.get("Authorization", ""))
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2] or request.method
        fault = self.faults.take(service, operation, caller)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind in ("throttle", "error"):
            status, headers, payload = _refusal(service, fault)
        elif service == "s3":
            status, headers, payload = self._through_moto(request, body)
        else:
            status, headers, payload = await self._carry_out(service, operation, caller, body, fault)
        if fault is not None and fault.kind == "lost" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=status, headers=headers, body=payload)

    async def _carry_out(
        self, service: str, operation: str, caller: str, body: bytes, fault: AwsFault | None
    ) -> _Answer:
        document = json.loads(body or b"{}")
        failing: set[str] = set()
        if fault is not None and fault.kind == "partial" and operation in _JSON_BATCHES:
            failing = self.faults.choose([entry["Id"] for entry in document["Entries"]])
        left = self._leave_over(document) if fault is not None and operation == "BatchWriteItem" else {}
        try:
            answer = await self._answer(service, operation, caller, document, failing)
        except AwsError as error:
            return _error(error)
        if left:
            answer["UnprocessedItems"] = left
        return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(answer).encode()

    def _leave_over(self, document: dict[str, Any]) -> dict[str, Any]:
        """Take some entries out of a BatchWriteItem; they are answered as unprocessed."""
        ((table, entries),) = document["RequestItems"].items()
        chosen = self.faults.choose([str(index) for index in range(len(entries))])
        if len(chosen) == len(entries):
            chosen.pop()
        left = [entry for index, entry in enumerate(entries) if str(index) in chosen]
        document["RequestItems"] = {
            table: [entry for index, entry in enumerate(entries) if str(index) not in chosen]
        }
        return {table: left} if left else {}

    async def _answer(
        self, service: str, operation: str, caller: str, document: dict[str, Any], failing: set[str]
    ) -> dict[str, Any]:
        if service == "sqs":
            return await self.sqs.call(operation, document, failing)
        if service == "states":
            return self._states.call(operation, document)
        if service == "secretsmanager":
            return {
                "ARN": APP_KEY_SECRET,
                "Name": "thingworx-key",
                "VersionId": "0" * 32,
                "SecretString": f"key-{caller}",
            }
        if service == "dynamodb":
            return self._dynamodb(operation, caller, document)
        raise AwsError("ResourceNotFoundException", f"the stand-in has no {service}", 404)

    def _dynamodb(self, operation: str, caller: str, document: dict[str, Any]) -> dict[str, Any]:
        status, _, payload = self._call_moto(
            "POST",
            f"https://dynamodb.{REGION}.amazonaws.com/",
            {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"},
            json.dumps(document).encode(),
        )
        answer: dict[str, Any] = json.loads(payload or b"{}")
        if status >= 300:
            text = str(answer.pop("message", ""))
            raise DynamoError(answer.pop("__type", "").rpartition("#")[2], text, status, answer)
        self._note_write(operation, caller, document)
        return answer

    def _note_write(self, operation: str, caller: str, document: dict[str, Any]) -> None:
        if operation == "BatchWriteItem":
            for entry in document["RequestItems"].get(self._held_table, []):
                if "PutRequest" in entry:
                    self.puts.append(held_put(entry["PutRequest"]["Item"], caller))
        elif document.get("TableName") == self._held_table and operation == "PutItem":
            self.puts.append(held_put(document["Item"], caller))
        elif operation == "UpdateItem" and document.get("TableName") == self._control_table:
            key = document["Key"]
            if key["pk"]["S"] == "slots":
                self._note_lease(key, caller)
        elif operation == "TransactWriteItems":
            for entry in document["TransactItems"]:
                thing = entry.get("Put", {}).get("Item", {})
                if thing.get("pk", {}).get("S", "").startswith("thing#"):
                    self.assigned.setdefault(thing["name"]["S"], set()).add(thing["slot"]["S"])

    def _note_lease(self, key: dict[str, Any], caller: str) -> None:
        answer = self._dynamodb("GetItem", "test", {"TableName": self._control_table, "Key": key})
        item = answer.get("Item", {})
        owner = item.get("owner", {}).get("S", "")
        until = float(item.get("until", {}).get("N", "0")) / 1000
        state = item.get("state", {}).get("S", "")
        self.holds.append(Hold(time.time(), key["sk"]["S"], owner, until, caller, state))

    def _note_sent(self, queue: str, group: str, body: str) -> None:
        parcel = json.loads(body)
        readings = tuple(entry[2] for entry in parcel.get("readings", []))
        self.sent.append(Sent(time.time(), queue, group, readings, parcel.get("replay", "")))

    def _through_moto(self, request: web.Request, body: bytes) -> _Answer:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in ("host", "expect")
        }
        url = f"https://s3.{REGION}.amazonaws.com{request.rel_url}"
        status, found, payload = self._call_moto(request.method, url, headers, body)
        kept = {name: str(value) for name, value in found.items() if name.lower() != "content-length"}
        return status, kept, payload

    def _call_moto(self, method: str, url: str, headers: dict[str, str], body: bytes) -> _Answer:
        known = HTTPHeaders()
        known["Authorization"] = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/s3/aws4_request"
        for name, value in headers.items():
            known[name] = value
        answer = self._moto.process_request(AWSPreparedRequest(method, url, known, body, False))  # noqa: FBT003 - botocore's signature
        assert answer is not None
        status, found, payload = answer
        return int(status), dict(found), payload.encode() if isinstance(payload, str) else payload


class DynamoError(AwsError):
    """An error of DynamoDB with what it tells beside its text, such as the reasons of a transaction."""

    def __init__(self, code: str, text: str, status: int, more: dict[str, Any]) -> None:
        super().__init__(code, text, status)
        self.more = more


def held_put(item: dict[str, Any], caller: str) -> HeldPut:
    """What the checker needs to know of an item of the held table."""
    state, _, thing = item["pk"]["S"].partition("#")
    parts = item["sk"]["S"].split("#")
    reason = item.get("reason", {}).get("S", "")
    return HeldPut(time.time(), state, thing, parts[1] if len(parts) > 1 else "", reason, caller)


def _who(authorization: str) -> tuple[str, str]:
    """Caller and service of `AWS4-HMAC-SHA256 Credential={caller}/{day}/{region}/{service}/aws4_request`."""
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    return (scope[0], scope[3]) if len(scope) > 3 else ("", "")


def _refusal(service: str, fault: AwsFault) -> _Answer:
    if fault.kind == "throttle":
        return _error(AwsError(_THROTTLED.get(service, "ThrottlingException"), "slow down", 400))
    return _error(AwsError("InternalServerError", "an internal error", 500))


def _error(error: AwsError) -> _Answer:
    document = {"__type": error.code, "message": error.text}
    if isinstance(error, DynamoError):
        document |= error.more
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "x-amzn-query-error": f"{error.query_name};Sender",
        "x-amzn-errortype": error.code,
    }
    return error.status, headers, json.dumps(document).encode()
