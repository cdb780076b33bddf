"""Values and tables between the platform's native form and the wire's.

Seen in the vendor's Java SDK, whose code the platform shares: values of name, link and text types are
written with the type byte of STRING, whatever the field says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from lambdas.thingworx import alwayson as wire
from lambdas.thingworx.alwayson import NOTHING, BaseType, Value
from sandbox.thingworx.infotable import Field, InfoTable, Tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["native_table", "native_value", "parameters", "row_names", "wire_table", "wire_value"]

_INT32: Final = 1 << 31
_AS_STRING: Final = frozenset(
    base_type.name
    for base_type in BaseType
    if base_type.name.endswith("NAME") or base_type.name in {"TEXT", "HTML", "HYPERLINK", "IMAGELINK"}
)


def wire_value(value: Any, base_type: str) -> Value:
    """A native value (see `basetypes`) as the wire has it; None becomes null.

    Raises:
        ValueError, TypeError, KeyError: It isn't of that base type.
    """
    if value is None or base_type == "NOTHING":
        return NOTHING
    payload = _PAYLOADS.get(base_type)
    kind = BaseType.STRING if base_type in _AS_STRING else BaseType[base_type]
    return Value(kind, payload(value) if payload else value)


def _vector(axes: str) -> Callable[[Any], Any]:
    return lambda value: tuple(value[axis] for axis in axes)


def _thing_code(text: str) -> wire.ThingCode:
    domain, _, instance = text.partition(":")
    return wire.ThingCode(int(domain), int(instance))


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _guessed(value: Any) -> Value:
    """A value whose base type isn't known, as in a VARIANT column."""
    if isinstance(value, int) and not isinstance(value, bool):
        # Edges built on old SDKs fail on LONG.
        return wire_value(value, "INTEGER" if -_INT32 <= value < _INT32 else "LONG")
    kinds = ((bool, "BOOLEAN"), (float, "NUMBER"), (str, "STRING"), (bytes, "BLOB"))
    for kind, base_type in (*kinds, (Tags, "TAGS"), (InfoTable, "INFOTABLE")):
        if isinstance(value, kind):
            return wire_value(value, base_type)
    if isinstance(value, dict) and value.keys() >= {"latitude", "longitude"}:
        return wire_value(value, "LOCATION")
    return wire_value(value, "JSON")


def wire_table(table: InfoTable) -> wire.InfoTable:
    """A native table as the wire has it.

    Raises:
        ValueError, TypeError, KeyError: A cell isn't of its column's base type.
    """
    fields = {
        f.name: wire.Field(
            BaseType[f.base_type], f.description, {name: _guessed(value) for name, value in f.aspects}
        )
        for f in table.fields
    }
    columns = [(f.name, f.base_type) for f in table.fields]
    rows = [tuple([wire_value(row.get(name), kind) for name, kind in columns]) for row in table.rows]
    return wire.InfoTable(fields, rows)


def native_value(value: Value) -> Any:
    """A value from the wire in native form, by its own base type; null becomes None."""
    base_type, plain = value
    native = _NATIVES.get(base_type)
    return native(plain) if native else plain


def _native_place(place: wire.Location) -> dict[str, Any]:
    return {**place._asdict(), "units": "WGS84"}


def _native_vector(numbers: Iterable[float]) -> dict[str, float]:
    return dict(zip("xyzw", numbers, strict=False))


def _parsed(text: str) -> Any:
    """JSON, or the text itself: what takes it then says that it's neither object nor array."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def native_table(table: wire.InfoTable) -> InfoTable:
    """A table from the wire in native form; null cells are left out of their rows."""
    fields = tuple(
        Field(
            name,
            f.base_type.name,
            f.description,
            tuple((k, a.value) for k, a in f.aspects.items() if isinstance(a.value, (str, float, int))),
        )
        for name, f in table.fields.items()
    )
    names = list(table.fields)
    rows = [
        {
            name: native_value(cell)
            for name, cell in zip(names, row, strict=False)
            if cell.base_type is not BaseType.NOTHING
        }
        for row in table.rows
    ]
    return InfoTable(fields, rows)


def parameters(table: wire.InfoTable | None) -> Mapping[str, Any]:
    """A request's parameters by name: the first row, or the JSON object in `_content_`."""
    if table is None or not table.rows:
        return {}
    values: dict[str, Any] = native_table(wire.InfoTable(table.fields, table.rows[:1])).rows[0]
    content = values.get("_content_")
    return content if isinstance(content, dict) else values


def row_names(table: wire.InfoTable | None) -> tuple[str, ...]:
    """The names in the rows of a push's parameters, without converting its values."""
    inner = table.first("values").value if table is not None else None
    if not isinstance(inner, wire.InfoTable):
        return ()
    return tuple(str(row.get("name", NOTHING).value) for row in inner.records())


_PAYLOADS: Final[dict[str, Callable[[Any], Any]]] = {
    "NUMBER": float,
    "VARIANT": _guessed,
    "INFOTABLE": wire_table,
    "LOCATION": lambda place: wire.Location(
        place["longitude"], place["latitude"], place.get("elevation", 0.0)
    ),
    "JSON": _json_text,
    "QUERY": _json_text,
    "TAGS": ";".join,
    "VEC2": _vector("xy"),
    "VEC3": _vector("xyz"),
    "VEC4": _vector("xyzw"),
    "TIMESPAN": lambda span: wire.Timespan(**span),
    "THINGCODE": _thing_code,
}
"""What differs from the native value, by base type."""
_NATIVES: Final[dict[BaseType, Callable[[Any], Any]]] = {
    BaseType.VARIANT: native_value,
    BaseType.INFOTABLE: native_table,
    BaseType.LOCATION: _native_place,
    BaseType.JSON: _parsed,
    BaseType.QUERY: _parsed,
    BaseType.VEC2: _native_vector,
    BaseType.VEC3: _native_vector,
    BaseType.VEC4: _native_vector,
    BaseType.TIMESPAN: lambda span: span._asdict(),
    BaseType.THINGCODE: lambda code: f"{code.domain_id}:{code.instance_id}",
}
