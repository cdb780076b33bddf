"""The scaler: opens slots, queue first, then connector.

Events and answers: docs/reference/data-formats.md.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.scaler.connectors import start_connector
from lambdas.scaler.queues import open_queue, wanted_attributes
from lambdas.shared.control_table import ControlTable
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import count
from lambdas.shared.settings import ScalerSettings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["SlotsNotOpened", "handle"]


class SlotsNotOpened(ConnectorError):  # noqa: N818 - says what is left to do
    """Some slots couldn't be opened; the message says which and why. The others are open."""


class _Parts(NamedTuple):
    settings: ScalerSettings
    control: ControlTable
    sqs: SQSClient
    sfn: SFNClient


@cache
def _parts() -> _Parts:
    settings = ScalerSettings.from_env(os.environ)
    control = ControlTable(settings.control_table, boto3.client("dynamodb"))
    return _Parts(settings, control, boto3.client("sqs"), boto3.client("stepfunctions"))


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Open every slot of the event; doing it again changes nothing.

    Raises:
        ValueError: the action is unknown.
        SlotsNotOpened: some slots couldn't be opened, after all were tried.
    """
    if event["action"] != "open":
        raise ValueError(f"action is {event['action']!r}; it must be open")
    parts = _parts()
    created = started = 0
    faults: list[str] = []
    for slot_id in event["slots"]:
        try:
            made, begun = _open(parts, slot_id)
        except (ConnectorError, ClientError, BotoCoreError) as error:
            faults.append(f"slot {slot_id}: {type(error).__name__}: {error}")
        else:
            created, started = created + made, started + begun
    counted = {"queues_created": created, "connectors_started": started, "slots_not_opened": len(faults)}
    count(parts.settings.stack, "scaler", counted)
    if faults:
        raise SlotsNotOpened("; ".join(faults))
    return {"queues_created": created, "connectors_started": started}


def _open(parts: _Parts, slot_id: str) -> tuple[bool, bool]:
    """Whether a queue was created, and whether a connector was started."""
    settings = parts.settings
    slot = parts.control.slot(slot_id)
    if slot is None or slot.state != "active":
        return False, False  # it was retired since the plan was made
    name = f"{settings.queue_name_prefix}{slot_id}.fifo"
    queue = open_queue(parts.sqs, name, wanted_attributes(settings.visibility_seconds))
    if slot.queue_url != queue.url:
        parts.control.set_queue_url(slot_id, queue.url)
    machine = settings.connector_state_machine_arn
    started = start_connector(parts.control, parts.sfn, machine, slot, time.time_ns() // 1_000_000)
    return queue.created, started
