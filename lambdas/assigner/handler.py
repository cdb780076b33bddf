"""The assigner: run lock, plan, registry. Events and answers: docs/reference/data-formats.md."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from lambdas.assigner.assign import assign, repair
from lambdas.shared.control_table import ControlTable
from lambdas.shared.observability import count, logger
from lambdas.shared.run_lock import RunLock
from lambdas.shared.settings import AssignerSettings
from lambdas.shared.staging import Staging

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


class _Parts(NamedTuple):
    settings: AssignerSettings
    control: ControlTable
    lock: RunLock
    s3: S3Client


@cache
def _parts() -> _Parts:
    settings = AssignerSettings.from_env(os.environ)
    dynamodb = boto3.client("dynamodb")
    control = ControlTable(settings.control_table, dynamodb)
    return _Parts(settings, control, RunLock(settings.control_table, dynamodb), boto3.client("s3"))


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
        Conflict: the run has lost its lock, or the control table changed meanwhile.
        RegistryUnavailable: Redis doesn't answer.
        StagingFault: what an earlier step had to stage is missing.
    """
    action = _ACTIONS.get(event["action"])
    if action is None:
        raise ValueError(f"action is {event['action']!r}; it must be one of {', '.join(_ACTIONS)}")
    return action(event)


def _begin(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    taken = parts.lock.begin(event["run"], parts.settings.run_lease_seconds * 1000, _now())
    count(parts.settings.stack, "assigner", {"runs_refused": int(not taken.acquired)})
    return taken._asdict()


def _assign(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    _renew(event)
    if event.get("repair"):
        answer = repair(parts.control)
    else:
        answer = assign(
            parts.control,
            Staging(parts.s3, parts.settings.staging_bucket, event["run"]),
            things_per_slot=parts.settings.things_per_slot,
            lanes=parts.settings.lanes_per_slot,
            now=_now(),
            dry_run=bool(event.get("dry_run")),
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
    answer = publish(parts.control, _registry())
    count(parts.settings.stack, "assigner", {"things_published": answer["things"]})
    return answer


def _end(event: dict[str, Any]) -> dict[str, Any]:
    parts = _parts()
    again = parts.lock.end(event["run"])
    count(parts.settings.stack, "assigner", {"runs_ended": 1})
    return {"again": again}


_ACTIONS = {"begin": _begin, "assign": _assign, "publish": _publish, "end": _end}


def _renew(event: dict[str, Any]) -> None:
    parts = _parts()
    parts.lock.renew(event["run"], parts.settings.run_lease_seconds * 1000, _now())


def _now() -> int:
    return time.time_ns() // 1_000_000
