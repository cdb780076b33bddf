"""What each base type takes, what it makes of it, and how it says no."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.parcel import Reading, decode, encode
from lambdas.shared.shape import Property
from lambdas.thingworx.alwayson import BaseType
from lambdas.thingworx.base_types import SUPPORTED, UNSUPPORTED, ValueRefused, convert
from lambdas.thingworx.base_types.structured import MAX_LEVELS
from lambdas.thingworx.base_types.tables import MAX_NESTED

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
    ("LONG", 2**63 - 1, 2**63 - 1),
    ("LONG", "-9223372036854775808", -(2**63)),
    ("LONG", 1e15, 10**15),
    ("THINGNAME", "pump-1", "pump-1"),
    ("HTML", 5, "5"),
    ("DATETIME", 1_700_000_000_123, 1_700_000_000_123),
    ("DATETIME", 1_700_000_000_123.9, 1_700_000_000_123),
    ("DATETIME", "1700000000123", 1_700_000_000_123),
    ("DATETIME", "2023-11-14T22:13:20.123Z", 1_700_000_000_123),
    ("DATETIME", "2023-11-14T22:13:20.123987", 1_700_000_000_123),
    ("DATETIME", "2023-11-15T00:13:20.123+02:00", 1_700_000_000_123),
    ("DATETIME", "1969-12-31T23:59:59.9995Z", -1),
    ("TIMESPAN", {"start": "1970-01-01", "end": 5}, {"start": 0, "end": 5, "period": ""}),
    (
        "LOCATION",
        {"latitude": 52, "longitude": "5.1"},
        {"latitude": 52.0, "longitude": 5.1, "elevation": 0.0},
    ),
    (
        "LOCATION",
        '{"latitude": -90, "longitude": 180, "elevation": -3.5, "units": "WGS84"}',
        {"latitude": -90.0, "longitude": 180.0, "elevation": -3.5},
    ),
    ("VEC2", {"y": 2, "x": 1}, {"x": 1.0, "y": 2.0}),
    ("VEC4", {"x": 1, "y": 2, "z": 3, "w": 4}, {"x": 1.0, "y": 2.0, "z": 3.0, "w": 4.0}),
    ("JSON", {"a": [1, None]}, {"a": [1, None]}),
    ("JSON", "[1]", [1]),
    ("QUERY", '{"filters": {}}', {"filters": {}}),
    ("IMAGE", "aGk=", "aGk="),
    ("BLOB", "", ""),
    ("TAGS", "A:b; A:b ;C:d;", "A:b;C:d"),
    ("TAGS", [{"vocabulary": "A", "vocabularyTerm": "b"}, "C:d"], "A:b;C:d"),
    ("TAGS", [], ""),
    ("THINGCODE", "5:77", "5:77"),
    ("VARIANT", 5, {"baseType": "NUMBER", "value": 5.0}),
    ("VARIANT", 2**53, {"baseType": "NUMBER", "value": 2.0**53}),
    ("VARIANT", 2**53 + 1, {"baseType": "LONG", "value": 2**53 + 1}),
    ("VARIANT", -(2**60), {"baseType": "LONG", "value": -(2**60)}),
    ("VARIANT", True, {"baseType": "BOOLEAN", "value": True}),
    ("VARIANT", "on", {"baseType": "STRING", "value": "on"}),
    ("VARIANT", [1], {"baseType": "JSON", "value": [1]}),
    ("VARIANT", {"baseType": "INTEGER", "value": "7"}, {"baseType": "INTEGER", "value": 7}),
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
    ("STRING", {"a": 1}),
    ("NUMBER", [1]),
    ("LONG", 2**63),
    ("LONG", "1.5"),
    ("DATETIME", "yesterday"),
    ("DATETIME", True),
    ("DATETIME", 8.65e15),
    ("DATETIME", math.nan),
    ("TIMESPAN", {"start": 1}),
    ("TIMESPAN", {"start": 1, "end": 2, "period": 3}),
    ("TIMESPAN", {"start": 1, "end": 2, "perod": ""}),
    ("LOCATION", {"latitude": 52}),
    ("LOCATION", {"latitude": 91, "longitude": 0}),
    ("LOCATION", {"latitude": 1, "longitude": 180.5}),
    ("LOCATION", {"latitude": 1, "longitude": 2, "altitude": 3}),
    ("LOCATION", {"latitude": 1, "longitude": 2, "units": "NAD27"}),
    ("LOCATION", "52,5"),
    ("LOCATION", [52, 5]),
    ("VEC3", {"x": 1, "y": 2}),
    ("VEC2", {"x": 1, "y": 2, "z": 3}),
    ("VEC2", [1, 2]),
    ("JSON", "warm"),
    ("JSON", "5"),
    ("JSON", 5),
    ("JSON", [math.nan]),
    ("JSON", [2**64]),
    ("QUERY", []),
    ("IMAGE", "aGk"),
    ("IMAGE", "aG k="),
    ("BLOB", "aGk=\n"),
    ("BLOB", "ä"),
    ("BLOB", [1]),
    ("TAGS", "no tag"),
    ("TAGS", ["A:b;C:d"]),
    ("TAGS", 5),
    ("THINGCODE", "5"),
    ("THINGCODE", "2147483648:1"),
    ("THINGCODE", 5),
    ("VARIANT", {"baseType": "INTEGER", "value": 7.5}),
    ("VARIANT", {"baseType": "VARIANT", "value": 7}),
    ("VARIANT", {"baseType": "TEMPERATURE", "value": 7}),
    ("VARIANT", {"baseType": "STRING", "value": None}),
    ("INFOTABLE", []),
    ("INFOTABLE", {"rows": []}),
    ("INFOTABLE", "x"),
    ("INFOTABLE", {"dataShape": {"fieldDefinitions": {"a": {}}}, "rows": []}),
    ("INFOTABLE", {"dataShape": {"fieldDefinitions": {"a": 1}}, "rows": []}),
    ("INFOTABLE", {"dataShape": {"fieldDefinitions": []}, "rows": []}),
    ("INFOTABLE", {"dataShape": {"fieldDefinitions": {}}, "rows": [1]}),
    ("INFOTABLE", {"dataShape": {"fieldDefinitions": {}}, "rows": [{"a": 1}]}),
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
def test_no_type_takes_null(base_type: str) -> None:
    with pytest.raises(ValueRefused, match=f"^{base_type} takes .*; got null$"):
        convert(base_type, None)


@pytest.mark.parametrize("base_type", sorted(SUPPORTED - {"JSON", "QUERY", "VARIANT"}))
@pytest.mark.parametrize("value", [{}, {"a": 1}, [1]])
def test_only_json_query_and_variant_take_objects_and_arrays_of_any_kind(base_type: str, value: Any) -> None:
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
        ({"lat": 1, "lon": 2}, "got an object with lat, lon"),
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
    with pytest.raises(ValueRefused, match="NOTHING is not supported"):
        convert("NOTHING", {})


def test_every_base_type_of_the_platform_is_supported_or_has_a_reason_why_not() -> None:
    assert {base_type.name for base_type in BaseType} == SUPPORTED | UNSUPPORTED.keys()
    assert not SUPPORTED & UNSUPPORTED.keys()


TABLE = {
    "dataShape": {
        "fieldDefinitions": {
            "at": {"baseType": "DATETIME", "ordinal": 2},
            "level": {"baseType": "NUMBER", "ordinal": 1, "description": "Level", "aspects": {"units": "m"}},
        }
    },
    "rows": [{"level": "1.5", "at": "1970-01-01T00:00:01Z"}, {"level": None}],
}
KEPT_TABLE = {
    "dataShape": {
        "fieldDefinitions": {
            "level": {
                "name": "level",
                "description": "Level",
                "baseType": "NUMBER",
                "ordinal": 0,
                "aspects": {"units": "m"},
            },
            "at": {"name": "at", "description": "", "baseType": "DATETIME", "ordinal": 1, "aspects": {}},
        }
    },
    "rows": [{"level": 1.5, "at": 1000}, {}],
}


@pytest.mark.parametrize("value", [TABLE, orjson.dumps(TABLE).decode()])
def test_each_cell_of_a_table_is_converted_to_its_columns_type(value: Any) -> None:
    table = convert("INFOTABLE", value)
    assert table == KEPT_TABLE
    assert list(table["dataShape"]["fieldDefinitions"]) == ["level", "at"]


def test_a_refused_cell_is_named_with_its_row() -> None:
    with pytest.raises(ValueRefused, match=r"got in row 1, level: NUMBER takes .* got the text \"high\""):
        convert("INFOTABLE", {**TABLE, "rows": [{}, {"level": "high"}]})


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {
            "dataShape": {"fieldDefinitions": {"t": {"baseType": "INFOTABLE"}}},
            "rows": [] if value == 1 else [{"t": value}],
        }
    return value


@pytest.mark.parametrize(
    ("base_type", "value"),
    [
        ("JSON", orjson.loads("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1))),
        ("JSON", orjson.loads("[" * 900 + "]" * 900)),
        ("INFOTABLE", nested(9)),
        ("INFOTABLE", nested(250)),
        ("VARIANT", {"baseType": "INFOTABLE", "value": nested(8)}),
    ],
)
def test_values_nested_beyond_reason_are_refused(base_type: str, value: Any) -> None:
    with pytest.raises(ValueRefused):
        convert(base_type, value)


def test_values_nested_as_deep_as_allowed_fit_into_a_parcel() -> None:
    deep = {
        "dataShape": {"fieldDefinitions": {"j": {"baseType": "JSON"}}},
        "rows": [{"j": orjson.loads("[" * MAX_LEVELS + "]" * MAX_LEVELS)}],
    }
    for _ in range(MAX_NESTED - 1):
        deep = {"dataShape": {"fieldDefinitions": {"t": {"baseType": "INFOTABLE"}}}, "rows": [{"t": deep}]}
    kept = convert("INFOTABLE", deep)
    reading = Reading("pump", 1, "0:1:0", "s", {"p": kept})
    body = encode([reading], {"s": {"p": Property("INFOTABLE", "p")}})
    assert decode(body).readings == [reading]


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
