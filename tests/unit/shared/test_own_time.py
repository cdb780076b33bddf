"""The time that a device gives its readings: found, read, believed or not."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.own_time import OwnTime, OwnTimes, milliseconds

NOW = 1_767_268_800_123


@pytest.mark.parametrize(
    "value",
    [
        NOW,
        float(NOW),
        NOW + 0.9,
        str(NOW),
        NOW / 1000,
        f"{NOW / 1000}",
        "2026-01-01T12:00:00.123Z",
        "2026-01-01T12:00:00.123987",
        "2026-01-01 13:00:00.123+01:00",
        "20260101T120000.123Z",
    ],
)
def test_seconds_milliseconds_and_iso_8601_are_read(value: Any) -> None:
    assert milliseconds(value) == NOW


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, [], {}, "", "now", "true", "null", "12:00", "[1]", 0, -1, 5, "0", 86_400),
        *(math.nan, math.inf, -math.inf, 10**400, "1e999", NOW * 1000, "1999-12-31T23:59:59Z", 946_684_799),
        *("9999-12-31T23:59:59Z", 10**13),
    ],
)
def test_what_is_no_time_or_an_unset_clocks_is_not_believed(value: Any) -> None:
    assert milliseconds(value) is None


times = st.datetimes(datetime(2000, 1, 2), datetime(2286, 1, 1)).map(  # noqa: DTZ001 - gets UTC next
    lambda moment: moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
)


@given(times, st.integers(-14 * 60, 14 * 60))
def test_every_form_of_a_time_is_the_same_time(moment: datetime, offset: int) -> None:
    expected = round(moment.timestamp() * 1000)
    local = moment.astimezone(timezone(timedelta(minutes=offset)))
    forms: list[Any] = [expected, str(expected), expected / 1000, local.isoformat()]
    assert {milliseconds(form) for form in forms} == {expected}


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_any_value_is_a_time_of_this_age_or_none(value: Any) -> None:
    found = milliseconds(value)
    assert found is None or 946_684_800_000 <= found <= 9_999_999_999_999


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOW - 3_600_000, OwnTime(NOW - 3_600_000)),
        (NOW + 60_000, OwnTime(NOW + 60_000)),
        (NOW + 60_001, OwnTime(NOW, clamped=True)),
        (NOW + 3_600_000, OwnTime(NOW, clamped=True)),
        ("yesterday", OwnTime(NOW, unreadable=True)),
        (None, OwnTime(NOW, unreadable=True)),
    ],
)
def test_a_clock_behind_is_believed_and_one_too_far_ahead_is_not(value: Any, expected: OwnTime) -> None:
    assert OwnTimes({}, 60).time(value, NOW) == expected


@pytest.mark.parametrize(
    ("filter_", "topic", "matches"),
    [
        ("dt/a", "dt/a", True),
        ("dt/a", "dt/b", False),
        ("dt/+", "dt/a", True),
        ("dt/+", "dt/a/b", False),
        ("dt/+", "dt", False),
        ("dt/#", "dt/a/b", True),
        ("dt/#", "dt", True),
        ("dt/#", "other/a", False),
        ("#", "any/thing", True),
        ("+/+/data", "a/b/data", True),
        ("+/+/data", "a/b/c", False),
        ("dt/+/#", "dt/a", True),
        ("dt/+/#", "dt", False),
        ("/sample/topic", "/sample/topic", True),
        ("+", "", True),
    ],
)
def test_a_topics_path_is_that_of_the_filter_it_matches(filter_: str, topic: str, matches: bool) -> None:  # noqa: FBT001
    own_times = OwnTimes({filter_: "header.ts"}, 60)
    for _ in range(2):
        assert own_times.path(topic) == (("header", "ts") if matches else ())


def test_of_several_filters_the_first_that_matches_counts() -> None:
    own_times = OwnTimes({"dt/pump": "a", "dt/+": "b"}, 60)
    assert (own_times.path("dt/pump"), own_times.path("dt/fan")) == (("a",), ("b",))


def test_topics_beyond_any_number_are_still_matched() -> None:
    own_times = OwnTimes({"dt/#": "t"}, 60)
    for number in range(100_001):
        own_times.path(f"dt/{number}")
    assert own_times.path("dt/0") == ("t",)
