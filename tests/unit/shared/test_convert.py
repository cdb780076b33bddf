"""What a payload becomes for a shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.convert import convert_payload
from lambdas.shared.shape import Property

SHAPE = {
    "temp": Property("NUMBER", "temp"),
    "count": Property("INTEGER", "count"),
    "running": Property("BOOLEAN", "running"),
    "serial": Property("STRING", "serial"),
}


def test_known_fields_become_values_of_their_base_types() -> None:
    converted = convert_payload(b'{"temp": 10, "count": 3.0, "running": 1, "serial": 7}', SHAPE)
    assert converted.values == {"temp": 10.0, "count": 3, "running": True, "serial": "7"}
    assert type(converted.values["temp"]) is float
    assert (converted.refused, converted.nulls, converted.unmapped, converted.reason) == ([], 0, 0, "")


def test_one_refused_value_leaves_the_others_alone() -> None:
    converted = convert_payload(b'{"temp": "warm", "count": 3}', SHAPE)
    assert converted.values == {"count": 3}
    assert converted.reason == ""
    assert converted.refused == ['temp: NUMBER takes a finite number; got the text "warm"']


def test_nulls_and_unknown_fields_are_counted_and_left_out() -> None:
    converted = convert_payload(b'{"temp": 1, "count": null, "colour": "red", "size": null}', SHAPE)
    assert converted.values == {"temp": 1.0}
    assert (converted.nulls, converted.unmapped) == (1, 2)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_json"),
        (b"temp=1", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"temp": NaN}', "not_json"),
        (b'{"temp": 1e999}', "not_json"),
        (b'{"temp": ' + b"9" * 5000 + b"}", "not_json"),
        (b'{"temp": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json"),
        (b'{"temp": 1', "not_json"),
        (b"[1]", "not_an_object"),
        (b"1", "not_an_object"),
        (b'"temp"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "no_known_property"),
        (b'{"colour": "red"}', "no_known_property"),
        (b'{"temp": "warm", "count": null}', "all_values_refused"),
        (b'{"temp": [], "count": {}}', "all_values_refused"),
        (b'{"temp": null}', "only_nulls"),
    ],
)
def test_a_payload_without_values_has_a_reason(payload: bytes, reason: str) -> None:
    converted = convert_payload(payload, SHAPE)
    assert (converted.values, converted.reason) == ({}, reason)
    assert converted.detail


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    assert convert_payload(b'{"temp": 1, "temp": 2}', SHAPE).values == {"temp": 2.0}


def test_an_integer_beyond_64_bits_is_a_number_but_no_integer() -> None:
    huge = b"18446744073709551617"
    converted = convert_payload(b'{"temp": %s, "count": %s}' % (huge, huge), SHAPE)
    assert converted.values == {"temp": float(huge)}
    assert len(converted.refused) == 1


@given(st.binary())
def test_no_bytes_make_it_raise(payload: bytes) -> None:
    converted = convert_payload(payload, SHAPE)
    assert bool(converted.values) != bool(converted.reason)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["temp", "count", "running", "serial", "colour", "size"]), json_values)
)
def test_every_field_is_a_value_refused_null_or_unmapped(document: dict[str, Any]) -> None:
    converted = convert_payload(json.dumps(document).encode(), SHAPE)
    if converted.reason != "not_json":  # json.dumps writes NaN, which is no JSON
        accounted = len(converted.values) + len(converted.refused) + converted.nulls + converted.unmapped
        assert accounted == len(document)
    assert bool(converted.values) != bool(converted.reason)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"count": 1, "header": {"ts": 5}}, 5),
        ({"count": 1, "header": {"ts": "2026"}}, "2026"),
        ({"count": 1, "header": {}}, None),
        ({"count": 1, "header": 5}, None),
        ({"count": 1}, None),
    ],
)
def test_what_stands_at_the_path_of_the_time_is_told(document: dict[str, Any], found: Any) -> None:
    shape = {"count": Property("INTEGER", "count")}
    assert convert_payload(json.dumps(document).encode(), shape, ("header", "ts")).time == found
    assert convert_payload(json.dumps(document).encode(), shape).time is None
