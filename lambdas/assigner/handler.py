"""The assigner: run lock, plan, registry. Events and answers: docs/reference/data-formats.md."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.assigner.assign import Rules, assign, repair
from lambdas.assigner.held import HeldOfNewThings
from lambdas.assigner.report import Ending, make_report, store_report
from lambdas.assigner.runs import Asked, Runs
from lambdas.assigner.stragglers import Stragglers
from lambdas.shared.backlog_markers import is_marked
from lambdas.shared.control_table import ControlTable
from lambdas.shared.held_items import HeldItems
from lambdas.shared.held_store import HeldStore
from lambdas.shared.observability import count, logger
from lambdas.shared.publishing import Publishing
from lambdas.shared.refusals import Refusals
from lambdas.shared.replay import Replayer
from lambdas.shared.run_lock import RunLock
from lambdas.shared.seen import FOLDER
from lambdas.shared.seen import NAME as SEEN
from lambdas.shared.send import Sender
from lambdas.shared.settings import AssignerSettings
from lambdas.shared.staging import Staging, StagingFault
from lambdas.shared.wanted import WantedRuns

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lambdas.shared.registry import Registry

__all__ = ["handle"]

_COUNTERS = {
    "added": "things_added",
    "changed": "things_changed",
    "removed": "things_removed",
    "removals_withheld": "removals_withheld",
    "without_properties": "things_without_properties",
    "new_slots": "slots_created",
}


#: Less than Step Functions waits between two tries.
_PUBLISH_PATIENCE_SECONDS = 60.0
#: Things whose held readings are sent at once, with some to spare.
_HELD_CONFIG = Config(max_pool_connections=32, retries={"mode": "standard", "total_max_attempts": 4})


class _Parts(NamedTuple):
    settings: AssignerSettings
    control: ControlTable
    runs: Runs
    wanted: WantedRuns
    publishing: Publishing
    refusals: Refusals
    s3: S3Client


@cache
def _parts() -> _Parts:
    settings = AssignerSettings.from_env(os.environ)
    dynamodb, table = boto3.client("dynamodb"), settings.control_table
    wanted = WantedRuns(table, dynamodb)
    return _Parts(
        settings,
        ControlTable(table, dynamodb),
        Runs(RunLock(table, dynamodb), wanted, settings.run_lease_seconds * 1000),
        wanted,
        Publishing(table, dynamodb),
        Refusals(table, dynamodb),
        boto3.client("s3"),
    )


@cache
def _registry() -> Registry:
    # Redis is slow to import, and of no use to the other actions.
    from lambdas.shared.registry import Registry, connect  # noqa: PLC0415

    settings = _parts().settings
    return Registry(connect(settings), settings.stack)


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Carry out one action of a discovery run.

    Raises:
        ValueError: the action is unknown.
        RunLost: the run has lost its lock; another one carries on.
        Conflict: the control table changed meanwhile, or another run publishes.
        RegistryUnavailable: Redis doesn't answer.
        StagingFault: what an earlier step had to stage is missing.
    """
    action = _ACTIONS.get(event["action"])
    if action is None:
        raise ValueError(f"action is {event['action']!r}; it must be one of {', '.join(_ACTIONS)}")
    return action(event)


def _begin(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    begun = parts.runs.begin(event["run"], Asked.of(event), _now())
    count(parts.settings.stack, "assigner", {"runs_refused": int(not begun["acquired"])})
    return begun


def _assign(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    _renew(event)
    if event.get("repair"):
        answer = repair(parts.control)
    else:
        answer = assign(
            parts.control,
            Staging(parts.s3, parts.settings.staging_bucket, event["run"]),
            Rules(
                parts.settings.things_per_slot,
                parts.settings.lanes_per_slot,
                parts.settings.removal_limit_percent,
                allow_removals=bool(event.get("allow_removals")),
                dry_run=bool(event.get("dry_run")),
            ),
            _now,
        )
    if answer["removals_withheld"]:
        logger.error("removals withheld: too many Things are gone at once", extra={"plan": answer["plan"]})
    counted = {} if event.get("dry_run") else {_COUNTERS[name]: answer[name] for name in _COUNTERS}
    count(parts.settings.stack, "assigner", counted)
    return answer


def _publish(event: dict[str, Any]) -> dict[str, Any]:
    from lambdas.assigner.publish import publish  # noqa: PLC0415 - imports Redis

    parts = _parts()
    _renew(event)
    owner = f"{event['run']}/{uuid.uuid4().hex[:8]}"
    began = _now()
    with parts.publishing.hold(owner, _PUBLISH_PATIENCE_SECONDS):
        held = _held_of_new_things(event["run"])
        answer = publish(parts.control, _registry(), held, parts.publishing.last())
    if answer["waiting"]:
        parts.wanted.ask("repair", now=_now())
    if answer["stranded"]:
        parts.wanted.ask("unknown", now=_now())
    if not event.get("repair"):
        staging = Staging(parts.s3, parts.settings.staging_bucket, event["run"])
        staging.put("published", {"counts": answer, "steps": {"publish": [began, _now()]}})
        # Only now may the next run rely on what this one saw.
        staging.copy(SEEN, FOLDER)
    counted = {"things_published": answer["things"], "things_waiting": answer["waiting"]}
    count(parts.settings.stack, "assigner", counted | held.counters)
    return answer


def _held_of_new_things(run: str) -> HeldOfNewThings:
    settings, dynamodb = _parts().settings, boto3.client("dynamodb", config=_HELD_CONFIG)
    items = HeldItems(settings.held_table, dynamodb)
    store = HeldStore(
        settings.held_table,
        dynamodb,
        days=settings.held_days,
        per_thing_per_day=settings.held_per_thing_per_day,
        per_day=settings.held_per_day,
    )
    sender = Sender(boto3.client("sqs", config=_HELD_CONFIG), concurrency=1)  # a page is of one Thing
    stragglers = Stragglers(settings.control_table, dynamodb)
    return HeldOfNewThings(
        items,
        store,
        Replayer(items, store, sender, run),
        stragglers,
        partial(is_marked, dynamodb, settings.control_table),
    )


def _end(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    if not event.get("repair"):
        _report(parts, event)
    again = parts.runs.end(event["run"], Asked.of(event), _now(), failed=bool(event.get("failed")))
    count(parts.settings.stack, "assigner", {"runs_ended": 1})
    return {"again": again}


def _report(parts: _Parts, event: dict[str, Any]) -> None:
    bucket = parts.settings.staging_bucket
    ending = Ending(
        event["run"],
        event.get("started") or "",
        _now(),
        bool(event.get("dry_run")),
        event.get("error") or ("unknown" if event.get("failed") else ""),
        event.get("cause") or "",
    )
    try:
        active = {slot.id for slot in parts.control.slots() if slot.state == "active"}
        report = make_report(ending, Staging(parts.s3, bucket, event["run"]), parts.refusals.of(active))
        key = store_report(parts.s3, bucket, report)
    except (ClientError, BotoCoreError, StagingFault, ValueError) as error:
        # A run is not to keep its lock because it can't tell what it did.
        logger.error("the report can't be written", extra={"reason": repr(error)})
        return
    if report["mistakes"] or report["failed"]:
        mistakes = Counter(found["code"] for lines in report["mistakes"].values() for found in lines)
        told = {"report": key, "failed": len(report["failed"]), "mistakes": mistakes}
        logger.warning("Things need their owners", extra=told)


_ACTIONS = {"begin": _begin, "assign": _assign, "publish": _publish, "end": _end}


def _renew(event: dict[str, Any]) -> None:
    if not event.get("repair"):  # which holds no run lock
        _parts().runs.renew(event["run"], _now())


def _now() -> int:
    return time.time_ns() // 1_000_000
