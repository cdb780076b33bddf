"""Alarms and dashboard: of metrics that exist, with words that lead somewhere, within their budget."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.monthly_bill import ALARMS, METRICS_OF_A_STACK
from lambdas.shared.observability import METRICS, NAMESPACE

ROOT = Path(__file__).parents[3]
ALARM_FILE = (ROOT / "terraform" / "alarms.tf").read_text()
DASHBOARD_FILE = (ROOT / "terraform" / "dashboard.tf").read_text()
HEADINGS = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
#: What a CloudWatch metric of AWS's own may be called here, and the page that documents it.
OF_AWS = {
    ("AWS/Kinesis", "GetRecords.Success"),  # streams/latest/dev/monitoring-with-cloudwatch
    ("AWS/Lambda", "DestinationDeliveryFailures"),  # lambda/latest/dg/monitoring-metrics-types
    ("AWS/Lambda", "Errors"),
    ("AWS/Lambda", "IteratorAge"),
    ("AWS/Lambda", "Throttles"),
    ("AWS/S3", "NumberOfObjects"),  # AmazonS3/latest/userguide/metrics-dimensions
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),  # AWSSimpleQueueService: available metrics
    ("AWS/States", "ExecutionsFailed"),  # step-functions/latest/dg/procedure-cw-metrics
    ("AWS/DynamoDB", "ReadThrottleEvents"),  # amazondynamodb: metrics-dimensions
    ("AWS/DynamoDB", "WriteThrottleEvents"),
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"),  # AmazonElastiCache/latest/dg/CacheMetrics.Redis
}


class Alarm(NamedTuple):
    """An alarm as alarms.tf has it."""

    key: str
    text: str

    def argument(self, name: str) -> str:
        """What a simple argument is set to."""
        found = re.search(rf"\b{name} += (\"[^\"]*\"|\S+)", self.text)
        assert found, (self.key, name)
        return found[1].strip('",')

    def metrics(self) -> list[tuple[str, str]]:
        """Where each of its metrics is from (`router`, ..., `stack`, or AWS's namespace), and its name."""
        return [
            (source(line), name)
            for line in self.text.splitlines()
            for name in re.findall(r'[{,] name = "([\w.]+)"', line)
        ]


def source(line: str) -> str:
    if found := re.search(r"local\.own_metric\.(\w+)", line):
        return found[1]
    if "local.stack_metric" in line:
        return "watch"
    if "local.function_metric" in line:
        return "AWS/Lambda"
    if "local.table_metric" in line:
        return "AWS/DynamoDB"
    found = re.search(r'namespace = "([^"]+)"', line)
    assert found, line
    return found[1]


def alarms() -> list[Alarm]:
    body = ALARM_FILE.split("alarms = merge({\n", 1)[1].split("\n  alarm_actions = ", 1)[0]
    parts = re.split(
        r'^    ([a-z-]+) = \{$|"(redis-memory)-\$\{node \+ 1\}" => \{$', body, flags=re.MULTILINE
    )
    return [Alarm(parts[at] or parts[at + 1], parts[at + 2]) for at in range(1, len(parts), 3)]


ALL = alarms()
EACH = pytest.mark.parametrize("alarm", ALL, ids=lambda alarm: alarm.key)


def emitted() -> set[str]:
    """Every word that the functions' code has as text or as an argument's name: counters are among them."""
    words: set[str] = set()
    for path in (ROOT / "lambdas").rglob("*.py"):
        if path.name == "observability.py":
            continue  # it names the metrics, and counts nothing
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                words.add(node.arg)
    return words | {f"held_{state}" for state in words & {"parked", "rejected"}}


def test_every_alarm_is_read() -> None:
    assert len(ALL) == ALARM_FILE.count("section = ") + ALARM_FILE.count("section    = ")
    assert {"router-late", "redis-memory"} <= {alarm.key for alarm in ALL}


@EACH
def test_an_alarm_looks_at_metrics_that_somebody_emits(alarm: Alarm) -> None:
    assert alarm.metrics()
    for where, name in alarm.metrics():
        assert name in METRICS.get(where, ()) or (where, name) in OF_AWS, (where, name)


@pytest.mark.parametrize("name", sorted(set().union(*METRICS.values())))
def test_every_metric_is_counted_somewhere_in_the_functions(name: str) -> None:
    plain = name.removeprefix("replayed_")
    assert plain in emitted()


def test_every_metric_is_in_an_alarm_or_a_graph() -> None:
    shown = {where_and_name for alarm in ALL for where_and_name in alarm.metrics()}
    shown |= set(re.findall(r'\["(router|connector|assigner)", "(\w+)"\]', DASHBOARD_FILE))
    lines = re.search(r"stack_lines = \{ for name in \[([^\]]+)\]", DASHBOARD_FILE)
    assert lines
    shown |= {("watch", name) for name in re.findall(r'"(\w+)"', lines[1])}
    own = {(where, name) for where, name in shown if where in METRICS}
    assert own == {(stage, name) for stage, names in METRICS.items() for name in names}


def test_the_functions_and_the_module_name_the_same_namespace() -> None:
    assert set(re.findall(r'"(ThingWorx\w+)"', ALARM_FILE + DASHBOARD_FILE)) == {NAMESPACE}


@EACH
def test_an_alarm_leads_to_its_section_of_the_operations_page(alarm: Alarm) -> None:
    slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in HEADINGS}
    assert alarm.argument("section") in slugs


@EACH
def test_the_section_names_the_alarm(alarm: Alarm) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    sections = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-"): text
        for heading, text in re.findall(r"^#+ (.+)\n((?:(?!^#).*\n)*)", page, re.MULTILINE)
    }
    assert f"`{alarm.key}" in sections[alarm.argument("section")]


def test_the_metrics_are_within_their_budget_and_on_the_bill() -> None:
    metrics = sum(map(len, METRICS.values()))
    assert metrics <= 20 + 3  # for a stack of one slot: the budget has 3 for each, and no slot uses them
    assert metrics == METRICS_OF_A_STACK


def test_the_bill_counts_each_metric_that_an_alarm_looks_at() -> None:
    assert sum(len(alarm.metrics()) for alarm in ALL) == ALARMS
