"""Closing a stack: what it made at run time goes, before Terraform takes away what serves it.

Sweeps until two in a row find nothing: what runs is stopped (discovery first, since it would make new
slots), slots are marked `stopping`, and once no lease is live their queues are deleted. One sweep isn't
enough, because a function that was called before may still be at work, and because Step Functions lists
its executions eventually consistently.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.errors import Conflict, ConnectorError
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.shared.control_table import ControlTable

__all__ = ["NotClosed", "Stack", "close_stack"]

_PAUSE_SECONDS = 5.0
#: Sweeps in a row that must find nothing.
_QUIET = 2


class NotClosed(ConnectorError):  # noqa: N818 - says what is still there
    """Something was still at work when the time was over; the message says what."""


class Stack(NamedTuple):
    """What belongs to the stack.

    Attributes:
        control: control table.
        sqs: boto3 SQS client.
        sfn: boto3 Step Functions client.
        machines: ARNs of the state machines, in the order in which they are stopped.
        queue_prefix: how the names of the slots' queues begin.
    """

    control: ControlTable
    sqs: SQSClient
    sfn: SFNClient
    machines: Sequence[str]
    queue_prefix: str


def close_stack(stack: Stack, seconds: float, pause: Callable[[float], None] = time.sleep) -> dict[str, int]:
    """Stop every execution, let every connector end, delete every slot's queue.

    Args:
        stack: what to close.
        seconds: how long to wait for connectors to end.
        pause: waits that many seconds.

    Returns:
        How many `executions` and `slots` were stopped, and how many `queues` deleted.

    Raises:
        NotClosed: the time was over first. Closing again carries on.
    """
    closing = _Closing(stack)
    deadline = time.monotonic() + seconds
    quiet = 0
    while True:
        found = closing.sweep(time.time_ns() // 1_000_000)
        quiet = 0 if found else quiet + 1
        if quiet == _QUIET:
            return closing.done()
        if time.monotonic() >= deadline:
            raise NotClosed(f"after {seconds:.0f} s there is still: {'; '.join(found)}")
        pause(_PAUSE_SECONDS)


class _Closing:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stopped: set[str] = set()
        self._marked: set[str] = set()
        self._deleted: set[str] = set()
        self._queue_name = re.compile(rf"/{re.escape(stack.queue_prefix)}[0-9]+\.fifo$")

    def done(self) -> dict[str, int]:
        return {
            "executions": len(self._stopped),
            "slots": len(self._marked),
            "queues": len(self._deleted),
        }

    def sweep(self, now: int) -> list[str]:
        """Do what can be done now; what was found, in words."""
        found: list[str] = []
        discovery, *others = self._stack.machines
        found += self._stop_executions(discovery)
        found += self._mark_slots()
        for machine in others:
            found += self._stop_executions(machine)
        serving = [slot for slot in self._stack.control.slots() if slot.until >= now]
        if serving:
            found += [f"slot {slot.id}, served by {slot.owner}" for slot in serving]
        else:
            found += self._delete_queues()
        logger.info("sweep", found=found)
        return found

    def _stop_executions(self, machine: str) -> list[str]:
        sfn = self._stack.sfn
        pages = sfn.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
        running = [entry["executionArn"] for page in pages for entry in page["executions"]]
        # One that was stopped may be listed as running for a while.
        new = [arn for arn in running if arn not in self._stopped]
        for arn in new:
            sfn.stop_execution(executionArn=arn, error="StackClosed", cause="the stack is being destroyed")
            self._stopped.add(arn)
        return [f"execution {arn}" for arn in new]

    def _mark_slots(self) -> list[str]:
        new = [slot.id for slot in self._stack.control.slots() if slot.state != "stopping"]
        for slot_id in new:
            try:
                self._stack.control.stop_slot(slot_id)
            except Conflict:
                continue  # gone meanwhile
            self._marked.add(slot_id)
        return [f"slot {slot_id}, not stopping yet" for slot_id in new]

    def _delete_queues(self) -> list[str]:
        sqs = self._stack.sqs
        pages = sqs.get_paginator("list_queues").paginate(
            QueueNamePrefix=self._stack.queue_prefix, PaginationConfig={"PageSize": 1000}
        )
        urls = [url for page in pages for url in page.get("QueueUrls", [])]
        # A prefix alone may be the beginning of another stack's; deleted ones are listed for a minute.
        new = [url for url in urls if self._queue_name.search(url) and url not in self._deleted]
        for url in new:
            try:
                sqs.delete_queue(QueueUrl=url)
            except sqs.exceptions.QueueDoesNotExist:
                logger.info("queue was gone already", queue=url)
            self._deleted.add(url)
        return [f"queue {url}" for url in new]
