"""One look at the stack: each part by itself, so that one that fails keeps no other from its work."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.connectors import lately_started, start_connector
from lambdas.shared.errors import Conflict, ConnectorError
from lambdas.shared.observability import gauge, logger
from lambdas.watch.dead import Executions, may_be_dead, named, noted, served
from lambdas.watch.queues import Depth, delete_queue, depth, oldest_seconds
from lambdas.watch.retire import Looked, Step, Times, next_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.literals import ExecutionStatusType

    from lambdas.shared.control_table import ControlTable
    from lambdas.shared.publishing import Publishing
    from lambdas.shared.wanted import WantedRuns
    from lambdas.watch.queues import CloudWatch
    from lambdas.watch.runs import RunStarter
    from lambdas.watch.strays import StrayPlaces
    from lambdas.watch.table import WatchedSlot, WatchTable

__all__ = ["Parts", "Seen", "Watch", "WatchFailed"]

_THREADS = 16


class WatchFailed(ConnectorError):  # noqa: N818 - says what could not be done
    """Some of a look's work failed; the message says what. The next minute tries again."""


class Parts(NamedTuple):
    """What a look needs.

    Attributes:
        stack: the stack's name prefix.
        control: control table.
        table: the same, for what only the watch function keeps there.
        wanted: wishes for discovery runs.
        publishing: when the registry was last published.
        runs: starts discovery runs.
        sqs: boto3 SQS client.
        sfn: boto3 Step Functions client.
        cloudwatch: boto3 CloudWatch client.
        strays: counts what never went through the stream.
        machine: ARN of the connector state machine.
        times: how long to wait before a slot goes.
        grace: milliseconds without lease after which a slot may be dead.
    """

    stack: str
    control: ControlTable
    table: WatchTable
    wanted: WantedRuns
    publishing: Publishing
    runs: RunStarter
    sqs: SQSClient
    sfn: SFNClient
    cloudwatch: CloudWatch
    strays: StrayPlaces
    machine: str
    times: Times
    grace: int


class Seen(NamedTuple):
    """One slot, and what is around it."""

    slot: WatchedSlot
    depth: Depth
    things: bool
    backlogs: int


class Watch:
    """Looks at everything once.

    Args:
        parts: stores and clients.
        now: milliseconds since 1970 UTC.
    """

    def __init__(self, parts: Parts, now: int) -> None:
        self._parts = parts
        self._now = now
        self._began = time.monotonic()
        self._faults: list[str] = []

    def run(self) -> dict[str, int]:
        """Do what is due; the state of the stack.

        Raises:
            WatchFailed: some of it failed, after all was tried.
        """
        parts = self._parts
        slots = parts.table.slots()
        started: list[str] = []
        self._try(
            "discovery runs", lambda: started.extend(parts.runs.start_wanted(self._now, slots=bool(slots)))
        )
        with ThreadPoolExecutor(_THREADS) as pool:
            seen = [found for found in pool.map(self._look, slots) if found is not None]
            published = parts.publishing.last()
            unpublished = [*pool.map(lambda found: self._retire(found, published), seen)]
        self._try("connectors", self._start_dead, slots)
        missing = any(unpublished) or any(map(self._unopened, seen))
        if missing and not any(name.startswith("repair-") for name in started):
            self._try("the registry", lambda: parts.wanted.ask("repair", now=self._now))
        figures = self._figures(seen) | self._strays()
        gauge(parts.stack, figures)
        if self._faults:
            raise WatchFailed("; ".join(self._faults))
        return figures

    def _try(self, what: str, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except Conflict as error:
            # Somebody else was at it; what is left to do shows at the next look.
            logger.info("overtaken", what=what, reason=str(error))
        except (ConnectorError, ClientError, BotoCoreError) as error:
            logger.error("not done", what=what, reason=str(error))
            self._faults.append(f"{what}: {type(error).__name__}: {error}")

    def _look(self, slot: WatchedSlot) -> Seen | None:
        """What is around a slot; None when that can't be seen now."""
        parts, found = self._parts, []

        def look() -> None:
            url, slot_id = slot.slot.queue_url, slot.slot.id
            messages = depth(parts.sqs, url) if url else Depth(0, 0, exists=False)
            found.append(Seen(slot, messages, parts.table.has_things(slot_id), parts.table.backlogs(slot_id)))

        self._try(f"slot {slot.slot.id}", look)
        return found[0] if found else None

    def _retire(self, seen: Seen, published: int) -> bool:
        """Take the slot one step further; whether that waits for a publishing."""
        looked = Looked(seen.things, seen.depth.all)
        step = next_step(seen.slot, looked, published, self._now, self._parts.times)
        if step in (Step.NOTHING, Step.PUBLISH):
            return step is Step.PUBLISH
        slot = seen.slot.slot
        logger.warning("slot", slot=slot.id, step=step.name, reason=step.value)
        self._try(f"slot {slot.id}", self._take, step, seen.slot)
        return step is Step.DRAIN

    def _take(self, step: Step, slot: WatchedSlot) -> None:
        table, slot_id, now = self._parts.table, slot.slot.id, self._now
        match step:
            case Step.OCCUPIED:
                table.change(slot_id, "active", empty_since=None)
            case Step.EMPTY:
                table.change(slot_id, "active", empty_since=now)
            case Step.DRAIN:
                table.change(
                    slot_id,
                    "active",
                    state="draining",
                    draining_since=now,
                    unrouted_since=None,
                    quiet_readings=0,
                )
                # Who has published since the look began may have read the slot before that was written.
                table.change(slot_id, "draining", draining_since=self._later())
            case Step.UNROUTED:
                table.change(slot_id, "draining", unrouted_since=now)
            case Step.BUSY:
                table.change(slot_id, "draining", quiet_readings=0)
            case Step.QUIET:
                table.change(slot_id, "draining", quiet_readings=slot.quiet_readings + 1, read_at=now)
            case Step.STOP:
                table.change(slot_id, "draining", state="stopping")
            case Step.REOPEN:
                since = {} if slot.draining_since else {"draining_since": now}
                table.change(slot_id, "stopping", state="draining", quiet_readings=0, **since)
            case Step.DELETE:
                if slot.slot.queue_url:
                    delete_queue(self._parts.sqs, slot.slot.queue_url)
                table.delete(slot_id)

    def _later(self) -> int:
        """The time by now, by the clock that the look began with."""
        return self._now + math.ceil((time.monotonic() - self._began) * 1000)

    def _unopened(self, seen: Seen) -> bool:
        """Whether an active slot has lost its queue, or has been without one for longer than a run takes."""
        slot = seen.slot
        if slot.slot.state != "active" or seen.depth.exists:
            return False
        waited = slot.unserved_since and self._now - slot.unserved_since >= self._parts.grace
        return bool(slot.slot.queue_url or waited)

    def _start_dead(self, slots: Sequence[WatchedSlot]) -> None:
        now, grace = self._now, self._parts.grace
        for slot in slots:
            if noted(slot, now) != (slot.unserved_since, slot.restarts):
                self._try(f"slot {slot.slot.id}", self._note, slot)
        suspects = [slot for slot in slots if may_be_dead(slot, now, grace)]
        if not suspects:
            return
        executions = Executions(self._named("RUNNING"), self._named("ABORTED"))
        for slot in filter(executions.dead, suspects):
            self._try(f"slot {slot.slot.id}", self._start, slot)

    def _note(self, slot: WatchedSlot) -> None:
        life = noted(slot, self._now)
        self._parts.table.change(
            slot.slot.id,
            slot.slot.state,
            unserved_since=life.unserved_since or None,
            restarts=life.restarts or None,
        )

    def _start(self, slot: WatchedSlot) -> None:
        parts = self._parts
        logger.error("connector is dead; starting another", slot=slot.slot.id, restarts=slot.restarts)
        if not lately_started(slot.slot, self._now):
            parts.table.change(slot.slot.id, slot.slot.state, restarts=slot.restarts + 1)
        start_connector(parts.control, parts.sfn, parts.machine, slot.slot, self._now)

    def _named(self, status: ExecutionStatusType) -> frozenset[tuple[str, int]]:
        """Slot and epoch of the executions in a status; of stopped ones the newest thousand."""
        pages = self._parts.sfn.get_paginator("list_executions").paginate(
            stateMachineArn=self._parts.machine,
            statusFilter=status,
            PaginationConfig={} if status == "RUNNING" else {"MaxItems": 1000},
        )
        return named(entry["name"] for page in pages for entry in page["executions"])

    def _figures(self, seen: Sequence[Seen]) -> dict[str, int]:
        active = [one for one in seen if one.slot.slot.state == "active"]
        depths = [one.depth for one in seen]
        figures = {
            "slots_active": len(active),
            "slots_unserved": sum(not served(one.slot, self._now) for one in seen),
            "queue_messages": sum(found.all for found in depths),
            "queue_messages_max": max((found.all for found in depths), default=0),
            "things_with_backlog": sum(one.backlogs for one in seen),
        }
        waiting = [(one.slot.slot.queue_url or "").rpartition("/")[2] for one in seen if one.depth.waiting]
        try:
            figures["oldest_message_seconds"] = oldest_seconds(self._parts.cloudwatch, waiting)
        except (ClientError, BotoCoreError) as error:
            logger.warning("the age of messages can't be read", reason=str(error))
        return figures

    def _strays(self) -> dict[str, int]:
        """What never went through the stream; a figure that can't be had is left out."""
        figures: dict[str, int] = {}
        strays = self._parts.strays
        for name, count in (
            ("ingest_errors", strays.ingest_errors),
            ("failed_batches", strays.failed_batches),
        ):

            def note(name: str = name, count: Callable[[], int] = count) -> None:
                figures[name] = count()

            self._try(name, note)
        return figures
