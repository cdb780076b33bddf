"""Counters become one metric record with the stack and the stage as its only dimensions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lambdas.shared.observability import NAMESPACE, count

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
    assert record["delivered"] == [3.0]
    assert "duplicate" not in record


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
