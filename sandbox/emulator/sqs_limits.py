"""SQS: limits and refusals that its API reference documents.

Restored behaviour:
- queue names: at most 80 letters, digits, hyphens and underscores; `.fifo` and FifoQueue go together;
  the same name with other attributes is QueueNameExists; for 60 s after DeleteQueue the name is
  QueueDeletedRecently; FIFO queues tell their DeduplicationScope and FifoThroughputLimit;
- MessageDeduplicationId and MessageGroupId: 1 to 128 letters, digits and punctuation;
- FIFO: a receipt handle dies with its visibility time-out or the next receive; deleting what is deleted
  already is no error; changing the visibility of a message that isn't in flight is MessageNotInflight;
- ReceiveRequestAttemptId: the same attempt is given the same messages again.
Replaces sqs._act_create_queue, _act_delete_queue, _act_send_message, _act_delete_message,
_act_change_visibility, both as batches, and _act_receive_message; uses _queues, _queue_url, _get_q,
_validate_batch_entries, _Err.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import re
import time
from typing import Any

from ministack.services import sqs

from . import patching, settings

ATTEMPT_SECONDS = 300
MAXIMUM_HANDLES = 200_000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|(?=.{6,80}$)[A-Za-z0-9_-]+\.fifo")
_ID = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
_deleted: dict[str, float] = {}
_attempts: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
_issued: dict[str, tuple[str, str]] = {}
Request = dict[str, Any]


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(sqs, "_queues", "_queue_url", "_get_q", "_validate_batch_entries", "_Err")
    patching.replace(sqs, "_act_create_queue", _create_for)
    patching.replace(sqs, "_act_delete_queue", _delete_queue_for)
    patching.replace(sqs, "_act_send_message", _send_for)
    patching.replace(sqs, "_act_delete_message", _delete_message_for)
    patching.replace(sqs, "_act_change_visibility", _change_visibility_for)
    patching.replace(
        sqs, "_act_delete_message_batch", lambda _: _batch("DeleteMessage", "_act_delete_message")
    )
    patching.replace(
        sqs,
        "_act_change_visibility_batch",
        lambda _: _batch("ChangeMessageVisibility", "_act_change_visibility"),
    )
    patching.replace(sqs, "_act_receive_message", _receive_for)


def _invalid(name: str, value: str) -> Any:
    return sqs._Err("InvalidParameterValue", f"Value {value} for parameter {name} is invalid.")


def _create_for(original: Any) -> Any:
    def create(data: Request, url: str) -> Any:
        name, attributes = data.get("QueueName", ""), data.get("Attributes") or {}
        fifo = str(attributes.get("FifoQueue", "false")).lower() == "true"
        if not _NAME.fullmatch(name) or fifo != name.endswith(".fifo"):
            raise _invalid("QueueName", name)
        canonical = sqs._queue_url(name)
        existing = sqs._queues.get(canonical)
        if existing is None:
            if time.monotonic() - _deleted.get(canonical, -1e9) < settings.SQS_DELETED_QUEUE_SECONDS:
                raise sqs._Err(
                    "QueueDeletedRecently",
                    "You must wait 60 seconds after deleting a queue before you can create another "
                    "with the same name.",
                )
            answer = original(data, url)
            if fifo:
                made = sqs._queues[canonical]["attributes"]
                made.setdefault("DeduplicationScope", "queue")
                made.setdefault("FifoThroughputLimit", "perQueue")
            return answer
        for key, value in attributes.items():
            if str(existing["attributes"].get(key)).lower() != str(value).lower():
                raise sqs._Err(
                    "QueueNameExists",
                    f"A queue already exists with the same name and a different value for attribute {key}",
                )
        return original(data, url)

    return create


def _delete_queue_for(original: Any) -> Any:
    def delete(data: Request, url: str) -> Any:
        queue = sqs._get_q(data.get("QueueUrl", url))
        answer = original(data, url)
        _deleted[queue["url"]] = time.monotonic()
        return answer

    return delete


def _send_for(original: Any) -> Any:
    def send(data: Request, url: str) -> Any:
        for field in ("MessageDeduplicationId", "MessageGroupId"):
            value = data.get(field)
            if value is not None and not _ID.fullmatch(value):
                raise _invalid(field, value)
        return original(data, url)

    return send


def _message(data: Request, url: str) -> tuple[Request, Request | None]:
    """The queue, and the message that a receipt handle stands for now; None if it is deleted.

    Raises:
        sqs._Err: The handle never was one of this queue, or another receive or the visibility time-out
            of a FIFO queue has ended it.
    """
    queue, handle = sqs._get_q(data.get("QueueUrl", url)), data.get("ReceiptHandle", "")
    issued_by, message_id = _issued.get(handle, ("", ""))
    if issued_by != queue["url"]:
        raise sqs._Err("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
    message = next((message for message in queue["messages"] if message["id"] == message_id), None)
    ended = message is not None and (
        message["receipt_handle"] != handle or message["visible_at"] <= time.time()
    )
    if ended and queue["is_fifo"]:
        raise sqs._Err(
            "InvalidParameterValue",
            f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
        )
    return queue, message


def _delete_message_for(original: Any) -> Any:
    def delete(data: Request, url: str) -> Any:
        _, message = _message(data, url)
        if message is None or message["receipt_handle"] != data["ReceiptHandle"]:
            return {}
        return original(data, url)

    return delete


def _change_visibility_for(original: Any) -> Any:
    def change(data: Request, url: str) -> Any:
        _, message = _message(data, url)
        if message is None or message["visible_at"] <= time.time():
            raise sqs._Err("MessageNotInflight", "The specified message isn't in flight.")
        return original(data, url)

    return change


def _batch(action: str, single: str) -> Any:
    """A batch action: what the single one does, entry by entry."""

    def batch(data: Request, url: str) -> Any:
        queue = data.get("QueueUrl", url)
        sqs._get_q(queue)
        entries = data.get("Entries", [])
        sqs._validate_batch_entries(entries, f"{action}BatchRequestEntry")
        done, failed = [], []
        for entry in entries:
            try:
                getattr(sqs, single)({**entry, "QueueUrl": queue}, queue)
                done.append({"Id": entry["Id"]})
            except sqs._Err as error:
                failed.append(
                    {"Id": entry["Id"], "Code": error.code, "Message": error.message, "SenderFault": True}
                )
        return {"Successful": done, "Failed": failed}

    return batch


def _receive_for(original: Any) -> Any:
    async def receive(data: Request, url: str) -> Any:
        queue, attempt = sqs._get_q(data.get("QueueUrl", url)), data.get("ReceiveRequestAttemptId")
        if not attempt or not queue["is_fifo"]:
            return _note(queue, await original(data, url))
        key, now = (queue["url"], attempt), time.time()
        received_at, answer = _attempts.get(key, (0.0, {}))
        held = {message["receipt_handle"]: message for message in queue["messages"]}
        handles = [message["ReceiptHandle"] for message in answer.get("Messages", [])]
        if handles and now - received_at < ATTEMPT_SECONDS and all(handle in held for handle in handles):
            timeout = data.get("VisibilityTimeout") or queue["attributes"]["VisibilityTimeout"]
            for handle in handles:
                held[handle]["visible_at"] = now + int(timeout)
            return answer
        answer = _note(queue, await original(data, url))
        _attempts[key] = (now, answer)
        return answer

    return receive


def _note(queue: Request, answer: Request) -> Request:
    """Remember which message each receipt handle was given for."""
    for message in answer.get("Messages", []):
        _issued[message["ReceiptHandle"]] = (queue["url"], message["MessageId"])
    while len(_issued) > MAXIMUM_HANDLES:
        del _issued[next(iter(_issued))]
    return answer
