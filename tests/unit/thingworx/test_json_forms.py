"""One JSON form a base type, the same both ways: over AlwaysOn, over REST and through a shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings

from lambdas.shared.parcel import Reading, decode, encode
from lambdas.shared.shape import Property
from lambdas.thingworx.base_types import SUPPORTED, convert
from lambdas.thingworx.json_forms import for_rest, for_shadow
from tests.unit.thingworx import kept_values

if TYPE_CHECKING:
    from tests.unit.thingworx.kept_values import Typed

KEYS_OF_OBJECTS = {
    "LOCATION": {"latitude", "longitude", "elevation"},
    "TIMESPAN": {"start", "end", "period"},
    "VEC2": {"x", "y"},
    "VEC3": {"x", "y", "z"},
    "VEC4": {"x", "y", "z", "w"},
    "VARIANT": {"baseType", "value"},
}


@settings(deadline=None, max_examples=200)
@given(kept_values.any_typed)
def test_a_kept_value_is_taken_again_as_it_is(typed: Typed) -> None:
    base_type, kept = typed
    assert convert(base_type, kept) == kept


@settings(deadline=None)
@given(kept_values.any_typed)
def test_a_kept_value_travels_in_a_parcel(typed: Typed) -> None:
    base_type, kept = typed
    reading = Reading("pump", 1, "0:1:0", "s", {"p": kept})
    (received,) = decode(encode([reading], {"s": {"p": Property(base_type, "p")}})).readings
    assert convert(base_type, received.values["p"]) == kept


@settings(deadline=None, max_examples=200)
@given(kept_values.any_typed)
def test_what_a_rest_call_carries_is_the_same_value_again(typed: Typed) -> None:
    base_type, kept = typed
    sent = orjson.loads(orjson.dumps(for_rest(base_type, kept)))
    assert convert(sent["baseType"], sent["value"]) == (kept["value"] if base_type == "VARIANT" else kept)
    if base_type == "VARIANT":
        assert convert("VARIANT", sent) == kept


@settings(deadline=None, max_examples=200)
@given(kept_values.any_typed)
def test_what_a_shadow_holds_is_the_same_value_again(typed: Typed) -> None:
    base_type, kept = typed
    held = orjson.loads(orjson.dumps(for_shadow(base_type, kept)))
    assert convert(base_type, held) == kept


@settings(deadline=None, max_examples=200)
@given(kept_values.any_typed)
def test_a_shadow_has_nothing_to_merge_or_to_delete(typed: Typed) -> None:
    base_type, kept = typed
    held = for_shadow(base_type, kept)
    assert held is not None
    if isinstance(held, dict):
        assert held.keys() == KEYS_OF_OBJECTS[base_type]
        assert not any(isinstance(value, (dict, list)) or value is None for value in held.values())
    else:
        assert not isinstance(held, list)


@pytest.mark.parametrize(
    ("base_type", "kept", "held"),
    [
        ("NUMBER", 21.5, 21.5),
        ("DATETIME", 5, 5),
        ("JSON", {"a": None}, '{"a":null}'),
        ("VARIANT", {"baseType": "NUMBER", "value": 1.5}, 1.5),
        ("VARIANT", {"baseType": "JSON", "value": [1]}, {"baseType": "JSON", "value": "[1]"}),
        ("VARIANT", {"baseType": "DATETIME", "value": 5}, {"baseType": "DATETIME", "value": 5}),
        ("VARIANT", {"baseType": "LONG", "value": 5}, {"baseType": "LONG", "value": 5}),
        ("VARIANT", {"baseType": "BOOLEAN", "value": True}, True),
    ],
)
def test_shadow_form(base_type: str, kept: Any, held: Any) -> None:
    assert for_shadow(base_type, kept) == held


def test_a_location_goes_to_rest_as_the_platform_writes_it() -> None:
    kept = {"latitude": 1.0, "longitude": 2.0, "elevation": 3.0}
    sent = {"value": {**kept, "units": "WGS84"}, "baseType": "LOCATION"}
    assert for_rest("LOCATION", kept) == sent
    assert for_rest("VARIANT", {"baseType": "LOCATION", "value": kept}) == sent


def test_the_strategies_reach_every_supported_type() -> None:
    assert kept_values.SIMPLE.keys() | {"INFOTABLE", "VARIANT"} == SUPPORTED
