"""Logs and counters: JSON lines through Powertools, one metric record an invocation or a batch.

Counters use the CloudWatch embedded metric format with two dimensions only, `stack` and `stage`:
one reading never makes a log line, and a Thing is never a dimension.
"""

from __future__ import annotations

import logging
import os

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

__all__ = ["NAMESPACE", "count", "gauge", "logger"]

NAMESPACE = "ThingWorxConnector"

_SERVICE = "thingworx-connector"
_LEVEL = os.environ.get("LOG_LEVEL", "ERROR")

logger = Logger(service=_SERVICE, level=_LEVEL)
# Where Lambda filters JSON logs, Powertools takes the level of that filter for its own. The filter has to
# let INFO through, or metric records would be dropped; our own lines keep to LOG_LEVEL.
logging.getLogger(_SERVICE).setLevel(_LEVEL)


def count(stack: str, stage: str, counters: dict[str, int]) -> None:
    """Emit `counters` (name -> how many) as one metric record; zeros are left out.

    A name with a colon, `{counter}:{detail}`, says what part of a counter has a detail: it is no metric, but
    a field of the record, to be found by Logs Insights.

    Args:
        stack: the stack's name prefix.
        stage: `router`, `connector`, `fetcher`, `assigner` or `scaler`.
        counters: CloudWatch metric names to counts, at most 100.
    """
    counted = {name: value for name, value in counters.items() if value}
    if not counted:
        return
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.add_dimension(name="stack", value=stack)
    metrics.add_dimension(name="stage", value=stage)
    for name, value in counted.items():
        if ":" in name:
            metrics.add_metadata(key=name, value=value)
        else:
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()


def gauge(stack: str, values: dict[str, int]) -> None:
    """Emit the state of the whole stack, zeros too: alarms see that somebody still looks.

    Args:
        stack: the stack's name prefix.
        values: CloudWatch metric names to values; names that end in `_seconds` are seconds.
    """
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.add_dimension(name="stack", value=stack)
    for name, value in values.items():
        unit = MetricUnit.Seconds if name.endswith("_seconds") else MetricUnit.Count
        metrics.add_metric(name=name, unit=unit, value=value)
    metrics.flush_metrics()
