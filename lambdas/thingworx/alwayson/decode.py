"""Bytes to typed values and InfoTables."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.codes import BaseType
from lambdas.thingworx.alwayson.model import (
    NOTHING,
    Field,
    InfoTable,
    Location,
    ThingCode,
    Timespan,
    Value,
)
from lambdas.thingworx.alwayson.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DEPTH", "decode_infotable", "decode_value", "read_infotable"]

#: Tables and variants within one another; the platform's own go four deep.
MAX_DEPTH = 32

_DOUBLE = struct.Struct(">d")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_TWO_INT64 = struct.Struct(">qq")
_THING_CODE = struct.Struct(">iq")
_DOUBLES = {count: struct.Struct(f">{count}d") for count in (2, 3, 4)}
_SMALLEST_ASPECT = 2
_SMALLEST_CELL = 1


def decode_value(data: bytes) -> Value:
    """One typed value, alone in the bytes.

    Raises:
        WireError: malformed, or bytes are left over.
    """
    reader = Reader(data)
    value = _read_value(reader, "value", 0)
    if reader.left:
        raise WireError(f"{reader.left} bytes after the value", "value", reader.pos)
    return value


def decode_infotable(data: bytes) -> tuple[InfoTable, int]:
    """An InfoTable without a type byte, and how many bytes follow it.

    Raises:
        WireError: malformed.
    """
    reader = Reader(data)
    return read_infotable(reader, "table"), reader.left


def read_infotable(reader: Reader, name: str) -> InfoTable:
    """An InfoTable without a type byte, at the reader's position; `name` is how errors call it.

    Raises:
        WireError: malformed.
    """
    try:
        return _read_table(reader, 1)
    except WireError as error:
        raise error.inside(name) from None


def _read_value(reader: Reader, name: str, depth: int) -> Value:
    code = reader.u8(name)
    kind = _KINDS.get(code)
    if kind is None:
        raise WireError(f"no base type {code}", name, reader.pos - 1)
    base_type, read = kind
    if read is None:
        return NOTHING
    try:
        return Value(base_type, read(reader, depth))
    except WireError as error:
        raise error.inside(name) from None


def _read_table(reader: Reader, depth: int) -> InfoTable:
    if depth > MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep", "fields", reader.pos)
    table = InfoTable({})
    fields = table.fields
    while reader.marker("another field"):
        start = reader.pos
        try:
            name = reader.text("name")
            if name in fields:
                raise WireError("the name of an earlier field", "name", start)  # noqa: TRY301 - named as the others
            fields[name] = _read_field(reader, depth)
        except WireError as error:
            raise error.inside(f"fields[{len(fields)}]") from None
    names = tuple(fields)
    while reader.marker("another row"):
        try:
            table.rows.append(_read_row(reader, names, depth))
        except WireError as error:
            raise error.inside(f"rows[{len(table.rows)}]") from None
    return table


def _read_field(reader: Reader, depth: int) -> Field:
    description = reader.text("description")
    code = reader.u8("baseType")
    kind = _KINDS.get(code)
    if kind is None:
        raise WireError(f"no base type {code}", "baseType", reader.pos - 1)
    count = reader.count("aspectCount", each=_SMALLEST_ASPECT)
    if not count:
        return Field(kind[0], description)
    aspects: dict[str, Value] = {}
    for _ in range(count):
        start = reader.pos
        name = reader.text("aspect")
        if name in aspects:
            raise WireError("the name of an earlier aspect", "aspect", start)
        aspects[name] = _read_value(reader, f"aspects.{name}", depth)
    return Field(kind[0], description, aspects)


def _read_row(reader: Reader, names: tuple[str, ...], depth: int) -> tuple[Value, ...]:
    start = reader.pos
    count = reader.count("cellCount", each=_SMALLEST_CELL)
    missing = len(names) - count
    if missing < 0:
        raise WireError(f"{count} cells for {len(names)} fields", "cellCount", start)
    # Not a generator expression: it would add a frame to every level of nesting.
    cells = [_read_value(reader, name, depth) for name in names[:count]]
    if missing:
        reader.allow_missing(missing, "cellCount")
        cells.extend([NOTHING] * missing)
    return tuple(cells)


def _text(reader: Reader, _depth: int) -> str:
    return reader.text("text")


def _number(reader: Reader, _depth: int) -> Any:
    return reader.unpack(_DOUBLE, "double")[0]


def _boolean(reader: Reader, _depth: int) -> bool:
    return reader.marker("boolean")


def _int32(reader: Reader, _depth: int) -> Any:
    return reader.unpack(_INT32, "int32")[0]


def _int64(reader: Reader, _depth: int) -> Any:
    return reader.unpack(_INT64, "int64")[0]


def _timespan(reader: Reader, _depth: int) -> Timespan:
    start, end = reader.unpack(_TWO_INT64, "start and end")
    return Timespan(start, end, reader.text("period"))


def _location(reader: Reader, _depth: int) -> Location:
    return Location(*reader.unpack(_DOUBLES[3], "longitude, latitude, elevation"))


def _thing_code(reader: Reader, _depth: int) -> ThingCode:
    return ThingCode(*reader.unpack(_THING_CODE, "domain and instance"))


def _blob(reader: Reader, _depth: int) -> bytes:
    return reader.blob("bytes")


def _doubles(count: int) -> Callable[[Reader, int], tuple[float, ...]]:
    form = _DOUBLES[count]
    return lambda reader, _depth: reader.unpack(form, f"{count} doubles")


def _variant(reader: Reader, depth: int) -> Value:
    if depth >= MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep", "variant", reader.pos)
    return _read_value(reader, "variant", depth + 1)


def _infotable(reader: Reader, depth: int) -> InfoTable:
    return _read_table(reader, depth + 1)


_PAYLOADS: dict[BaseType, Callable[[Reader, int], Any] | None] = {
    BaseType.NOTHING: None,
    BaseType.NUMBER: _number,
    BaseType.BOOLEAN: _boolean,
    BaseType.DATETIME: _int64,
    BaseType.TIMESPAN: _timespan,
    BaseType.INFOTABLE: _infotable,
    BaseType.LOCATION: _location,
    BaseType.IMAGE: _blob,
    BaseType.VARIANT: _variant,
    BaseType.BLOB: _blob,
    BaseType.INTEGER: _int32,
    BaseType.LONG: _int64,
    BaseType.VEC2: _doubles(2),
    BaseType.VEC3: _doubles(3),
    BaseType.VEC4: _doubles(4),
    BaseType.THINGCODE: _thing_code,
}
#: Type byte, unsigned -> base type and reader of its payload; all types but those above are strings.
_KINDS = {base_type.value & 0xFF: (base_type, _PAYLOADS.get(base_type, _text)) for base_type in BaseType}
