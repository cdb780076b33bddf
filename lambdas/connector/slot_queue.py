"""The slot's SQS FIFO queue, seen from its one consumer. Blocking calls run in threads."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.gate import backoff
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient

    from lambdas.connector.stop import Stop

__all__ = ["Message", "SlotQueue", "VisibilityLost"]

#: Entries of one batch call and messages of one receive: the service's limit.
BATCH = 10
#: Pauses before each try to delete a batch.
_DELETE_DELAYS = (0.0, 0.1, 0.5)
#: SQS's names for a queue that is not there, in its query and its JSON protocol.
_MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
#: How long a delete waits for company: fewer calls, and far below a visibility timeout.
_LINGER_SECONDS = 0.02


class VisibilityLost(Exception):  # noqa: N818 - a state of the world, not a programming error
    """A message may be handed out again, so its lane is not ours any more."""


class Message(NamedTuple):
    """A received parcel.

    Attributes:
        id: SQS message id.
        lane: message group.
        body: parcel as text.
        receipt: handle that deletes it while it is hidden.
        sent: when the router sent it, milliseconds since 1970 UTC.
        receives: how often it has been received, this time included; SQS counts approximately.
    """

    id: str
    lane: str
    body: str
    receipt: str
    sent: int = 0
    receives: int = 1


class SlotQueue:
    """Receives, hides, releases and deletes the messages of one queue.

    Args:
        client: boto3 SQS client whose read timeout exceeds the long poll.
        url: queue URL.
        visibility: seconds a received message stays hidden; also what an extension adds.
        stop: ends waiting between failed calls.
    """

    def __init__(self, client: SQSClient, url: str, *, visibility: int, stop: Stop) -> None:
        self._client = client
        self._url = url
        self.visibility = visibility
        self._stop = stop
        self._leaving: list[tuple[Message, asyncio.Future[bool]]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    async def receive(self, wait_seconds: int) -> list[Message]:
        """Long poll for at most ten messages.

        A failed call is repeated with its attempt id: SQS then hands out the same messages instead
        of hiding them, and their lanes, for a visibility timeout.

        Raises:
            ClientError: the queue does not exist.
        """
        attempt = uuid.uuid4().hex
        for delay in backoff():
            try:
                return await asyncio.to_thread(self._receive, attempt, wait_seconds)
            except (ClientError, BotoCoreError) as error:
                if _is_missing(error):
                    raise
                logger.warning("receiving failed", queue=self._url, reason=str(error))
            if await self._stop.wait_asked(delay):
                break
        return []

    async def extend(self, messages: Sequence[Message]) -> None:
        """Keep the messages of a lane hidden for another visibility timeout, all or none.

        Raises:
            VisibilityLost: at least one could not be kept.
        """
        try:
            # An answer that comes later than this may be too late to count on.
            async with asyncio.timeout(self.visibility / 2):
                failed = await asyncio.to_thread(self._change_visibility, messages, self.visibility)
        except (ClientError, BotoCoreError, TimeoutError) as error:
            raise VisibilityLost(str(error) or "no answer in time") from error
        if failed:
            raise VisibilityLost(f"{failed} of {len(messages)} messages could not be kept hidden")

    async def release(self, messages: Sequence[Message]) -> None:
        """Let the next consumer have the messages at once; they come back by themselves anyhow."""
        try:
            await asyncio.to_thread(self._change_visibility, messages, 0)
        except (ClientError, BotoCoreError) as error:
            logger.warning("releasing failed, the messages come back later", reason=str(error))

    async def delete(self, messages: Sequence[Message]) -> int:
        """Delete messages, together with those of other lanes; returns how many could not be.

        Those come again after their visibility timeout and are recognised as repeats.
        """
        loop = asyncio.get_running_loop()
        waiting = [(message, loop.create_future()) for message in messages]
        self._leaving.extend(waiting)
        self._flush(at_least=BATCH)
        loop.call_later(_LINGER_SECONDS, self._flush)
        results = await asyncio.gather(*(future for _, future in waiting))
        return results.count(False)

    def _flush(self, at_least: int = 1) -> None:
        while len(self._leaving) >= at_least:
            batch, self._leaving = self._leaving[:BATCH], self._leaving[BATCH:]
            task = asyncio.get_running_loop().create_task(self._delete_batch(batch))
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)

    async def _delete_batch(self, batch: list[tuple[Message, asyncio.Future[bool]]]) -> None:
        left = dict(enumerate(batch))
        try:
            for delay in _DELETE_DELAYS:
                await asyncio.sleep(delay)
                try:
                    failed = await asyncio.to_thread(self._delete, {key: left[key][0] for key in left})
                except (ClientError, BotoCoreError) as error:
                    logger.warning("deleting failed", reason=str(error))
                    continue
                for key in left.keys() - failed:
                    _resolve(left.pop(key)[1], deleted=True)
                if not left:
                    return
        finally:
            # Whatever happened here: nobody may wait for ever.
            for _, future in left.values():
                _resolve(future, deleted=False)

    def _receive(self, attempt: str, wait_seconds: int) -> list[Message]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=self.visibility,
            AttributeNames=["MessageGroupId", "SentTimestamp", "ApproximateReceiveCount"],
            ReceiveRequestAttemptId=attempt,
        )
        return [
            Message(
                id=entry["MessageId"],
                lane=entry["Attributes"]["MessageGroupId"],
                body=entry["Body"],
                receipt=entry["ReceiptHandle"],
                sent=int(entry["Attributes"]["SentTimestamp"]),
                receives=int(entry["Attributes"]["ApproximateReceiveCount"]),
            )
            for entry in answer.get("Messages", [])
        ]

    def _change_visibility(self, messages: Sequence[Message], seconds: int) -> int:
        failed = 0
        for start in range(0, len(messages), BATCH):
            answer = self._client.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
                    for index, message in enumerate(messages[start : start + BATCH])
                ],
            )
            failed += len(answer.get("Failed", []))
        return failed

    def _delete(self, messages: dict[int, Message]) -> set[int]:
        answer = self._client.delete_message_batch(
            QueueUrl=self._url,
            Entries=[{"Id": str(key), "ReceiptHandle": message.receipt} for key, message in messages.items()],
        )
        return {int(entry["Id"]) for entry in answer.get("Failed", [])}


def _resolve(future: asyncio.Future[bool], *, deleted: bool) -> None:
    if not future.done():  # its lane may have been given up
        future.set_result(deleted)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _MISSING
