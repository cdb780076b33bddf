"""CloudWatch metrics embedded in log lines.

AWS documents the embedded metric format: a JSON log line whose `_aws.CloudWatchMetrics` names members
of the line as metrics and dimensions becomes metric data. Uses ministack's cloudwatch._put_metric_data.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
from typing import Any

from ministack.services import cloudwatch

from . import patching


def check() -> None:
    """Raise OverlayError if the emulator lacks what this module uses."""
    patching.require(cloudwatch, "_put_metric_data")


def extract(line: str) -> None:
    """Store the metrics that a log line embeds; any other line is left alone."""
    if not line.startswith("{") or '"_aws"' not in line:
        return
    try:
        document = json.loads(line)
        directives = document["_aws"]["CloudWatchMetrics"]
        requests = [_request(document, directive) for directive in directives]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not in the format: AWS keeps the line and makes no metric of it
    for request in requests:
        cloudwatch._put_metric_data({}, request, is_cbor=False, is_json=True)


def _request(document: dict[str, Any], directive: dict[str, Any]) -> dict[str, Any]:
    """The PutMetricData request that says what one directive says."""
    seconds = document["_aws"]["Timestamp"] / 1000
    data = []
    for dimensions in directive.get("Dimensions") or [[]]:
        names = [{"Name": name, "Value": str(document[name])} for name in dimensions]
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            data.append(
                {
                    "MetricName": metric["Name"],
                    "Dimensions": names,
                    "Timestamp": seconds,
                    "Unit": metric.get("Unit", "None"),
                    "Values": values,
                    "Counts": [1] * len(values),
                }
            )
    return {"Namespace": directive["Namespace"], "MetricData": data}
