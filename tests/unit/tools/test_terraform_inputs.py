"""docs/configuration.md says what the module takes, and what became of the replaced template's parameters."""

from __future__ import annotations

import re

import pytest

from lambdas.shared.settings import (
    AssignerSettings,
    ConnectorSettings,
    FetcherSettings,
    RouterSettings,
    WatchSettings,
)
from tools.terraform_inputs import DOCUMENT, defaults, updated

#: Every parameter of the replaced CloudFormation template.
REPLACED = {
    "Cidr",
    "Environment",
    "FargateCPU",
    "FargateRAM",
    "KinesisShardCount",
    "LogLevel",
    "MeasurementTopicName",
    "MessageRouterLambdaBatchSize",
    "MessageRouterLambdaMemory",
    "MessageRouterLambdaTimeout",
    "MessageRouterLambdaZipFile",
    "NumberOfThingsPerInstance",
    "RedisNodeType",
    "S3Bucket",
    "S3Folder",
    "ThingworxApiKey",
    "ThingworxDataFetcherLambdaMemory",
    "ThingworxDataFetcherLambdaTimeout",
    "ThingworxDataFetcherLambdaZipFile",
    "ThingworxServerUrl",
}


def replaced_rows() -> list[list[str]]:
    section = DOCUMENT.read_text().split("## From the replaced template", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_tables_are_those_of_the_module() -> None:
    document = DOCUMENT.read_text()
    assert document == updated(document), "run python -m tools.terraform_inputs --write"


def test_every_parameter_of_the_replaced_template_has_its_row() -> None:
    named = {name for row in replaced_rows() for name in re.findall(r"`(\w+)`", row[0])}
    assert named >= REPLACED


@pytest.mark.parametrize("row", [row for row in replaced_rows() if row[1] != "none"], ids=lambda row: row[1])
def test_each_row_names_an_input_with_its_default(row: list[str]) -> None:
    name = row[1].strip("`")
    shown = re.match(r"`(.+?)`|(required)", row[2])
    assert shown, row
    default = defaults()[name]
    assert (default or "required").strip('"') == (shown[1] or shown[2])


def test_two_inputs_are_required() -> None:
    required = [name for name, default in defaults().items() if default is None]
    assert required == ["thingworx_url", "thingworx_app_key_secret_arn"]


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("things_per_slot", AssignerSettings.things_per_slot),
        ("lanes_per_slot", AssignerSettings.lanes_per_slot),
        ("fetch_concurrency", FetcherSettings.fetch_concurrency),
        ("unregistered", RouterSettings.unregistered),
        ("registry_cache_seconds", RouterSettings.registry_cache_seconds),
        ("max_clock_ahead_seconds", RouterSettings.max_clock_ahead_seconds),
        ("max_writes_per_second", ConnectorSettings.max_writes_per_second),
        ("delivery_concurrency", ConnectorSettings.delivery_concurrency),
        ("log_level", ConnectorSettings.log_level),
        ("delivery", ConnectorSettings.delivery),
        ("honour_push_type", ConnectorSettings.honour_push_type),
    ],
)
def test_the_module_and_the_functions_have_the_same_defaults(variable: str, setting: object) -> None:
    assert (defaults()[variable] or "").strip('"') == str(setting)


@pytest.mark.parametrize(
    "field", ["beat_seconds", "lease_seconds", "visibility_seconds", "thing_retry_seconds", "stall_seconds"]
)
def test_connector_timings_are_the_connectors_own_defaults(field: str) -> None:
    found = re.search(rf"{field} = (\d+)", defaults()["connector_timings"] or "")
    assert found
    assert float(found[1]) == getattr(ConnectorSettings, field)


@pytest.mark.parametrize(
    "field",
    ["retire_after_seconds", "retire_drain_seconds", "retire_pause_seconds", "restart_after_seconds"],
)
def test_watch_timings_are_the_watch_functions_own_defaults(field: str) -> None:
    found = re.search(rf"{field} = (\d+)", defaults()["watch_timings"] or "")
    assert found
    assert int(found[1]) == getattr(WatchSettings, field)
