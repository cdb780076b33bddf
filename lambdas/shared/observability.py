"""Logs and counters: JSON lines through Powertools, one metric record an invocation or a batch.

Counters use the CloudWatch embedded metric format with two dimensions only, `stack` and `stage`: one
reading never makes a log line, and a Thing is never a dimension. CloudWatch bills each metric by itself,
so only those that an alarm or the dashboard needs are metrics (`METRICS`). All others are fields of the
same record, which Logs Insights finds and sums.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from aws_lambda_powertools import Logger

__all__ = ["METRICS", "NAMESPACE", "count", "gauge", "logger"]

NAMESPACE = "ThingWorxConnector"
#: What CloudWatch keeps as metrics, by stage; `watch` has no dimension but the stack.
METRICS: dict[str, frozenset[str]] = {
    "router": frozenset(
        {
            "readings_in",
            "routed",
            "held_unrouted",
            "held_rejected",
            "dropped_unregistered",
            "dropped_held_full",
            "registry_unavailable",
        }
    ),
    "connector": frozenset(
        {
            "taken",
            "delivered",
            "late",
            "held_parked",
            "held_rejected",
            "dropped_held_full",
            "replayed_dropped_held_full",
            "handovers",
        }
    ),
    "assigner": frozenset({"removals_withheld"}),
    "watch": frozenset(
        {
            "slots_active",
            "slots_unserved",
            "oldest_message_seconds",
            "things_with_backlog",
            "failed_batches",
        }
    ),
}

_SERVICE = "thingworx-connector"
_LEVEL = os.environ.get("LOG_LEVEL", "ERROR")

logger = Logger(service=_SERVICE, level=_LEVEL)
# Where Lambda filters JSON logs, Powertools takes the level of that filter for its own. The filter has to
# let INFO through, or metric records would be dropped; our own lines keep to LOG_LEVEL.
logging.getLogger(_SERVICE).setLevel(_LEVEL)


def count(stack: str, stage: str, counters: dict[str, int]) -> None:
    """Emit `counters` (name -> how many) as one metric record; zeros are left out.

    A name with a colon, `{counter}:{detail}`, says what part of a counter has a detail.

    Args:
        stack: the stack's name prefix.
        stage: `router`, `connector`, `fetcher`, `assigner` or `scaler`.
        counters: names to counts.
    """
    counted = {name: value for name, value in counters.items() if value}
    if counted:
        _emit({"stack": stack, "stage": stage}, METRICS.get(stage, frozenset()), counted)


def gauge(stack: str, values: dict[str, int]) -> None:
    """Emit the state of the whole stack, zeros too: alarms see that somebody still looks.

    Args:
        stack: the stack's name prefix.
        values: names to values; names that end in `_seconds` are seconds.
    """
    _emit({"stack": stack}, METRICS["watch"], values)


def _emit(dimensions: dict[str, str], metrics: frozenset[str], values: dict[str, int]) -> None:
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": _unit(name)} for name in values if name in metrics],
    }
    # A record without metrics is in the format all the same: the fields are what it is for.
    directives = [directive] if directive["Metrics"] else []
    about = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": directives}
    # One write, so that records of several threads don't mix.
    sys.stdout.write(json.dumps({"_aws": about, **dimensions, **values}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _unit(name: str) -> str:
    return "Seconds" if name.endswith("_seconds") else "Count"
