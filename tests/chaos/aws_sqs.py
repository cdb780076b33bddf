"""The SQS operations of the stand-in, over `FifoQueue`: AWS JSON in, AWS JSON out."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Any

from tests.chaos.fifo_queue import FifoQueue, StaleReceipt

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AwsError", "Sqs"]

#: What a second of a long poll lasts here, in seconds: stops must not wait for whole polls.
_POLL_SCALE = 0.15
_POLL_PAUSE = 0.01
_BLOCKED_SECONDS = 60.0
_QUERY_NAMES = {"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue"}


class AwsError(Exception):
    """An answer of AWS that is an error: its code, its HTTP status, its text."""

    def __init__(self, code: str, text: str = "", status: int = 400) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text or code
        self.status = status

    @property
    def query_name(self) -> str:
        """The error's name in the query protocol, which SQS sends along."""
        return _QUERY_NAMES.get(self.code, self.code)


class Sqs:
    """All queues of one account.

    Args:
        address: what queue URLs begin with.
        sent: told of each new message: queue, group, body.
    """

    def __init__(self, address: str, sent: Callable[[str, str, str], None]) -> None:
        self.queues: dict[str, FifoQueue] = {}
        self._address = address
        self._sent = sent
        self._deleted: dict[str, float] = {}

    async def call(self, operation: str, request: dict[str, Any], failing: set[str]) -> dict[str, Any]:
        """Carry out an operation; the entries in `failing` of a batch fail without effect.

        Raises:
            AwsError: what SQS answers instead.
        """
        if operation == "ReceiveMessage":
            return await self._receive(request)
        method = getattr(self, f"_{operation}", None)
        if method is None:
            raise AwsError("InvalidAction", f"the stand-in has no {operation}")
        if operation.endswith("Batch"):
            return self._batch(method, request, failing)
        return dict(method(request) or {})

    def _queue(self, request: dict[str, Any]) -> FifoQueue:
        name = request["QueueUrl"].rpartition("/")[2]
        if name not in self.queues:
            raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")
        return self.queues[name]

    def _url(self, name: str) -> str:
        return f"{self._address}/000000000000/{name}"

    def _CreateQueue(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        name = request["QueueName"]
        if time.monotonic() < self._deleted.get(name, 0) + _BLOCKED_SECONDS and name in self._deleted:
            raise AwsError("QueueDeletedRecently", "wait 60 seconds")
        queue = self.queues.setdefault(name, FifoQueue(time.monotonic))
        queue.attributes.update(request.get("Attributes", {}))
        return {"QueueUrl": self._url(name)}

    def _GetQueueUrl(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        if request["QueueName"] not in self.queues:
            raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")
        return {"QueueUrl": self._url(request["QueueName"])}

    def _ListQueues(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        prefix = request.get("QueueNamePrefix", "")
        return {"QueueUrls": [self._url(name) for name in self.queues if name.startswith(prefix)]}

    def _DeleteQueue(self, request: dict[str, Any]) -> None:  # noqa: N802 - SQS's name
        self._queue(request)
        name = request["QueueUrl"].rpartition("/")[2]
        del self.queues[name]
        self._deleted[name] = time.monotonic()

    def _GetQueueAttributes(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        queue = self._queue(request)
        waiting, flying = queue.depth()
        known = queue.attributes | {
            "ApproximateNumberOfMessages": str(waiting),
            "ApproximateNumberOfMessagesNotVisible": str(flying),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        asked = request.get("AttributeNames", [])
        return {"Attributes": {name: known[name] for name in known if name in asked or "All" in asked}}

    def _SetQueueAttributes(self, request: dict[str, Any]) -> None:  # noqa: N802 - SQS's name
        self._queue(request).attributes.update(request["Attributes"])

    async def _receive(self, request: dict[str, Any]) -> dict[str, Any]:
        end = time.monotonic() + request.get("WaitTimeSeconds", 0) * _POLL_SCALE
        while True:
            messages = self._queue(request).receive(
                request.get("MaxNumberOfMessages", 1),
                request["VisibilityTimeout"],
                request.get("ReceiveRequestAttemptId", ""),
            )
            if messages or time.monotonic() >= end:
                break
            await asyncio.sleep(_POLL_PAUSE)
        return {
            "Messages": [
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.receipt,
                    "Body": message.body,
                    "MD5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
                    "Attributes": {
                        "MessageGroupId": message.group,
                        "SentTimestamp": str(message.sent),
                        "ApproximateReceiveCount": str(message.receives),
                        "SequenceNumber": str(message.sequence),
                    },
                }
                for message in messages
            ]
        }

    def _batch(self, method: Any, request: dict[str, Any], failing: set[str]) -> dict[str, Any]:
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in request["Entries"]:
            refused = {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"}
            if entry["Id"] in failing:
                failed.append(refused)
                continue
            try:
                done.append({"Id": entry["Id"]} | (method(request | entry) or {}))
            except StaleReceipt:
                failed.append(refused | {"SenderFault": True, "Code": "ReceiptHandleIsInvalid"})
        return {"Successful": done, "Failed": failed}

    def _SendMessageBatch(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        return self._SendMessage(request)

    def _SendMessage(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - SQS's name
        body, group = request["MessageBody"], request["MessageGroupId"]
        message, new = self._queue(request).send(body, group, int(time.time() * 1000))
        if new:
            self._sent(request["QueueUrl"].rpartition("/")[2], group, body)
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": message.id, "MD5OfMessageBody": digest, "SequenceNumber": str(message.sequence)}

    def _DeleteMessageBatch(self, request: dict[str, Any]) -> None:  # noqa: N802 - SQS's name
        self._queue(request).delete(request["ReceiptHandle"])

    def _ChangeMessageVisibilityBatch(self, request: dict[str, Any]) -> None:  # noqa: N802 - SQS's name
        self._queue(request).change_visibility(request["ReceiptHandle"], request["VisibilityTimeout"])
