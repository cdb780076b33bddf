"""JSON forms to typed values and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from lambdas.thingworx.alwayson import (
    NOTHING,
    BaseType,
    InfoTable,
    Value,
    decode_value,
    encode_value,
    from_wire,
    to_wire,
)
from lambdas.thingworx.base_types import SUPPORTED, TEXT_TYPES, ValueRefused, convert
from tests.unit.thingworx import kept_values
from tests.unit.thingworx.alwayson import strategies

if TYPE_CHECKING:
    from tests.unit.thingworx.kept_values import Typed


def texts_as_string(base_type: str, kept: Any) -> Any:
    """What is left of a value whose variants held texts of other types than STRING."""
    if base_type == "VARIANT":
        inner = kept["baseType"]
        kind = "STRING" if inner in TEXT_TYPES - {"XML"} else inner
        return {"baseType": kind, "value": texts_as_string(inner, kept["value"])}
    if base_type != "INFOTABLE":
        return kept
    types = {name: entry["baseType"] for name, entry in kept["dataShape"]["fieldDefinitions"].items()}
    rows = [{name: texts_as_string(types[name], cell) for name, cell in row.items()} for row in kept["rows"]]
    return {**kept, "rows": rows}


@settings(deadline=None, max_examples=300)
@given(kept_values.any_typed)
def test_a_value_comes_back_from_the_wire_as_it_went(typed: Typed) -> None:
    base_type, kept = typed
    received = from_wire(decode_value(encode_value(to_wire(base_type, kept))))
    assert convert(base_type, received) == texts_as_string(base_type, kept)
    if base_type == "INFOTABLE":
        assert list(received["dataShape"]["fieldDefinitions"]) == list(kept["dataShape"]["fieldDefinitions"])


@settings(deadline=None, max_examples=200)
@given(strategies.values)
def test_whatever_the_platform_sends_has_a_json_form_or_is_refused(value: Value) -> None:
    try:
        kept = from_wire(value)
    except ValueRefused:
        return
    if kept is not None:
        assert (
            convert("VARIANT" if value.base_type is BaseType.VARIANT else value.base_type.name, kept) == kept
        )


def test_null_is_none() -> None:
    assert from_wire(NOTHING) is None


@pytest.mark.parametrize("base_type", sorted(SUPPORTED))
def test_texts_go_as_string_and_everything_else_as_what_it_is(base_type: str) -> None:
    kind = to_wire(base_type, SAMPLES.get(base_type, "x")).base_type
    assert kind.name == (base_type if base_type in {*SAMPLES, "XML"} else "STRING")


SAMPLES: dict[str, Any] = {
    "NUMBER": 1.0,
    "INTEGER": 1,
    "LONG": 1,
    "BOOLEAN": True,
    "DATETIME": 1,
    "TIMESPAN": {"start": 1, "end": 2, "period": ""},
    "LOCATION": {"latitude": 1.0, "longitude": 2.0, "elevation": 3.0},
    "JSON": {},
    "QUERY": {},
    "IMAGE": "aGk=",
    "BLOB": "aGk=",
    "TAGS": "A:b",
    "THINGCODE": "1:2",
    "VEC2": {"x": 1.0, "y": 2.0},
    "VEC3": {"x": 1.0, "y": 2.0, "z": 3.0},
    "VEC4": {"x": 1.0, "y": 2.0, "z": 3.0, "w": 4.0},
    "INFOTABLE": {"dataShape": {"fieldDefinitions": {}}, "rows": []},
    "VARIANT": {"baseType": "STRING", "value": "x"},
}


@pytest.mark.parametrize(
    "value",
    [
        Value(BaseType.NUMBER, math.nan),
        Value(BaseType.JSON, "{"),
        Value(BaseType.JSON, "5"),
        Value(BaseType.VARIANT, NOTHING),
        Value(BaseType.INFOTABLE, InfoTable.of({"x": Value(BaseType.NUMBER, math.inf)})),
    ],
)
def test_a_value_without_a_json_form_is_refused_with_the_reason(value: Value) -> None:
    with pytest.raises(ValueRefused, match=f"^{value.base_type.name} takes"):
        from_wire(value)


def test_a_cell_of_a_variant_column_keeps_its_type_with_and_without_its_wrapping() -> None:
    shape = InfoTable.build({"v": BaseType.VARIANT}).fields
    bare, wrapped = Value(BaseType.DATETIME, 5), Value(BaseType.VARIANT, Value(BaseType.DATETIME, 5))
    table = from_wire(Value(BaseType.INFOTABLE, InfoTable(shape, [(bare,), (wrapped,)])))
    assert table["rows"] == [{"v": {"baseType": "DATETIME", "value": 5}}] * 2


def test_a_variant_in_a_variant_is_one() -> None:
    inner = Value(BaseType.VARIANT, Value(BaseType.INTEGER, 5))
    assert from_wire(Value(BaseType.VARIANT, inner)) == {"baseType": "INTEGER", "value": 5}
