"""Between a value's JSON form (docs/reference/base-types.md) and the typed value on the wire.

Texts of all kinds but XML and TAGS go as STRING, which the platform casts to the property's type: the
vendor's Java SDK, whose code the platform shares, writes them so, and takes a PASSWORD only encrypted.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson

from lambdas.thingworx.alwayson.codes import BaseType
from lambdas.thingworx.alwayson.model import NOTHING, Field, InfoTable, Location, ThingCode, Timespan, Value
from lambdas.thingworx.base_types import TEXT_TYPES, convert

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_wire", "to_wire"]


def to_wire(base_type: str, kept: Any) -> Value:
    """The typed value that carries `kept`, the form that `convert` gave for `base_type`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: `kept` isn't of that form, or the base type
            isn't supported. Plain values are looked at only when they are encoded.
    """
    kind, form = _TO_WIRE[base_type]
    return Value(kind, kept if form is None else form(kept))


def from_wire(value: Value) -> Any:
    """JSON form of a typed value, by the type that it tells itself; None for null.

    That may be another type than its property's: pass what is found to `convert` with the property's.

    Raises:
        ValueRefused: the value has no JSON form, for example NaN.
    """
    if value.base_type is BaseType.NOTHING:
        return None
    return convert(value.base_type.name, _plain(value))


def _plain(value: Value) -> Any:
    """What `convert` takes for the value."""
    form = _FROM_WIRE.get(value.base_type)
    return value.value if form is None else form(value.value)


def _bytes(kept: str) -> bytes:
    return base64.b64decode(kept, validate=True)


def _json_text(kept: Any) -> str:
    if not isinstance(kept, (dict, list)):
        raise TypeError("an object or an array expected")
    return orjson.dumps(kept).decode()


def _thing_code(kept: str) -> ThingCode:
    domain, _, instance = kept.partition(":")
    return ThingCode(int(domain), int(instance))


def _variant(kept: dict[str, Any]) -> Value:
    return to_wire(kept["baseType"], kept["value"])


def _table(kept: dict[str, Any]) -> InfoTable:
    # A parcel sorts the keys, so that the order of the fields is only in their ordinals.
    definitions = sorted(kept["dataShape"]["fieldDefinitions"].items(), key=lambda item: item[1]["ordinal"])
    types = [(name, entry["baseType"]) for name, entry in definitions]
    return InfoTable(
        {
            name: Field(
                BaseType[entry["baseType"]],
                entry["description"],
                {aspect: _aspect(plain) for aspect, plain in entry["aspects"].items()},
            )
            for name, entry in definitions
        },
        [
            tuple([to_wire(base_type, row[name]) if name in row else NOTHING for name, base_type in types])
            for row in kept["rows"]
        ],
    )


def _aspect(plain: Any) -> Value:
    if isinstance(plain, bool):
        return Value(BaseType.BOOLEAN, plain)
    return Value(BaseType.STRING if isinstance(plain, str) else BaseType.NUMBER, plain)


def _plain_variant(inner: Value) -> Any:
    while inner.base_type is BaseType.VARIANT:
        inner = inner.value
    return None if inner.base_type is BaseType.NOTHING else _marked(inner)


def _marked(value: Value) -> dict[str, Any]:
    return {"baseType": value.base_type.name, "value": _plain(value)}


def _plain_table(table: InfoTable) -> dict[str, Any]:
    definitions = {
        name: {
            "baseType": field.base_type.name,
            "description": field.description,
            "ordinal": ordinal,
            "aspects": {aspect: _plain(value) for aspect, value in field.aspects.items()},
        }
        for ordinal, (name, field) in enumerate(table.fields.items())
    }
    columns = [(name, field.base_type is BaseType.VARIANT) for name, field in table.fields.items()]
    rows = [
        {
            # A cell of a VARIANT column may stand there without its wrapping.
            name: _marked(cell) if any_type and cell.base_type is not BaseType.VARIANT else _plain(cell)
            for (name, any_type), cell in zip(columns, row, strict=False)
            if cell.base_type is not BaseType.NOTHING
        }
        for row in table.rows
    ]
    return {"dataShape": {"fieldDefinitions": definitions}, "rows": rows}


_TO_WIRE: dict[str, tuple[BaseType, Callable[[Any], Any] | None]] = {
    **dict.fromkeys(TEXT_TYPES, (BaseType.STRING, None)),
    "XML": (BaseType.XML, None),
    "TAGS": (BaseType.TAGS, None),
    "NUMBER": (BaseType.NUMBER, None),
    "INTEGER": (BaseType.INTEGER, None),
    "LONG": (BaseType.LONG, None),
    "BOOLEAN": (BaseType.BOOLEAN, None),
    "DATETIME": (BaseType.DATETIME, None),
    "TIMESPAN": (BaseType.TIMESPAN, lambda kept: Timespan(kept["start"], kept["end"], kept["period"])),
    "LOCATION": (
        BaseType.LOCATION,
        lambda kept: Location(kept["longitude"], kept["latitude"], kept["elevation"]),
    ),
    "JSON": (BaseType.JSON, _json_text),
    "QUERY": (BaseType.QUERY, _json_text),
    "IMAGE": (BaseType.IMAGE, _bytes),
    "BLOB": (BaseType.BLOB, _bytes),
    "THINGCODE": (BaseType.THINGCODE, _thing_code),
    "VEC2": (BaseType.VEC2, lambda kept: (kept["x"], kept["y"])),
    "VEC3": (BaseType.VEC3, lambda kept: (kept["x"], kept["y"], kept["z"])),
    "VEC4": (BaseType.VEC4, lambda kept: (kept["x"], kept["y"], kept["z"], kept["w"])),
    "INFOTABLE": (BaseType.INFOTABLE, _table),
    "VARIANT": (BaseType.VARIANT, _variant),
}


def _plain_vector(numbers: tuple[float, ...]) -> dict[str, float]:
    return dict(zip("xyzw", numbers, strict=False))


def _plain_bytes(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


_FROM_WIRE: dict[BaseType, Callable[[Any], Any]] = {
    BaseType.TIMESPAN: lambda span: span._asdict(),
    BaseType.LOCATION: lambda place: place._asdict(),
    BaseType.IMAGE: _plain_bytes,
    BaseType.BLOB: _plain_bytes,
    BaseType.THINGCODE: lambda code: f"{code.domain_id}:{code.instance_id}",
    BaseType.VEC2: _plain_vector,
    BaseType.VEC3: _plain_vector,
    BaseType.VEC4: _plain_vector,
    BaseType.INFOTABLE: _plain_table,
    BaseType.VARIANT: _plain_variant,
}
