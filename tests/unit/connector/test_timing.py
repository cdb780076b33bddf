"""When to hand over and how long things may take, for long and short lives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector.timing import plan
from lambdas.shared.settings import ConnectorSettings

REQUIRED = {
    "STACK": "demo",
    "CONTROL_TABLE": "control",
    "HELD_TABLE": "held",
    "THINGWORX_URL": "https://localhost/Thingworx",
    "THINGWORX_APP_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:key",
}


def with_settings(**values: Any) -> ConnectorSettings:
    return ConnectorSettings.from_env(REQUIRED | {name.upper(): str(value) for name, value in values.items()})


def test_a_lambda_of_fifteen_minutes_hands_over_three_minutes_before_its_end() -> None:
    timing = plan(with_settings(handover_jitter_seconds=0), 900, now=1000.0)
    assert timing.handover_at == 1720
    assert timing.end_at == 1870
    assert (timing.poll, timing.settle, timing.grace, timing.tick) == (10, 8, 5, 0.5)


@given(
    seconds_left=st.floats(1, 900),
    margin=st.floats(0.1, 600),
    jitter=st.integers(0, 600),
    lease=st.floats(0.1, 300),
)
def test_whatever_the_settings_the_steps_come_in_order_and_fit(
    seconds_left: float, margin: float, jitter: int, lease: float
) -> None:
    settings = with_settings(
        handover_before_end_seconds=margin, handover_jitter_seconds=jitter, lease_seconds=lease
    )
    timing = plan(settings, seconds_left, now=0.0)
    assert seconds_left / 4 <= timing.handover_at <= timing.end_at < seconds_left
    assert timing.end_at + timing.settle + timing.grace < seconds_left
    assert timing.poll >= 1


@pytest.mark.parametrize("lifetime", [60, 120, 900])
def test_receiving_settling_and_late_calls_fit_between_the_last_stop_and_the_end(lifetime: int) -> None:
    timing = plan(with_settings(), lifetime, now=0.0)
    assert timing.end_at + timing.poll + timing.settle + timing.grace < lifetime
