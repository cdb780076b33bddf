"""What each base type accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.thingworx.basetypes import BASE_TYPES, convert, parse_datetime, parse_tags
from sandbox.thingworx.errors import ParameterError, ValueConversionError
from sandbox.thingworx.infotable import InfoTable, json_value
from sandbox.thingworx.query import apply_query, matches_mask

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(sorted(BASE_TYPES)), st.booleans())
def test_any_value_is_either_converted_or_refused(value: Any, base_type: str, is_strict: Any) -> None:
    try:
        native = convert(value, base_type, strict=is_strict)
    except ValueConversionError:
        return
    # What was converted once is a value of the type: converting it again changes nothing.
    again = convert(json_value(native), base_type) if base_type != "VARIANT" else native
    assert json_value(again) == json_value(native)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_and_their_text_are_the_same(number: float) -> None:
    assert convert(repr(number), "NUMBER") == convert(number, "NUMBER") == number


@pytest.mark.parametrize(
    ("value", "base_type"),
    [
        (True, "NUMBER"), ("hot", "NUMBER"), ("NaN", "NUMBER"), ("inf", "NUMBER"), ([1], "NUMBER"),
        (1.5, "INTEGER"), (2**31, "INTEGER"), (True, "INTEGER"), ("1.5", "INTEGER"),
        (float("inf"), "INTEGER"),
        (2**63, "LONG"), (1, "BOOLEAN"), ("yes", "BOOLEAN"), ({}, "STRING"), ([], "STRING"),
        ("soon", "DATETIME"), (True, "DATETIME"), ({"latitude": 91, "longitude": 0}, "LOCATION"),
        ({"latitude": 1}, "LOCATION"), ("1", "LOCATION"), (5, "JSON"), ("{", "JSON"), ([], "INFOTABLE"),
        ({"rows": 1}, "INFOTABLE"), ("x", "INFOTABLE"), ("no tag", "TAGS"), ("%%%", "BLOB"),
        ({"x": 1}, "VEC2"), (None, "STRING"), (1, "NO SUCH TYPE"),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(value: Any, base_type: str) -> None:
    with pytest.raises(ValueConversionError, match=base_type):
        convert(value, base_type)


@pytest.mark.parametrize(
    ("value", "base_type", "native"),
    [
        ("21.5", "NUMBER", 21.5), (3, "NUMBER", 3.0), ("7", "INTEGER", 7), (7.0, "INTEGER", 7),
        (-(2**31), "INTEGER", -(2**31)), (2**63 - 1, "LONG", 2**63 - 1), ("TRUE", "BOOLEAN", True),
        (5, "STRING", "5"), (True, "STRING", "true"), ("1700000000123", "DATETIME", 1700000000123),
        ('{"a": 1}', "JSON", {"a": 1}), ({"x": 1, "y": 2}, "VEC2", {"x": 1.0, "y": 2.0}),
        ("1.5,-2,3", "LOCATION", {"latitude": 1.5, "longitude": -2.0, "elevation": 3.0, "units": "WGS84"}),
    ],
)  # fmt: skip
def test_values_that_read_as_the_type_are_taken(value: Any, base_type: str, native: Any) -> None:
    assert convert(value, base_type) == native


@pytest.mark.parametrize(
    ("value", "base_type"), [("21.5", "NUMBER"), ("7", "INTEGER"), ("true", "BOOLEAN"), (5, "STRING")]
)
def test_a_strict_platform_takes_no_text_as_number_and_no_number_as_text(value: Any, base_type: str) -> None:
    with pytest.raises(ValueConversionError):
        convert(value, base_type, strict=True)


def test_an_infotable_without_a_shape_takes_its_columns_from_the_rows() -> None:
    table = convert(json.dumps({"rows": [{"a": 1}, {"b": 2}]}), "INFOTABLE")
    assert isinstance(table, InfoTable)
    assert [field.name for field in table.fields] == ["a", "b"]


def test_time_without_an_offset_is_utc() -> None:
    assert parse_datetime("1970-01-01T00:00:01") == parse_datetime("1970-01-01T01:00:01+01:00") == 1000


def test_tags_are_kept_once() -> None:
    assert parse_tags("A:b; A: b ;C:d") == ("A:b", "C:d")
    with pytest.raises(ParameterError):
        parse_tags([{"vocabulary": "A"}])


@given(st.text(st.characters(blacklist_characters="*%?"), min_size=1))
def test_a_mask_without_wildcards_matches_itself_only(text: str) -> None:
    assert matches_mask(text, text)
    assert not matches_mask(text, text + "x")
    assert matches_mask(text + "*", text + "x")
    assert matches_mask("%", text)


@given(st.lists(st.none() | st.integers()))
def test_sorting_keeps_all_rows_with_missing_values_first(numbers: list[int | None]) -> None:
    rows: list[dict[str, Any]] = [{"n": number} for number in numbers]
    found = apply_query(rows, {"sorts": [{"fieldName": "n", "isAscending": True}]})
    assert [row["n"] for row in found] == sorted(
        (r["n"] for r in rows), key=lambda n: (n is not None, n or 0)
    )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": "NE", "fieldName": "n", "value": 1}, [None, 2]),
        ({"type": "LT", "fieldName": "n", "value": 2}, [1]),
        ({"type": "LE", "fieldName": "n", "value": 2}, [1, 2]),
        ({"type": "NOTIN", "fieldName": "n", "values": [2]}, [1, None]),
        ({"type": "NOTLIKE", "fieldName": "n", "value": "1*"}, [None, 2]),
        ({"type": "MISSINGVALUE", "fieldName": "n"}, [None]),
        ({"type": "NOTMISSINGVALUE", "fieldName": "n"}, [1, 2]),
        ({"type": "GT", "fieldName": "n", "value": "text"}, []),
    ],
)
def test_filters_treat_missing_values_as_such(filters: dict[str, Any], expected: list[Any]) -> None:
    rows: list[dict[str, Any]] = [{"n": 1}, {"n": None}, {"n": 2}]
    assert sorted((row["n"] for row in apply_query(rows, {"filters": filters})), key=str) == sorted(
        expected, key=str
    )
