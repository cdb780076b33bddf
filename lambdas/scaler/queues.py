"""The queue of a slot: there, and with the attributes this release wants.

Get, else create, else reconcile: CreateQueue is idempotent only with identical attributes, so calling
it for a queue that an earlier release made would fail. There is no redrive policy: it would move the
oldest readings of a lane away after some hand-overs, and let later ones overtake them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType as Name

__all__ = ["OpenedQueue", "QueueBlocked", "open_queue", "wanted_attributes"]

#: 14 days, the longest SQS keeps a message.
_RETENTION_SECONDS = 14 * 24 * 60 * 60
_MAX_BYTES = 262_144


class QueueBlocked(ConnectorError):  # noqa: N818 - read as a state, like the SDKs' own
    """SQS makes no queue of this name for 60 seconds after one was deleted; try again later."""


class OpenedQueue(NamedTuple):
    """A queue's URL, and whether it was made now."""

    url: str
    created: bool


def wanted_attributes(visibility_seconds: int) -> dict[Name, str]:
    """Attributes of a slot's queue, apart from those that can only be given when it is made.

    Args:
        visibility_seconds: how long a received parcel is hidden from others.
    """
    return {
        "VisibilityTimeout": str(visibility_seconds),
        "MessageRetentionPeriod": str(_RETENTION_SECONDS),
        "MaximumMessageSize": str(_MAX_BYTES),
        "ContentBasedDeduplication": "true",
        "SqsManagedSseEnabled": "true",
    }


def open_queue(client: SQSClient, name: str, attributes: Mapping[Name, str]) -> OpenedQueue:
    """Make sure that a FIFO queue exists and has `attributes`.

    Args:
        client: boto3 SQS client.
        name: queue name, with `.fifo` at its end.
        attributes: from `wanted_attributes`.

    Raises:
        QueueBlocked: a queue of this name was deleted less than 60 seconds ago.
    """
    try:
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
    except client.exceptions.QueueDoesNotExist:
        return OpenedQueue(_create(client, name, attributes), created=True)
    _reconcile(client, url, attributes)
    return OpenedQueue(url, created=False)


def _create(client: SQSClient, name: str, attributes: Mapping[Name, str]) -> str:
    try:
        return client.create_queue(QueueName=name, Attributes={"FifoQueue": "true", **attributes})["QueueUrl"]
    except client.exceptions.QueueDeletedRecently as error:
        raise QueueBlocked(
            f"queue {name} was deleted less than 60 seconds ago; SQS makes no new one of this name before"
        ) from error


def _reconcile(client: SQSClient, url: str, attributes: Mapping[Name, str]) -> None:
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    different: dict[Name, str] = {
        name: value for name, value in attributes.items() if found.get(name) != value
    }
    if found.get("RedrivePolicy"):
        different["RedrivePolicy"] = ""
    if different:
        client.set_queue_attributes(QueueUrl=url, Attributes=different)
