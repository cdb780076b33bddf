"""What each base type takes, what it makes of it, and how it says no."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.thingworx.base_types import SUPPORTED, ValueRefused, convert

TAKEN: list[tuple[str, Any, Any]] = [
    ("NUMBER", 10, 10.0),
    ("NUMBER", -0.5, -0.5),
    ("NUMBER", "10", 10.0),
    ("NUMBER", "-1.5e3", -1500.0),
    ("NUMBER", 2**64, 2.0**64),
    ("INTEGER", 10, 10),
    ("INTEGER", 10.0, 10),
    ("INTEGER", "10", 10),
    ("INTEGER", "1e3", 1000),
    ("INTEGER", 2**31 - 1, 2**31 - 1),
    ("INTEGER", -(2**31), -(2**31)),
    ("BOOLEAN", True, True),
    ("BOOLEAN", False, False),
    ("BOOLEAN", 1, True),
    ("BOOLEAN", 0, False),
    ("BOOLEAN", 1.0, True),
    ("BOOLEAN", "TRUE", True),
    ("BOOLEAN", "false", False),
    ("STRING", "", ""),
    ("STRING", "null", "null"),
    ("STRING", 10, "10"),
    ("STRING", 10.5, "10.5"),
    ("STRING", True, "true"),
    ("STRING", False, "false"),
]

REFUSED: list[tuple[str, Any]] = [
    ("NUMBER", True),
    ("NUMBER", "warm"),
    ("NUMBER", ""),
    ("NUMBER", "true"),
    ("NUMBER", "+5"),
    ("NUMBER", "1,5"),
    ("NUMBER", "0x10"),
    ("NUMBER", "NaN"),
    ("NUMBER", "1e999"),
    ("NUMBER", math.nan),
    ("NUMBER", math.inf),
    ("NUMBER", 10**400),
    ("INTEGER", 10.5),
    ("INTEGER", "10.5"),
    ("INTEGER", 2**31),
    ("INTEGER", -(2**31) - 1),
    ("INTEGER", 1e300),
    ("INTEGER", math.nan),
    ("INTEGER", math.inf),
    ("INTEGER", True),
    ("BOOLEAN", 2),
    ("BOOLEAN", 0.5),
    ("BOOLEAN", "on"),
    ("BOOLEAN", "1"),
    ("STRING", math.nan),
    ("STRING", 10**400),
]


@pytest.mark.parametrize(("base_type", "value", "converted"), TAKEN)
def test_a_value_is_taken_when_nothing_is_lost(base_type: str, value: Any, converted: Any) -> None:
    result = convert(base_type, value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(("base_type", "value"), REFUSED)
def test_a_value_is_refused_rather_than_guessed(base_type: str, value: Any) -> None:
    with pytest.raises(ValueRefused) as refused:
        convert(base_type, value)
    assert refused.value.reason.startswith(f"{base_type} takes ")


@pytest.mark.parametrize("base_type", sorted(SUPPORTED))
@pytest.mark.parametrize("value", [None, {}, {"a": 1}, [], [1]])
def test_no_type_takes_null_an_object_or_an_array(base_type: str, value: Any) -> None:
    with pytest.raises(ValueRefused):
        convert(base_type, value)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("warm", 'got the text "warm"'),
        ("x" * 500, "..."),
        (None, "got null"),
        (True, "got true"),
        ({}, "got an object"),
        ([], "got an array"),
        (10**400, "got a number of 1329 bits"),
    ],
)
def test_the_refusal_names_the_expected_type_and_what_came(value: Any, named: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        convert("NUMBER", value)
    assert "NUMBER takes a finite number" in refused.value.reason
    assert named in refused.value.reason
    assert len(refused.value.reason) < 150


def test_a_type_without_a_row_is_refused_by_name() -> None:
    with pytest.raises(ValueRefused, match="INFOTABLE is not supported"):
        convert("INFOTABLE", {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(SUPPORTED)), json_values)
def test_any_json_value_is_converted_or_refused_and_a_second_conversion_changes_nothing(
    base_type: str, value: Any
) -> None:
    try:
        once = convert(base_type, value)
    except ValueRefused:
        return
    assert convert(base_type, once) == once
    assert orjson.loads(orjson.dumps(once)) == once


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_platform_integer_survives_as_number_as_text_and_as_float(value: int) -> None:
    assert convert("INTEGER", value) == value
    assert convert("INTEGER", float(value)) == value
    assert convert("INTEGER", str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_a_trip_through_text(value: float) -> None:
    assert convert("NUMBER", convert("STRING", value)) == value
