"""The time-outs' setting: every field can be given, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from lambdas.shared.errors import SettingError
from lambdas.thingworx.alwayson.timeouts import Timeouts, timeouts_from

NAMES = [entry.name for entry in fields(Timeouts)]


def test_every_time_out_can_be_set() -> None:
    seconds = {name: index + 0.5 for index, name in enumerate(NAMES)}
    assert asdict(timeouts_from(json.dumps(seconds))) == seconds


def test_what_is_not_given_keeps_its_default_or_the_one_of_the_older_setting() -> None:
    timeouts = timeouts_from('{"ping": 15, "connect": 2}', connect=5.0, request=7.0)
    assert timeouts == Timeouts(ping=15.0, connect=2.0, request=7.0)


@pytest.mark.parametrize("text", ["", "[]", "5", '{"ping"'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(
        SettingError, match=r"ALWAYSON_TIMEOUTS is '.*must be a JSON object of seconds above 0"
    ):
        timeouts_from(text)


@pytest.mark.parametrize("bad", ["0", "-1", "true", "null", '"1"', "NaN", "Infinity", "1e999"])
def test_what_is_no_number_of_seconds_above_0_is_named(bad: str) -> None:
    with pytest.raises(SettingError, match="ALWAYSON_TIMEOUTS has ping: "):
        timeouts_from(f'{{"pong": 1, "ping": {bad}}}')


def test_an_unknown_name_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingError, match=f"has pings: 1; .*{', '.join(NAMES)}$"):
        timeouts_from('{"ping": 1, "pings": 1}')


def test_the_reference_has_them_all() -> None:
    document = Path(__file__).parents[4] / "docs/reference/alwayson-session.md"
    rows = [line.split("|")[1] for line in document.read_text().splitlines() if line.startswith("| `")]
    assert set(NAMES) <= {name for row in rows for name in re.findall(r"`(\w+)`", row)}
