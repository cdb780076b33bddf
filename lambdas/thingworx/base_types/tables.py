"""INFOTABLE and VARIANT: the base types that hold values of other base types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lambdas.thingworx.base_types.refusal import Unfit, ValueRefused
from lambdas.thingworx.base_types.structured import parsed

if TYPE_CHECKING:
    from collections.abc import Callable

    Convert = Callable[[str, Any, int], Any]

__all__ = ["MAX_NESTED", "as_infotable", "as_variant"]

#: Tables and variants inside each other.
MAX_NESTED = 8

_VARIANT = {"baseType", "value"}
_EXACT_IN_DOUBLE, _LONG_MIN, _LONG_MAX = 2**53, -(2**63), 2**63 - 1


def as_variant(value: Any, convert: Convert, depth: int) -> dict[str, Any]:
    """VARIANT: `{"baseType", "value"}`; a bare value gets the base type that fits it.

    Args:
        value: what came.
        convert: converts a value to a base type, this deep inside others.
        depth: how many tables and variants this one is inside of.
    """
    if depth >= MAX_NESTED:
        raise Unfit(f"more than {MAX_NESTED} tables or variants inside each other")
    if type(value) is dict and value.keys() == _VARIANT and type(value["baseType"]) is str:
        base_type, bare = value["baseType"], value["value"]
        if base_type == "VARIANT":
            raise Unfit("a variant in a variant")
    else:
        base_type, bare = _guessed(value), value
    try:
        return {"baseType": base_type, "value": convert(base_type, bare, depth + 1)}
    except ValueRefused as refused:
        raise Unfit(refused.reason) from None


def as_infotable(value: Any, convert: Convert, depth: int) -> dict[str, Any]:
    """INFOTABLE: the platform's JSON form, each cell converted to its column's base type.

    Args:
        value: what came: the object or its JSON text.
        convert: converts a value to a base type, this deep inside others.
        depth: how many tables and variants this one is inside of.
    """
    if depth >= MAX_NESTED:
        raise Unfit(f"more than {MAX_NESTED} tables or variants inside each other")
    table = parsed(value)
    try:
        given, rows = table["dataShape"]["fieldDefinitions"], table["rows"]
    except (KeyError, TypeError):
        raise Unfit from None
    if type(given) is not dict or type(rows) is not list:
        raise Unfit
    definitions = _definitions(given)
    types = {name: entry["baseType"] for name, entry in definitions.items()}
    return {
        "dataShape": {"fieldDefinitions": definitions},
        "rows": [_row(row, index, types, convert, depth + 1) for index, row in enumerate(rows)],
    }


def _definitions(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Field definitions in the platform's order, with all keys."""
    entries = [(name, entry) for name, entry in given.items() if type(entry) is dict]
    if len(entries) < len(given):
        raise Unfit("a field definition that is no object")
    entries.sort(key=lambda item: _ordinal(item[1]))
    definitions = {}
    for ordinal, (name, entry) in enumerate(entries):
        base_type, description = entry.get("baseType"), entry.get("description", "")
        if type(base_type) is not str or type(description) is not str:
            raise Unfit(f"field {name} without a base type, or with a description that is no text")
        definitions[name] = {
            "name": name,
            "description": description,
            "baseType": base_type,
            "ordinal": ordinal,
            "aspects": _aspects(entry.get("aspects")),
        }
    return definitions


def _ordinal(entry: dict[str, Any]) -> float:
    ordinal = entry.get("ordinal")
    return ordinal if type(ordinal) is int else 0


def _aspects(given: Any) -> dict[str, Any]:
    """Aspects that are text, a number or a boolean; they describe the table, no value."""
    if type(given) is not dict:
        return {}
    return {
        name: float(aspect) if type(aspect) is int else aspect
        for name, aspect in given.items()
        if type(aspect) in (str, bool)
        or (type(aspect) is float and math.isfinite(aspect))
        or (type(aspect) is int and abs(aspect) <= _EXACT_IN_DOUBLE)
    }


def _row(row: Any, index: int, types: dict[str, str], convert: Convert, depth: int) -> dict[str, Any]:
    if type(row) is not dict:
        raise Unfit(f"row {index} that is no object")
    cells = {}
    for name, cell in row.items():
        if cell is None:
            continue
        base_type = types.get(name)
        if base_type is None:
            raise Unfit(f"row {index} with {name}, which is no field of the data shape")
        try:
            cells[name] = convert(base_type, cell, depth)
        except ValueRefused as refused:
            raise Unfit(f"in row {index}, {name}: {refused.reason}") from None
    return cells


def _guessed(value: Any) -> str:
    kind = type(value)
    if kind is bool:
        return "BOOLEAN"
    if kind is str:
        return "STRING"
    if kind is int and abs(value) > _EXACT_IN_DOUBLE and _LONG_MIN <= value <= _LONG_MAX:
        return "LONG"
    if kind is int or kind is float:
        return "NUMBER"
    if kind is dict or kind is list:
        return "JSON"
    raise Unfit
