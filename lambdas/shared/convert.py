"""From a payload to a reading's values: parse, keep what the Thing's shape knows, convert each value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.thingworx.base_types import ValueRefused, convert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambdas.shared.shape import Shape

__all__ = ["Converted", "convert_payload", "time_in"]


class Converted(NamedTuple):
    """What a payload holds for a shape.

    Attributes:
        values: property name -> converted value; empty only if `reason` isn't.
        refused: one sentence a refused value: property, expected type, what came.
        nulls: how many properties came as null, which is no value.
        unmapped: how many fields are no property of the shape.
        reason: why there are no values: `not_json`, `not_an_object`, `no_known_property`,
            `all_values_refused` or `only_nulls`; empty when there are some.
        detail: a sentence for a person about `reason`.
        time: what stands in the payload at the path of its time; None when nothing does.
    """

    values: dict[str, Any]
    refused: list[str]
    nulls: int
    unmapped: int
    reason: str
    detail: str
    time: Any = None


def convert_payload(payload: bytes, shape: Shape, time_path: Sequence[str] = ()) -> Converted:
    """Values of `payload`, a JSON object with a field a property; other fields are left out.

    One refused value leaves the others alone. Of a field that comes twice the last counts. JSON as
    RFC 8259 has it: `NaN`, numbers beyond a double, more than 1,024 levels and bytes that aren't UTF-8
    make it no JSON.

    Args:
        payload: as published.
        shape: of the Thing.
        time_path: keys that lead to the time in the payload; empty when it has none.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return Converted({}, [], 0, 0, "not_json", f"the payload is not JSON: {error}")
    if type(document) is not dict:
        return Converted({}, [], 0, 0, "not_an_object", "the payload is JSON but not an object")
    values: dict[str, Any] = {}
    refused: list[str] = []
    nulls = unmapped = 0
    for name, value in document.items():
        known = shape.get(name)
        if known is None:
            unmapped += 1
        elif value is None:
            nulls += 1
        else:
            try:
                values[name] = convert(known.base_type, value)
            except ValueRefused as refusal:
                refused.append(f"{name}: {refusal.reason}")
    reason, detail = ("", "") if values else _why_nothing(document, refused, nulls)
    time = _at(document, time_path) if time_path else None
    return Converted(values, refused, nulls, unmapped, reason, detail, time)


def time_in(payload: bytes, path: Sequence[str]) -> Any:
    """What stands in a payload at the path of its time; None when nothing does."""
    try:
        return _at(orjson.loads(payload), path)
    except orjson.JSONDecodeError:
        return None


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if type(document) is dict else None
    return document


def _why_nothing(document: dict[str, Any], refused: list[str], nulls: int) -> tuple[str, str]:
    if refused:
        return "all_values_refused", "; ".join(refused)
    if nulls:
        return "only_nulls", "every known property came as null, which is no value"
    names = ", ".join(sorted(document)[:10])
    return "no_known_property", f"no field is a property of the Thing: {names}"
