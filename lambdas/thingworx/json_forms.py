"""JSON forms of a value where they aren't the kept one: REST calls and device shadows.

Both are taken by `convert` again, with the same base type, and become the same kept form: what a device
finds in its shadow it may report as it is. docs/reference/base-types.md has the table.
"""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["for_rest", "for_shadow"]

#: A shadow merges objects key by key and drops nulls, so that what has keys of its own goes as text.
_AS_TEXT = frozenset({"JSON", "QUERY", "INFOTABLE"})
#: Base types that a bare value in a VARIANT gets again from `convert`.
_TOLD_BY_VALUE = frozenset({"BOOLEAN", "NUMBER", "STRING"})


def for_rest(base_type: str, kept: Any) -> dict[str, Any]:
    """`{"value", "baseType"}` as a cell of base type VARIANT has it in a REST call, for example in NamedVTQ.

    Args:
        base_type: of the property; a VARIANT goes as the base type that it holds.
        kept: what `convert` gave for it.
    """
    if base_type == "VARIANT":
        return for_rest(kept["baseType"], kept["value"])
    value = {**kept, "units": "WGS84"} if base_type == "LOCATION" else kept
    return {"value": value, "baseType": base_type}


def for_shadow(base_type: str, kept: Any) -> Any:
    """What a device shadow holds of a value: text, a number, a boolean or an object of fixed keys.

    Args:
        base_type: of the property.
        kept: what `convert` gave for it.
    """
    if base_type in _AS_TEXT:
        return orjson.dumps(kept).decode()
    if base_type != "VARIANT":
        return kept
    inner_type, inner = kept["baseType"], kept["value"]
    if inner_type in _TOLD_BY_VALUE:
        return inner
    text = orjson.dumps(inner).decode() if isinstance(inner, (dict, list)) else inner
    return {"baseType": inner_type, "value": text}
