"""Counters become one metric record with the stack and the stage as its only dimensions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from lambdas.shared.observability import NAMESPACE, count, gauge

if TYPE_CHECKING:
    import pytest


def test_counts_become_one_record_without_the_zeros(capsys: pytest.CaptureFixture[str]) -> None:
    count("demo", "connector", {"delivered": 3, "duplicate": 0, "taken": 3})
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    (metrics,) = record["_aws"]["CloudWatchMetrics"]
    assert metrics["Namespace"] == NAMESPACE
    assert [sorted(dimensions) for dimensions in metrics["Dimensions"]] == [["stack", "stage"]]
    assert (record["stack"], record["stage"]) == ("demo", "connector")
    assert {entry["Name"]: entry["Unit"] for entry in metrics["Metrics"]} == {"delivered": "Count", "taken": "Count"}  # fmt: skip  # noqa: E501 - one assertion
    assert record["delivered"] == 3
    assert "duplicate" not in record
    assert abs(record["_aws"]["Timestamp"] - time.time() * 1000) < 60_000


def test_details_of_a_counter_are_fields_of_its_record_and_no_metrics(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count("demo", "connector", {"dropped_held_full": 3, "dropped_held_full:not_bound": 3})
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    (metrics,) = record["_aws"]["CloudWatchMetrics"]
    assert [entry["Name"] for entry in metrics["Metrics"]] == ["dropped_held_full"]
    assert record["dropped_held_full:not_bound"] == 3


def test_what_no_alarm_and_no_graph_needs_is_a_field_and_no_metric(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count("demo", "connector", {"delivered": 3, "echoes": 2})
    count("demo", "scaler", {"queues_created": 1})
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    (metrics,) = first["_aws"]["CloudWatchMetrics"]
    assert [entry["Name"] for entry in metrics["Metrics"]] == ["delivered"]
    assert first["echoes"] == 2
    assert (second["queues_created"], second["_aws"]["CloudWatchMetrics"]) == (1, [])


def test_nothing_counted_is_no_record(capsys: pytest.CaptureFixture[str]) -> None:
    count("demo", "connector", {})
    count("demo", "connector", {"delivered": 0})
    assert not capsys.readouterr().out


def test_two_records_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    count("demo", "connector", {"delivered": 1})
    count("demo", "router", {"routed": 2})
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert "routed" not in first
    assert "delivered" not in second


def test_log_lines_keep_to_log_level_whatever_lambda_itself_lets_through() -> None:
    lines = "from lambdas.shared.observability import logger; logger.info('quiet'); logger.error('loud')"
    shown = subprocess.run(
        [sys.executable, "-c", lines],
        env=os.environ
        | {"LOG_LEVEL": "ERROR", "AWS_LAMBDA_LOG_LEVEL": "INFO", "AWS_LAMBDA_LOG_FORMAT": "JSON"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["message"] for line in shown.stdout.splitlines()] == ["loud"]


def test_a_state_is_emitted_with_its_zeros_and_of_the_stack_alone(capsys: pytest.CaptureFixture[str]) -> None:
    gauge("demo", {"slots_unserved": 0, "oldest_message_seconds": 5})
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    (metrics,) = record["_aws"]["CloudWatchMetrics"]
    assert metrics["Dimensions"] == [["stack"]]
    assert {entry["Name"]: entry["Unit"] for entry in metrics["Metrics"]} == {
        "slots_unserved": "Count",
        "oldest_message_seconds": "Seconds",
    }
    assert record["slots_unserved"] == 0
