"""Write a function's log lines to CloudWatch Logs while it runs.

AWS documents one log stream an execution environment (`YYYY/MM/DD/[version]<id>`), lines that appear
as they are written, START, END and REPORT around each invocation in the text format, `platform.*`
events in the JSON format from the system log level INFO down, and `LoggingConfig.LogGroup`.
Uses private names of ministack's cloudwatch_logs: _log_groups, _make_group_arn, _append_log_events,
_fanout_to_subscription_filters.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any

import ministack.services.cloudwatch_logs as cw

from . import embedded_metrics, patching

log = logging.getLogger("sandbox.lambda")
TAIL_BYTES = 4096


def check() -> None:
    """Raise OverlayError if the emulator lacks what this module uses."""
    embedded_metrics.check()
    patching.require(
        cw, "_log_groups", "_make_group_arn", "_append_log_events", "_fanout_to_subscription_filters"
    )


class LogStream:
    """The log stream of one execution environment; used within the function's account and region."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = config.get("LoggingConfig") or {}
        version = config.get("Version", "$LATEST")
        self.group = settings.get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
        self.name = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{version}]{uuid.uuid4().hex}"
        self._json = settings.get("LogFormat") == "JSON"
        self._platform = not self._json or settings.get("SystemLogLevel", "INFO") in {"INFO", "DEBUG"}
        self._version = version
        self._memory = config.get("MemorySize", 128)
        self._tail: list[str] = []
        if self.group not in cw._log_groups:
            cw._log_groups[self.group] = {
                "arn": cw._make_group_arn(self.group),
                "creationTime": _now(),
                "retentionInDays": None,
                "tags": {},
                "subscriptionFilters": {},
                "streams": {},
            }

    def start(self, request_id: str) -> None:
        """Log that an invocation starts."""
        self._tail = []
        self._platform_line(
            f"START RequestId: {request_id} Version: {self._version}",
            "platform.start",
            {"requestId": request_id, "version": self._version},
        )

    def end(self, request_id: str, seconds: float) -> None:
        """Log that an invocation ended after `seconds`."""
        milliseconds = seconds * 1000
        if not self._json:
            self.write(f"END RequestId: {request_id}")
        self._platform_line(
            f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\t"
            f"Billed Duration: {int(milliseconds) + 1} ms\tMemory Size: {self._memory} MB\t",
            "platform.report",
            {"requestId": request_id, "metrics": {"durationMs": round(milliseconds, 3)}},
        )

    def write(self, line: str) -> None:
        """Log one line; dropped, as on AWS, if the group is deleted meanwhile."""
        self._tail.append(line)
        group = cw._log_groups.get(self.group)
        if group is None:
            return
        now = _now()
        stream = group["streams"].setdefault(
            self.name,
            {
                "events": [],
                "uploadSequenceToken": "1",
                "creationTime": now,
                "firstEventTimestamp": None,
                "lastEventTimestamp": None,
                "lastIngestionTime": None,
            },
        )
        embedded_metrics.extract(line)
        cw._append_log_events(stream, [{"timestamp": now, "message": line, "ingestionTime": now}])
        cw._fanout_to_subscription_filters(self.group, self.name, [{"timestamp": now, "message": line}])

    def tail(self) -> str:
        """The last 4 KB that this invocation logged (`LogType=Tail`)."""
        text = "\n".join(self._tail).encode()[-TAIL_BYTES:]
        self._tail = []
        return text.decode(errors="replace")

    def _platform_line(self, text: str, kind: str, record: dict[str, Any]) -> None:
        if not self._platform:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        self.write(json.dumps({"time": now, "type": kind, "record": record}) if self._json else text)


def _now() -> int:
    return int(time.time() * 1000)
