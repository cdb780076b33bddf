"""Logs and counters: JSON lines through Powertools, one metric record an invocation or a batch.

Counters use the CloudWatch embedded metric format with two dimensions only, `stack` and `stage`:
one reading never makes a log line, and a Thing is never a dimension.
"""

from __future__ import annotations

import logging
import os

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

__all__ = ["NAMESPACE", "count", "logger"]

NAMESPACE = "ThingWorxConnector"

_SERVICE = "thingworx-connector"
_LEVEL = os.environ.get("LOG_LEVEL", "ERROR")

logger = Logger(service=_SERVICE, level=_LEVEL)
# Where Lambda filters JSON logs, Powertools takes the level of that filter for its own. The filter has to
# let INFO through, or metric records would be dropped; our own lines keep to LOG_LEVEL.
logging.getLogger(_SERVICE).setLevel(_LEVEL)


def count(stack: str, stage: str, counters: dict[str, int]) -> None:
    """Emit `counters` (name -> how many) as one metric record; zeros are left out.

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
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()
