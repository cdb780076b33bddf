"""Base types: what a property of each type accepts, and the native form it is kept in.

| base type | kept as |
| --- | --- |
| NUMBER | float |
| INTEGER, LONG | int within 32 / 64 bits |
| BOOLEAN | bool |
| DATETIME | int, ms since 1970 UTC |
| LOCATION | dict latitude, longitude, elevation, units |
| JSON, QUERY | dict or list |
| INFOTABLE | `InfoTable` |
| TAGS | `Tags` |
| IMAGE, BLOB | bytes |
| VARIANT | any JSON value |
| VEC2, VEC3, VEC4 | dict x, y[, z[, w]] |
| TIMESPAN | dict start, end (ms since 1970 UTC), period |
| THINGCODE | str, `domain:instance` |
| all others | str |

Documented by PTC: the types, and that values of property updates can't be null. Inferred: the conversions.
Text that reads as a number, whole number or boolean is taken (published REST clients write numbers as text
and read them back as numbers), unless `strict`; a fraction is refused for INTEGER and LONG, a boolean is no
number, and latitude and longitude have their natural ranges.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.errors import ParameterError, ValueConversionError
from sandbox.thingworx.infotable import Field, InfoTable, Tags, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BASE_TYPES", "convert", "parse_datetime", "parse_tags", "unwrap_variant"]

# fmt: off
_TEXT_TYPES: Final = (
    "STRING", "TEXT", "HTML", "XML", "HYPERLINK", "IMAGELINK", "PASSWORD", "GUID", "SCHEDULE",
    "NOTHING", "PROPERTYNAME", "SERVICENAME", "EVENTNAME", "THINGNAME", "THINGSHAPENAME",
    "THINGTEMPLATENAME", "DATASHAPENAME", "MASHUPNAME", "MENUNAME", "BASETYPENAME", "USERNAME",
    "GROUPNAME", "CATEGORYNAME", "STATEDEFINITIONNAME", "STYLEDEFINITIONNAME", "MODELTAGVOCABULARYNAME",
    "DATATAGVOCABULARYNAME", "NETWORKNAME", "MEDIAENTITYNAME", "APPLICATIONKEYNAME",
    "LOCALIZATIONTABLENAME", "ORGANIZATIONNAME", "DASHBOARDNAME", "PERSISTENCEPROVIDERPACKAGENAME",
    "PERSISTENCEPROVIDERNAME", "PROJECTNAME",
)
# fmt: on
_FARTHEST_MS: Final = 8.64e15
"""A hundred million days, the range of dates in the platform's scripts."""
_VARIANT_KEYS: Final = {"value", "baseType"}


def convert(value: Any, base_type: str, *, strict: bool = False) -> Any:
    """A value, as JSON or another front end gives it, in the native form of `base_type`.

    Args:
        value: Anything but None.
        base_type: A name in `BASE_TYPES`.
        strict: Refuse text for numbers and booleans, and numbers for text.

    Raises:
        ValueConversionError: The value isn't of that type.
    """
    converter = _CONVERTERS.get(base_type)
    if converter is None:
        raise ValueConversionError(value, base_type, "unknown base type")
    if value is None:
        raise ValueConversionError(value, base_type, "values cannot be null")
    try:
        return converter(value, strict)
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        AttributeError,
        binascii.Error,
        ParameterError,
    ) as error:
        raise ValueConversionError(value, base_type, str(error)) from error


def unwrap_variant(value: Any) -> Any:
    """The bare value of a VARIANT, which JSON may carry as `{"value": ..., "baseType": ...}`."""
    return value["value"] if isinstance(value, dict) and value.keys() == _VARIANT_KEYS else value


def parse_datetime(value: Any) -> int:
    """Milliseconds since 1970 UTC from a number or ISO 8601 text; text without an offset is UTC.

    Raises:
        ValueError: It is neither, or farther from 1970 than a platform's dates go.
    """
    if isinstance(value, str) and not value.lstrip("-").isdecimal():
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("neither milliseconds nor ISO 8601 text")  # noqa: TRY004 - callers know ValueError alone
    milliseconds = float(value)
    if not abs(milliseconds) <= _FARTHEST_MS:
        raise ValueError("not a time a platform can hold")
    return int(value)


def parse_tags(value: Any) -> Tags:
    """Tags from `"V:t;V2:t2"`, or an array of such text or of `{"vocabulary", "vocabularyTerm"}`.

    Raises:
        ParameterError: An item has no vocabulary or no term.
    """
    if isinstance(value, Tags):
        return value
    items = [text for text in value.split(";") if text.strip()] if isinstance(value, str) else value or []
    tags = []
    for item in items:
        text = (
            f"{item.get('vocabulary', '')}:{item.get('vocabularyTerm', '')}"
            if isinstance(item, dict)
            else item
        )
        vocabulary, _, term = (part.strip() for part in str(text).partition(":"))
        if not vocabulary or not term:
            raise ParameterError(f"[{text}] is not a tag: write vocabulary:term")
        tags.append(f"{vocabulary}:{term}")
    return Tags(dict.fromkeys(tags))


def _number(value: Any, strict: bool) -> float:  # noqa: FBT001 - every converter has this one signature
    if isinstance(value, str) and not strict:
        value = float(value)
        if not math.isfinite(value):
            raise ValueError("not finite")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a number")  # noqa: TRY004 - callers know ValueError alone
    return float(value)


def _whole(bits: int) -> Callable[[Any, bool], int]:
    limit = 1 << (bits - 1)

    def whole(value: Any, strict: bool) -> int:  # noqa: FBT001 - see above
        if isinstance(value, str) and not strict:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise ValueError("not a whole number")
        if not -limit <= value < limit:
            raise ValueError(f"more than {bits} bits")
        return int(value)

    return whole


def _boolean(value: Any, strict: bool) -> bool:  # noqa: FBT001 - see above
    if isinstance(value, str) and not strict and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("not a boolean")  # noqa: TRY004 - callers know ValueError alone
    return value


def _text(value: Any, strict: bool) -> str:  # noqa: FBT001 - see above
    if isinstance(value, bool) and not strict:
        return "true" if value else "false"
    if isinstance(value, (int, float)) and not strict:
        return str(value)
    if not isinstance(value, str):
        raise ValueError("not text")  # noqa: TRY004 - callers know ValueError alone
    return value


def _location(value: Any, _strict: bool) -> dict[str, Any]:  # noqa: FBT001 - see above
    if isinstance(value, str):
        parts = [float(part) for part in value.split(",")]
        value = dict(zip(("latitude", "longitude", "elevation"), parts, strict=False))
    location = {key: float(value[key]) for key in ("latitude", "longitude")}
    location["elevation"] = float(value.get("elevation") or 0.0)
    if abs(location["latitude"]) > 90 or abs(location["longitude"]) > 180:
        raise ValueError("latitude is -90 to 90, longitude -180 to 180")
    return {**location, "units": value.get("units", "WGS84")}


def _json(value: Any, _strict: bool) -> Any:  # noqa: FBT001 - see above
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, (dict, list)):
        raise ValueError("neither an object nor an array")  # noqa: TRY004 - callers know ValueError alone
    return value


def _infotable(value: Any, strict: bool) -> InfoTable:  # noqa: FBT001 - see above
    if isinstance(value, InfoTable):
        return value
    if isinstance(value, str):
        value = json.loads(value)
    rows = rows_of(value, "value")
    shape = value.get("dataShape")
    definitions = shape.get("fieldDefinitions") if isinstance(shape, dict) else None
    if not isinstance(definitions, dict):
        definitions = {}
    if not definitions:
        return InfoTable(
            tuple(Field(name) for name in dict.fromkeys(name for row in rows for name in row)), rows
        )
    fields = [_field(name, d if isinstance(d, dict) else {}) for name, d in definitions.items()]
    fields.sort(key=lambda entry: entry[0])
    return InfoTable(
        tuple(f for _, f in fields), [_cells(row, [f for _, f in fields], strict) for row in rows]
    )


def _field(name: str, definition: dict[str, Any]) -> tuple[int, Field]:
    """Its place and the column."""
    ordinal, aspects = definition.get("ordinal"), definition.get("aspects")
    known = aspects.items() if isinstance(aspects, dict) else ()
    return ordinal if isinstance(ordinal, int) else 0, Field(
        name,
        str(definition.get("baseType") or "STRING"),
        str(definition.get("description") or ""),
        tuple((key, value) for key, value in known if isinstance(value, (str, float, int))),
    )


def _cells(row: dict[str, Any], fields: list[Field], strict: bool) -> dict[str, Any]:  # noqa: FBT001 - see above
    """A row in native form; what no column is for is left out."""
    return {
        f.name: convert(row[f.name], f.base_type, strict=strict)
        for f in fields
        if row.get(f.name) is not None
    }


def _timespan(value: Any, _strict: bool) -> dict[str, Any]:  # noqa: FBT001 - see above
    if isinstance(value, str):
        value = json.loads(value)
    period = value.get("period", "")
    if not isinstance(period, str):
        raise ValueError("a period that is no text")  # noqa: TRY004 - callers know ValueError alone
    start, end = (parse_datetime(value[key]) for key in ("start", "end"))
    return {"start": start, "end": end, "period": period}


def _thing_code(value: Any, _strict: bool) -> str:  # noqa: FBT001 - see above
    domain, _, instance = value.partition(":")
    return f"{_whole(32)(domain, False)}:{_whole(64)(instance, False)}"  # noqa: FBT003 - see above


def _bytes(value: Any, _strict: bool) -> bytes:  # noqa: FBT001 - see above
    return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)


def _vector(axes: str) -> Callable[[Any, bool], dict[str, float]]:
    return lambda value, _strict: {axis: float(value[axis]) for axis in axes}


_CONVERTERS: Final[dict[str, Callable[[Any, bool], Any]]] = {
    **dict.fromkeys(_TEXT_TYPES, _text),
    "NUMBER": _number,
    "INTEGER": _whole(32),
    "LONG": _whole(64),
    "BOOLEAN": _boolean,
    "DATETIME": lambda value, _strict: parse_datetime(value),
    "LOCATION": _location,
    "JSON": _json,
    "QUERY": _json,
    "INFOTABLE": _infotable,
    "TAGS": lambda value, _strict: parse_tags(value),
    "IMAGE": _bytes,
    "BLOB": _bytes,
    "TIMESPAN": _timespan,
    "THINGCODE": _thing_code,
    "VARIANT": lambda value, _strict: unwrap_variant(value),
    "VEC2": _vector("xy"),
    "VEC3": _vector("xyz"),
    "VEC4": _vector("xyzw"),
}
BASE_TYPES: Final = frozenset(_CONVERTERS)
