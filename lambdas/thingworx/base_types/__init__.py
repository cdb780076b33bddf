"""Base types: which JSON values a property of each type takes, and the one form they are kept in.

The kept form travels in parcels, is pushed to ThingWorx, comes back in property writes and is answered
to the platform; `docs/reference/base-types.md` has the table. Every form here is taken again as it is.

A value is taken when nothing is lost by it and refused otherwise. ThingWorx's own casts go further:
its Azure IoT Hub connector documents that any number but 0 and the text `"2"` are true and that any
other text is false. Taking `"on"` as false or 10.5 as 10 would hide a fault of the device, so those
are refused and can be seen. A boolean is no number, and no base type takes null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.thingworx.base_types.plain import (
    as_base64,
    as_boolean,
    as_datetime,
    as_number,
    as_tags,
    as_text,
    as_thing_code,
    whole,
)
from lambdas.thingworx.base_types.refusal import Unfit, ValueRefused, described
from lambdas.thingworx.base_types.structured import as_json, as_location, as_query, as_timespan, vector
from lambdas.thingworx.base_types.tables import as_infotable, as_variant

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SUPPORTED", "TEXT_TYPES", "UNSUPPORTED", "ValueRefused", "convert"]

_INTEGER = (-(2**31), 2**31 - 1)
_LONG = (-(2**63), 2**63 - 1)

# fmt: off
#: Base types that are text to everybody between the device and the platform.
TEXT_TYPES = frozenset({
    "APPLICATIONKEYNAME", "BASETYPENAME", "CATEGORYNAME", "DASHBOARDNAME", "DATASHAPENAME",
    "DATATAGVOCABULARYNAME", "EVENTNAME", "GROUPNAME", "GUID", "HTML", "HYPERLINK", "IMAGELINK",
    "LOCALIZATIONTABLENAME", "MASHUPNAME", "MEDIAENTITYNAME", "MENUNAME", "MODELTAGVOCABULARYNAME",
    "NETWORKNAME", "ORGANIZATIONNAME", "PASSWORD", "PERSISTENCEPROVIDERNAME",
    "PERSISTENCEPROVIDERPACKAGENAME", "PROJECTNAME", "PROPERTYNAME", "SCHEDULE", "SERVICENAME",
    "STATEDEFINITIONNAME", "STRING", "STYLEDEFINITIONNAME", "TEXT", "THINGNAME", "THINGSHAPENAME",
    "THINGTEMPLATENAME", "USERNAME", "XML",
})
# fmt: on
#: Base types that no value can be carried of, each with the reason.
UNSUPPORTED = {"NOTHING": "it has no values"}


class _BaseType(NamedTuple):
    takes: str
    converter: Callable[[Any], Any]


def convert(base_type: str, value: Any) -> Any:
    """`value`, as parsed from JSON, in the form that `base_type` is kept and sent in.

    Args:
        base_type: ThingWorx base type, upper case; one of `SUPPORTED`.
        value: what a JSON parser gives: str, int, float, bool, None, list or dict.

    Raises:
        ValueRefused: the base type doesn't take this value, or isn't supported.
    """
    row = _TABLE.get(base_type)
    if row is None:
        raise ValueRefused(f"base type {base_type} is not supported")
    try:
        return row.converter(value)
    except Unfit as unfit:
        raise _refusal(base_type, value, unfit) from None


def _convert_inside(base_type: str, value: Any, depth: int) -> Any:
    holder = _HOLDERS.get(base_type)
    if holder is None:
        return convert(base_type, value)
    try:
        return holder(value, _convert_inside, depth)
    except Unfit as unfit:
        raise _refusal(base_type, value, unfit) from None


def _refusal(base_type: str, value: Any, unfit: Unfit) -> ValueRefused:
    return ValueRefused(f"{base_type} takes {_TABLE[base_type].takes}; got {str(unfit) or described(value)}")


def _vector(axes: str) -> _BaseType:
    return _BaseType(f"an object of the numbers {', '.join(axes)}", vector(axes))


_HOLDERS = {"INFOTABLE": as_infotable, "VARIANT": as_variant}
_TEXT = _BaseType("text, a number or a boolean", as_text)
_BYTES = _BaseType("base64 text", as_base64)
_TABLE: dict[str, _BaseType] = {
    "NUMBER": _BaseType("a finite number", as_number),
    "INTEGER": _BaseType(f"a whole number from {_INTEGER[0]} to {_INTEGER[1]}", whole(*_INTEGER)),
    "LONG": _BaseType(f"a whole number from {_LONG[0]} to {_LONG[1]}", whole(*_LONG)),
    "BOOLEAN": _BaseType("true, false, 0 or 1", as_boolean),
    **dict.fromkeys(TEXT_TYPES, _TEXT),
    "DATETIME": _BaseType("milliseconds since 1970 or ISO 8601 text", as_datetime),
    "TIMESPAN": _BaseType("an object of start, end and period", as_timespan),
    "LOCATION": _BaseType(
        "an object of latitude (-90 to 90), longitude (-180 to 180) and elevation", as_location
    ),
    "JSON": _BaseType("an object or an array", as_json),
    "QUERY": _BaseType("an object", as_query),
    "IMAGE": _BYTES,
    "BLOB": _BYTES,
    "TAGS": _BaseType("tags like Vocabulary:term, separated by semicolons, or an array of them", as_tags),
    "THINGCODE": _BaseType("text like domain:instance, two whole numbers", as_thing_code),
    "VEC2": _vector("xy"),
    "VEC3": _vector("xyz"),
    "VEC4": _vector("xyzw"),
    "INFOTABLE": _BaseType(
        "a table with its data shape and rows", lambda value: as_infotable(value, _convert_inside, 0)
    ),
    "VARIANT": _BaseType(
        "any value but null, or baseType and value", lambda value: as_variant(value, _convert_inside, 0)
    ),
}

#: Base types that a property may have to be connected; properties of others are left out.
SUPPORTED = frozenset(_TABLE)
