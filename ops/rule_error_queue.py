"""The queue of what topic rules couldn't put into the stream: handed out oldest first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple, Self

from lambdas.shared.chunks import chunks
from ops.returning import Returning, UnreadableError
from ops.rule_errors import read_rule_error, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from ops.topic_rules import TopicRules

__all__ = ["RuleErrorQueue"]

_BATCH = 10  # entries of one SQS call
#: A round of messages. It is sorted by their time: SQS hands them out only nearly in that order.
_ROUND_MESSAGES, _ROUND_BYTES = 20_000, 64 * 2**20
#: How long a round stays hidden from others at least; SQS allows twelve hours.
_HIDDEN_SECONDS, _MOST_HIDDEN_SECONDS = 900, 43_200
#: Messages held at once, below the 120,000 that SQS allows in flight.
_MOST_HELD = 100_000
_WAIT_SECONDS = 1
#: Empty answers in a row after which a queue is empty: one answer alone may be of a part of its servers.
_EMPTY_ANSWERS = 2
_UNDELETED = (
    "the stream took it, but SQS did not delete it; the next run puts it in again, which changes nothing in "
    "ThingWorx"
)


class _Message(NamedTuple):
    id: str
    sent: int  # milliseconds since 1970
    body: str


class RuleErrorQueue:
    """Reports of topic rules, in rounds; while one is worked on, its messages are hidden from others.

    Args:
        client: boto3 SQS client.
        url: of the queue.
        rules: names Things.
        per_second: how many records a second go into the stream.
    """

    def __init__(self, client: SQSClient, url: str, rules: TopicRules, per_second: float) -> None:
        self.place, self.unit = url.rpartition("/")[2], "messages"
        self.left: dict[str, list[str]] = {}
        self._client = client
        self._url = url
        self._rules = rules
        round_seconds = 2 * max(_ROUND_MESSAGES, _ROUND_BYTES / 1024) / per_second
        self._hidden = round(min(_MOST_HIDDEN_SECONDS, _HIDDEN_SECONDS + round_seconds))
        #: Message id -> receipt handle, of what is in hand.
        self._held: dict[str, str] = {}
        #: Those that are in the stream.
        self._taken: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let others see what was not deleted; what can't be shown by now shows by itself."""
        for part in chunks(list(self._held.values()), _BATCH):
            self._client.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for number, handle in enumerate(part)
                ],
            )

    def parts(self) -> Iterator[list[Returning]]:
        """See `Source.parts`: by the time when the rules failed."""
        while messages := self._round():
            found = []
            for message in messages:
                try:
                    found.append(self._read(message))
                except UnreadableError as error:
                    self.left.setdefault(str(error), []).append(message.id)
            if found:
                yield found

    def delete(self, names: Sequence[str]) -> None:
        """See `Source.delete`."""
        for part in chunks(names, _BATCH):
            handles = {name: self._held.pop(name) for name in part}
            self._taken.update(handles)
            failed = self._delete(handles)
            if failed and (failed := self._delete(failed)):
                self.left.setdefault(_UNDELETED, []).extend(failed)
                self._held.update(failed)

    def _read(self, message: _Message) -> Returning:
        error = read_rule_error(message.body)
        expression = "" if error.is_lifecycle else self._rules.expression(error.rule)
        return Returning(message.id, [record_of(error, expression, message.sent)])

    def _round(self) -> list[_Message]:
        found: list[_Message] = []
        size = empty = 0
        while empty < _EMPTY_ANSWERS and len(found) < _ROUND_MESSAGES and size < _ROUND_BYTES:
            if len(self._held) >= _MOST_HELD:
                sys.stderr.write(
                    f"{self.place}: only {_MOST_HELD} messages were looked at, run it again for the others\n"
                )
                break
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=_WAIT_SECONDS,
                VisibilityTimeout=self._hidden,
                AttributeNames=["SentTimestamp"],
            )
            messages = [entry for entry in answer.get("Messages", []) if self._is_new(entry)]
            empty = 0 if messages else empty + 1
            for entry in messages:
                found.append(
                    _Message(entry["MessageId"], int(entry["Attributes"]["SentTimestamp"]), entry["Body"])
                )
                size += len(entry["Body"])
        return sorted(found, key=lambda message: message.sent)

    def _is_new(self, entry: MessageTypeDef) -> bool:
        """Note a message that was received; SQS may give one twice, also after it was deleted."""
        name, handle = entry["MessageId"], entry["ReceiptHandle"]
        if name in self._taken:
            self._delete({name: handle})
            return False
        known = name in self._held
        self._held[name] = handle
        return not known

    def _delete(self, handles: dict[str, str]) -> dict[str, str]:
        """Delete messages by their receipt handles; those that SQS failed to delete."""
        names = list(handles)
        answer = self._client.delete_message_batch(
            QueueUrl=self._url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": handles[name]} for number, name in enumerate(names)
            ],
        )
        failed = [names[int(entry["Id"])] for entry in answer.get("Failed", [])]
        return {name: handles[name] for name in failed}
