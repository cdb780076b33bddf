"""Show how a stack is doing."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from lambdas.shared.backlog_markers import marked_things
from lambdas.shared.chunks import chunks
from lambdas.shared.control_table import ASSIGNED, ControlTable
from lambdas.shared.held_items import STATES, HeldItems

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lambdas.shared.control_table import Slot
    from ops.stack import Stack

__all__ = ["HELP", "add_arguments", "run", "status"]

HELP = (
    "show slots, who serves them, their queues, Things, what is held or lies beside the stream, and discovery"
)

#: Items of the held table that are counted at most, unless more are asked for.
_MOST_HELD = 100_000
#: How far back the newest age of a queue's oldest message is looked for; SQS reports it once a minute.
_AGE_SECONDS = 900
_METRICS_AT_ONCE = 500
#: Objects of the failures bucket that are counted: one listing.
_MOST_BATCHES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `Command.add_arguments`."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--most-held",
        type=int,
        default=_MOST_HELD,
        metavar="N",
        help=f"items of the held table to count at most ({_MOST_HELD})",
    )


def run(arguments: argparse.Namespace, stack: Stack) -> int:
    """See `Command.run`."""
    found = status(stack, arguments.most_held)
    print(json.dumps(found, indent=2) if arguments.json else _text(found))
    return 0


def status(stack: Stack, most_held: int = _MOST_HELD) -> dict[str, Any]:
    """All of it as JSON takes it; times in seconds, None where there is none."""
    control = ControlTable(stack.control_table, stack.dynamodb)
    slots = control.slots()
    records = control.things()
    served = Counter(record.slot for record in records if record.state == ASSIGNED)
    ages = _oldest_messages(stack, slots)
    now = time.time()
    return {
        "stack": stack.name,
        "region": stack.region,
        "things": {"assigned": served.total(), "removed": len(records) - served.total()},
        "slots": [
            {
                "slot": slot.id,
                "state": slot.state,
                "things": served[slot.id],
                "epoch": slot.epoch,
                "owner": slot.owner,
                "lease_seconds_left": round(slot.until / 1000 - now, 1) if slot.owner else None,
                "successor": slot.successor,
                **_queue(stack, slot),
                "oldest_message_seconds": ages.get(slot.id),
                "parked": marked_things(stack.dynamodb, stack.control_table, slot.id),
            }
            for slot in slots
        ],
        "held": _held(stack, most_held),
        "beside_the_stream": _beside_the_stream(stack),
        "discovery": _last_discovery(stack),
    }


def _queue(stack: Stack, slot: Slot) -> dict[str, int | None]:
    """Messages that wait and that a connector works on; None where there is no queue."""
    waiting, in_flight = (slot.queue_url and _messages(stack, slot.queue_url)) or (None, None)
    return {"messages_waiting": waiting, "messages_in_flight": in_flight}


def _messages(stack: Stack, url: str) -> tuple[int, int] | None:
    """Messages of a queue that wait and that somebody works on; None where there is no queue."""
    try:
        answer: Any = stack.sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
    except stack.sqs.exceptions.QueueDoesNotExist:
        return None  # of a slot that is going
    found = answer["Attributes"]
    return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])


def _oldest_messages(stack: Stack, slots: Sequence[Slot]) -> dict[str, int]:
    """Slot id -> age in seconds of its queue's oldest message, as SQS last reported it."""
    queues = {slot.id: slot.queue_url.rpartition("/")[2] for slot in slots if slot.queue_url}
    now = time.time()
    found: dict[str, int] = {}
    for part in chunks(list(queues.items()), _METRICS_AT_ONCE):
        answer = stack.metrics.get_metric_data(
            MetricDataQueries=[
                {
                    "Id": f"slot{slot}",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": "AWS/SQS",
                            "MetricName": "ApproximateAgeOfOldestMessage",
                            "Dimensions": [{"Name": "QueueName", "Value": queue}],
                        },
                        "Period": 60,
                        "Stat": "Maximum",
                    },
                }
                for slot, queue in part
            ],
            StartTime=now - _AGE_SECONDS,
            EndTime=now,
            ScanBy="TimestampDescending",
        )
        for result in answer["MetricDataResults"]:
            if result["Values"]:
                found[result["Id"].removeprefix("slot")] = int(result["Values"][0])
    return found


def _held(stack: Stack, most: int) -> dict[str, Any]:
    """Counts by state and reason of the first `most` items."""
    counts: dict[str, Counter[str]] = {state: Counter() for state in STATES}
    items = HeldItems(stack.held_table, stack.dynamodb).scan("pk", "reason")
    read = 0
    for item in islice(items, most):
        read += 1
        state = item["pk"].partition("#")[0]
        if state in counts:
            counts[state][item["reason"]] += 1
    return {
        "counts": {state: dict(reasons.most_common()) for state, reasons in counts.items()},
        "complete": next(items, None) is None,
        "items_read": read,
    }


def _beside_the_stream(stack: Stack) -> dict[str, Any]:
    """Messages and objects that `reingest` would put into the stream; None where there is no queue."""
    errors = _messages(stack, stack.ingest_errors_url)
    listed = stack.objects.list_objects_v2(Bucket=stack.failures_bucket, MaxKeys=_MOST_BATCHES)
    return {
        "ingest_errors": None if errors is None else sum(errors),
        "failed_batches": listed["KeyCount"],
        "failed_batches_complete": not listed["IsTruncated"],
    }


def _last_discovery(stack: Stack) -> dict[str, Any] | None:
    answer: Any = stack.states.list_executions(
        stateMachineArn=stack.state_machine_arn("discovery"), maxResults=1
    )
    if not answer["executions"]:
        return None
    last = answer["executions"][0]
    stopped = last.get("stopDate")
    return {
        "run": last["name"],
        "status": last["status"],
        "started": last["startDate"].isoformat(),
        "stopped": stopped.isoformat() if stopped else None,
    }


def _text(found: dict[str, Any]) -> str:
    things, held, last = found["things"], found["held"], found["discovery"]
    lines = [
        f"stack {found['stack']} in {found['region']}",
        f"Things: {things['assigned']} assigned, {things['removed']} removed",
        "",
        *_slots(found["slots"]),
        "",
        "held readings:"
        if held["complete"]
        else f"held readings (the first {held['items_read']} items only):",
    ]
    lines += [
        f"  {number:>9}  {state} {reason}"
        for state, reasons in held["counts"].items()
        for reason, number in reasons.items()
    ] or ["          none"]
    lines += ["", *_stray_lines(found["beside_the_stream"]), ""]
    if last is None:
        lines.append("discovery has not run yet")
    else:
        end = f", ended {last['stopped']}" if last["stopped"] else ""
        lines.append(f"last discovery run: {last['run']} {last['status']}, started {last['started']}{end}")
    return "\n".join(lines)


def _stray_lines(beside: dict[str, Any]) -> list[str]:
    batches, more = beside["failed_batches"], "" if beside["failed_batches_complete"] else " or more"
    return [
        "not in the stream (`reingest` puts it there):",
        f"  {_number(beside['ingest_errors']):>9}  messages that topic rules couldn't put into it",
        f"  {batches:>9}{more}  batches that the router gave up",
    ]


def _slots(slots: Sequence[dict[str, Any]]) -> list[str]:
    columns = (
        "slot",
        "state",
        "things",
        "epoch",
        "lease",
        "waiting",
        "in flight",
        "oldest",
        "parked",
        "owner",
    )
    rows = [columns]
    rows += [
        (
            slot["slot"],
            slot["state"],
            str(slot["things"]),
            str(slot["epoch"]),
            _lease(slot["lease_seconds_left"]),
            _number(slot["messages_waiting"]),
            _number(slot["messages_in_flight"]),
            _number(slot["oldest_message_seconds"], " s"),
            str(len(slot["parked"])),
            slot["owner"] or "nobody",
        )
        for slot in slots
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _lease(seconds_left: float | None) -> str:
    if seconds_left is None:
        return "none"
    return f"{seconds_left:.0f} s left" if seconds_left > 0 else f"over since {-seconds_left:.0f} s"


def _number(value: int | None, unit: str = "") -> str:
    return "-" if value is None else f"{value}{unit}"
