"""CloudWatch alarms are described as they were set, over every protocol.

The emulator leaves fields out of DescribeAlarms over the Query protocol, which the Terraform provider
speaks, and forgets the metric math of an alarm. Replaces cloudwatch._describe_alarms, _cbor_alarm and
_put_metric_alarm; uses _alarms and _xml.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
import time
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import cloudwatch

from . import patching

# What an alarm on one metric has and an alarm on metric math has not.
_OF_ONE_METRIC = frozenset({"MetricName", "Namespace", "Dimensions", "Period", "Statistic"})


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(cloudwatch, "_alarms", "_xml")
    patching.replace(cloudwatch, "_describe_alarms", _describe_for)
    patching.replace(cloudwatch, "_cbor_alarm", _cbor_alarm_for)
    patching.replace(cloudwatch, "_put_metric_alarm", _put_for)


def _put_for(original: Any) -> Any:
    def put(params: dict[str, Any], cbor_data: Any, is_cbor: Any, is_json: Any = False) -> Any:  # noqa: FBT002
        answer = original(params, cbor_data, is_cbor, is_json)
        request = cbor_data if is_cbor or is_json else query_members(params)
        if answer[0] == 200 and request.get("Metrics"):
            cloudwatch._alarms[request["AlarmName"]]["Metrics"] = request["Metrics"]
        return answer

    return put


def _describe_for(original: Any) -> Any:
    def describe(params: dict[str, Any], cbor_data: Any, is_cbor: Any, is_json: Any = False) -> Any:  # noqa: FBT002
        if is_cbor:
            return original(params, cbor_data, is_cbor, is_json)
        query = cbor_data if is_json else query_members(params)
        status, headers, body = original({}, query, is_cbor=False, is_json=True)
        if status != 200:
            return original(params, cbor_data, is_cbor, is_json)
        document = json.loads(body)
        document["MetricAlarms"] = [_as_set(alarm) for alarm in document["MetricAlarms"]]
        if is_json:
            return status, headers, json.dumps(document).encode()
        result = f"<DescribeAlarmsResult>{_xml(document)}</DescribeAlarmsResult>"
        return cloudwatch._xml(200, "DescribeAlarmsResponse", result)

    return describe


def _cbor_alarm_for(original: Any) -> Any:
    def convert(alarm: dict[str, Any]) -> Any:
        return original(_as_set(alarm))

    return convert


def _as_set(alarm: dict[str, Any]) -> dict[str, Any]:
    left_out = _OF_ONE_METRIC if alarm.get("Metrics") else ()
    return {name: value for name, value in alarm.items() if name not in left_out}


def query_members(params: dict[str, Any]) -> dict[str, Any]:
    """The structure that a Query request's flat names (`A.member.1.B`) describe."""
    root: dict[str, Any] = {}
    for name, value in params.items():
        node = root
        *path, last = name.split(".")
        for step in path:
            node = node.setdefault(step, {})
        node[last] = value[0] if isinstance(value, list) else value
    members: dict[str, Any] = _lists(root)
    return members


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return {"true": True, "false": False}.get(node, node)
    if set(node) == {"member"}:
        numbered = node["member"]
        return [_lists(numbered[number]) for number in sorted(numbered, key=int)]
    return {name: _lists(value) for name, value in node.items()}


def _xml(value: Any, name: str = "") -> str:
    """A JSON value in the form of the Query protocol."""
    if isinstance(value, dict):
        present = {key: inner for key, inner in value.items() if inner is not None}
        return "".join(f"<{key}>{_xml(inner, key)}</{key}>" for key, inner in present.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(inner)}</member>" for inner in value)
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("Timestamp") and isinstance(value, (int, float)):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
    return escape(str(value))
