"""Settings from the environment: complete, typed, and faults told all at once."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared import settings as module
from lambdas.shared.errors import SettingError
from lambdas.shared.settings import (
    AssignerSettings,
    ConnectorSettings,
    FetcherSettings,
    RouterSettings,
    ScalerSettings,
    WatchSettings,
)

ALL = [AssignerSettings, ConnectorSettings, FetcherSettings, RouterSettings, ScalerSettings, WatchSettings]
ARN = "arn:aws:secretsmanager:us-east-1:1:secret:key"
REQUIRED = {
    "STACK": "demo",
    "CONTROL_TABLE": "control",
    "HELD_TABLE": "held",
    "STAGING_BUCKET": "staging",
    "REDIS_URL": "rediss://cache:6379/0",
    "THINGWORX_URL": "https://twx.example.com:8443/Thingworx/",
    "THINGWORX_APP_KEY_SECRET_ARN": ARN,
    "THING_TAG": "Plant:Line1",
    "PROPERTY_CATEGORY": "AWSConnectorBound",
    "QUEUE_NAME_PREFIX": "demo-slot-",
    "DISCOVERY_STATE_MACHINE_ARN": "arn:aws:states:us-east-1:1:stateMachine:demo-discovery",
    "CONNECTOR_STATE_MACHINE_ARN": "arn:aws:states:us-east-1:1:stateMachine:demo-connector",
    "INGEST_ERRORS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/demo-ingest-errors",
    "FAILURES_BUCKET": "demo-failures",
}
DOCUMENT = Path(__file__).parents[3] / "docs/reference/data-formats.md"


@pytest.mark.parametrize("kind", ALL)
def test_what_has_a_default_may_be_left_out(kind: Any) -> None:
    assert kind.from_env(REQUIRED).stack == "demo"
    assert kind.from_env(REQUIRED | {"LOG_LEVEL": ""}).log_level == "ERROR"


@pytest.mark.parametrize("kind", ALL)
def test_each_setting_and_no_other_is_in_the_reference(kind: Any) -> None:
    function = kind.__name__.removesuffix("Settings").lower()
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if re.match(r"\| `[A-Z]", line)]
    documented = {
        name
        for row in rows
        if {function, "all"} & set(re.findall(r"[a-z]+", row[2]))
        for name in re.findall(r"`([A-Z][A-Z_]+)`", row[1])
    }
    assert documented == {entry.name.upper() for entry in fields(kind)}


def test_values_have_their_types() -> None:
    settings = ConnectorSettings.from_env(REQUIRED | {"BEAT_SECONDS": "0.5", "DELIVERY_CONCURRENCY": "4"})
    assert settings.beat_seconds == 0.5
    assert settings.delivery_concurrency == 4
    assert settings.lease_seconds == 30.0
    assert settings.thingworx_url == "https://twx.example.com:8443/Thingworx"
    assert RouterSettings.from_env(REQUIRED).redis_auth_secret_arn is None


def test_paths_of_times_come_by_topic_filter() -> None:
    paths = '{"dt/+": "header.ts", "#": "t"}'
    settings = RouterSettings.from_env(REQUIRED | {"TELEMETRY_TIME_PATHS": paths})
    assert settings.telemetry_time_paths == (("dt/+", "header.ts"), ("#", "t"))
    assert RouterSettings.from_env(REQUIRED).telemetry_time_paths == ()


def test_all_faults_are_told_at_once_with_the_form_they_must_have() -> None:
    with pytest.raises(SettingError) as caught:
        ConnectorSettings.from_env({"STACK": "demo", "BEAT_SECONDS": "soon", "HELD_DAYS": "0"})
    text = str(caught.value)
    assert "CONTROL_TABLE is not set; it must be a DynamoDB table name" in text
    assert "BEAT_SECONDS is 'soon'; it must be seconds above 0" in text
    assert "HELD_DAYS is '0'" in text


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (FetcherSettings, "THINGWORX_URL", "http://twx.example.com/Thingworx"),
        (FetcherSettings, "THINGWORX_URL", "https://twx.example.com/Thingworx?appKey=1"),
        (FetcherSettings, "THINGWORX_URL", "https://someone:pass@twx.example.com/Thingworx"),
        (FetcherSettings, "THINGWORX_URL", "twx.example.com"),
        (FetcherSettings, "THINGWORX_APP_KEY_SECRET_ARN", "the-key-itself"),
        (FetcherSettings, "THING_TAG", "Plant"),
        (FetcherSettings, "THING_TAG", "Plant:Line1;Plant:Line2"),
        (FetcherSettings, "FETCH_CONCURRENCY", "1.5"),
        (FetcherSettings, "LOG_LEVEL", "LOUD"),
        (RouterSettings, "REDIS_URL", "rediss://:password@cache:6379/0"),
        (RouterSettings, "REDIS_URL", "cache:6379"),
        (RouterSettings, "UNREGISTERED", "keep"),
        (RouterSettings, "REGISTRY_CACHE_SECONDS", "61"),
        (RouterSettings, "TELEMETRY_TIME_PATHS", "ts"),
        (RouterSettings, "TELEMETRY_TIME_PATHS", "[]"),
        (RouterSettings, "TELEMETRY_TIME_PATHS", '{"a/b": 5}'),
        (RouterSettings, "TELEMETRY_TIME_PATHS", '{"a/b": "a..b"}'),
        (RouterSettings, "MAX_CLOCK_AHEAD_SECONDS", "-1"),
        (ConnectorSettings, "LEASE_SECONDS", "0"),
        (ConnectorSettings, "LEASE_SECONDS", "nan"),
        (ConnectorSettings, "LEASE_SECONDS", "inf"),
        (ConnectorSettings, "VISIBILITY_SECONDS", "43201"),
        (AssignerSettings, "LANES_PER_SLOT", "0"),
        (ScalerSettings, "CONNECTOR_STATE_MACHINE_ARN", "demo-connector"),
        (ScalerSettings, "STACK", "  "),
    ],
)
def test_values_of_the_wrong_form_are_refused(kind: Any, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        kind.from_env(REQUIRED | {name: value})


@given(name=st.sampled_from([entry.name.upper() for entry in fields(ConnectorSettings)]), value=st.text())
def test_no_text_whatever_gives_anything_but_settings_or_a_setting_error(name: str, value: str) -> None:
    with contextlib.suppress(SettingError):
        assert ConnectorSettings.from_env(REQUIRED | {name: value}).stack


def test_the_module_says_what_it_offers() -> None:
    assert set(module.__all__) == {kind.__name__ for kind in ALL}
