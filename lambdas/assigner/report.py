"""The report of a run: what it did, how long its steps took, and what owners got wrong in ThingWorx.

Kept for the last 30 runs, as `reports/{time}-{run}.json` in the staging bucket. docs/discovery.md tells
what each line means and what to do about it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.seen import Mistake, from_lists
from lambdas.shared.times import iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from lambdas.shared.staging import Staging

__all__ = ["KEPT", "Ending", "make_report", "store_report"]

#: Reports that are kept.
KEPT = 30

_VERSION = 1
_FOLDER = "reports/"
_KEY = re.compile(r"reports/\d{8}T\d{9}Z-.+\.json")
_NAMES = ("added", "changed", "removed", "removals_withheld", "without_properties", "failed", "new_slots")
_NUMBERS = ("listed", "read", "kept", "slots")
_STEPS = ("list", "fetch", "assign", "publish")


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        run: its execution name.
        started: when it did, ISO 8601; empty when that isn't known.
        ended: when it did, milliseconds since 1970 UTC.
        dry_run: whether it was only to plan.
        error: class of the error it failed with, or empty.
        cause: what that error says.
    """

    run: str
    started: str
    ended: int
    dry_run: bool = False
    error: str = ""
    cause: str = ""

    @property
    def began(self) -> int:
        """When it started, milliseconds since 1970 UTC; its end when that isn't known."""
        return iso_milliseconds(self.started) if self.started else self.ended

    @property
    def outcome(self) -> str:
        """`failed`, `planned` or `published`."""
        if self.error:
            return "failed"
        return "planned" if self.dry_run else "published"


def make_report(ending: Ending, staging: Staging, refused: Mapping[str, str]) -> dict[str, Any]:
    """The report of a run that ends now.

    Args:
        ending: how it ended.
        staging: of the run; what its steps have left there.
        refused: Things whose bind is refused, and why.
    """
    plan = staging.find("plan") or {}
    counts = {name: len(plan[name]) for name in _NAMES if name in plan}
    counts |= {name: plan[name] for name in _NUMBERS if name in plan}
    published = staging.find("published") or {}
    counts |= {f"{name}_published": number for name, number in published.get("counts", {}).items()}
    steps = (staging.find("steps") or {}).get("steps", {}) | published.get("steps", {})
    return {
        "v": _VERSION,
        "run": ending.run,
        "outcome": ending.outcome,
        "error": ending.error,
        "cause": ending.cause,
        "started": ending.began,
        "seconds": (ending.ended - ending.began) / 1000,
        "steps": _seconds(steps),
        "only": plan.get("only"),
        "why_all": plan.get("why_all", ""),
        "counts": counts,
        "failed": plan.get("failed", {}),
        "removals_withheld": plan.get("removals_withheld", []),
        "mistakes": _mistakes(plan, refused),
    }


def store_report(client: S3Client, bucket: str, report: Mapping[str, Any]) -> str:
    """Put a report beside the others and delete the oldest, beyond 30; its key."""
    seconds, milliseconds = divmod(report["started"], 1000)
    time = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")
    key = f"{_FOLDER}{time}{milliseconds:03}Z-{report['run']}.json"
    client.put_object(Bucket=bucket, Key=key, Body=orjson.dumps(report), ContentType="application/json")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_FOLDER)
    keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
    for old in [found for found in keys if _KEY.fullmatch(found)][:-KEPT]:
        client.delete_object(Bucket=bucket, Key=old)
    return key


def _seconds(steps: Mapping[str, list[int]]) -> dict[str, float]:
    """Seconds of each step; `scale` is what lies between the plan and its publishing."""
    found = {name: (steps[name][1] - steps[name][0]) / 1000 for name in _STEPS if name in steps}
    if {"assign", "publish"} <= steps.keys():
        found["scale"] = (steps["publish"][0] - steps["assign"][1]) / 1000
    return found


def _mistakes(plan: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    found = from_lists(plan.get("mistakes", {}))
    for name in plan.get("without_properties", []):
        found.setdefault(name, []).append(Mistake("no_property"))
    for name in plan.get("names", []):
        found.setdefault(name, []).append(Mistake("name_not_for_iot"))
    for name, reason in refused.items():
        found.setdefault(name, []).append(Mistake("bind_refused", detail=reason))
    return {name: [_line(mistake) for mistake in found[name]] for name in sorted(found)}


def _line(mistake: Mistake) -> dict[str, str]:
    return {key: text for key, text in mistake._asdict().items() if text}
