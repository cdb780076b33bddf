"""Starting the connector of a slot: once an epoch, however often it is asked for.

Liveness is the lease and nothing else: what Step Functions says of its executions is eventually
consistent. Two things make two starts one: the epoch is raised by a conditional write, and the
execution's name holds it (a name can't be used again for 90 days after it closed).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lambdas.shared.errors import Conflict

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.shared.control_table import ControlTable, Slot

__all__ = ["MIN_AGE", "SERVED", "lately_started", "start_connector"]

#: Milliseconds after a start in which a slot gets no other epoch: its connector may be about to serve.
MIN_AGE = 120_000
#: States of a slot that has a connector: one that is draining delivers what its queue still holds.
SERVED = frozenset({"active", "draining"})


def lately_started(slot: Slot, now: int) -> bool:
    """Whether a start would repeat the slot's last one, with the same epoch and name."""
    return slot.epoch > 0 and slot.last_start >= now - MIN_AGE


def start_connector(control: ControlTable, client: SFNClient, machine: str, slot: Slot, now: int) -> bool:
    """Start the slot's connector where none serves it.

    A slot that was started lately and isn't served yet is started again with the same epoch: that
    repeats a start that got lost between the table and Step Functions, and is nothing otherwise.

    Args:
        control: control table.
        client: boto3 Step Functions client.
        machine: ARN of the connector state machine.
        slot: as just read; active or draining, or it is left alone.
        now: milliseconds since 1970 UTC.

    Returns:
        Whether an execution was started or, when it runs already, asked for again.
    """
    if slot.state not in SERVED or slot.until >= now:
        return False
    if lately_started(slot, now):
        return _start(client, machine, slot.id, slot.epoch)
    try:
        epoch = control.next_epoch(slot.id, slot.epoch, now, min_age=MIN_AGE)
    except Conflict:
        return False  # somebody else is starting it, or it is served again
    return _start(client, machine, slot.id, epoch)


def _start(client: SFNClient, machine: str, slot_id: str, epoch: int) -> bool:
    try:
        client.start_execution(
            stateMachineArn=machine,
            name=f"{slot_id}-{epoch}-0",
            # The same text for the same name: only then is a repeated start no error.
            input=json.dumps({"slot": slot_id, "epoch": epoch, "n": 0}),
        )
    except client.exceptions.ExecutionAlreadyExists:
        return False
    return True
