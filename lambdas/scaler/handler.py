"""The scaler: opens slots, queue first, then connector; closes the stack when Terraform destroys it.

Events and answers: docs/reference/data-formats.md.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.scaler.close import Stack, close_stack
from lambdas.scaler.queues import open_queue, wanted_attributes
from lambdas.shared.connectors import SERVED, start_connector
from lambdas.shared.control_table import ControlTable
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import count
from lambdas.shared.run_lock import RunLock
from lambdas.shared.settings import ScalerSettings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["SlotsNotOpened", "handle"]

#: What closing leaves of the function's time, to say in words what was still there.
_CLOSE_MARGIN_SECONDS = 15


class SlotsNotOpened(ConnectorError):  # noqa: N818 - says what is left to do
    """Some slots couldn't be opened; the message says which and why. The others are open."""


class _Parts(NamedTuple):
    settings: ScalerSettings
    control: ControlTable
    lock: RunLock
    sqs: SQSClient
    sfn: SFNClient


@cache
def _parts() -> _Parts:
    settings = ScalerSettings.from_env(os.environ)
    dynamodb, table = boto3.client("dynamodb"), settings.control_table
    lock = RunLock(table, dynamodb)
    return _Parts(
        settings, ControlTable(table, dynamodb), lock, boto3.client("sqs"), boto3.client("stepfunctions")
    )


def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Open slots, or close the stack; doing it again changes nothing.

    Raises:
        ValueError: the action is unknown.
        RunLost: another discovery run carries on.
        SlotsNotOpened: some slots couldn't be opened, after all were tried.
        NotClosed: connectors were still at work when the function's time was nearly over.
    """
    if event["action"] == "open":
        parts = _parts()
        if not event.get("repair"):  # which holds no run lock
            parts.lock.renew(event["run"], parts.settings.run_lease_seconds * 1000, _now())
        return _open_slots(parts, event["slots"])
    if event["action"] == "close":
        return _close(_parts(), event, context)
    raise ValueError(f"action is {event['action']!r}; it must be open or close")


def _close(parts: _Parts, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    # Terraform calls at every apply too, and says what it is doing.
    if event["tf"]["action"] != "delete":
        return {"closed": False}
    stack = Stack(
        parts.control,
        parts.sqs,
        parts.sfn,
        [event["discovery_state_machine_arn"], parts.settings.connector_state_machine_arn],
        parts.settings.queue_name_prefix,
    )
    seconds = context.get_remaining_time_in_millis() / 1000 - _CLOSE_MARGIN_SECONDS
    return {"closed": True, **close_stack(stack, seconds)}


def _open_slots(parts: _Parts, slots: list[str]) -> dict[str, Any]:
    created = started = 0
    faults: list[str] = []
    for slot_id in slots:
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
    if slot is None or slot.state not in SERVED:
        return False, False  # it was retired since the plan was made
    machine, now = settings.connector_state_machine_arn, _now()
    if slot.state == "draining":
        # Its queue gets nothing new and goes once it is empty: it is neither made nor changed any more.
        return False, slot.queue_url is not None and start_connector(
            parts.control, parts.sfn, machine, slot, now
        )
    name = f"{settings.queue_name_prefix}{slot_id}.fifo"
    queue = open_queue(parts.sqs, name, wanted_attributes(settings.visibility_seconds))
    if slot.queue_url != queue.url:
        parts.control.set_queue_url(slot_id, queue.url)
    return queue.created, start_connector(parts.control, parts.sfn, machine, slot, now)


def _now() -> int:
    return time.time_ns() // 1_000_000
