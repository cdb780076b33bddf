"""Typed values and InfoTables to bytes, always in the one canonical form."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.codes import BaseType
from lambdas.thingworx.alwayson.decode import MAX_DEPTH
from lambdas.thingworx.alwayson.model import InfoTable, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lambdas.thingworx.alwayson.model import Field

__all__ = ["UNFIT", "encode_infotable", "encode_shape", "encode_text", "encode_value"]

#: What Python raises when a value isn't of the kind that its base type is made of.
UNFIT = (struct.error, TypeError, ValueError, AttributeError, OverflowError)

_SHORT_TEXT = 0x80
_LONGEST_TEXT = 0x7FFF_FFFF
_MOST = 0xFFFF
_DOUBLE = struct.Struct(">d")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_TWO_INT64 = struct.Struct(">qq")
_THING_CODE = struct.Struct(">iq")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_LENGTHS = tuple(bytes((length,)) for length in range(_SHORT_TEXT))


def encode_value(value: Value) -> bytes:
    """A typed value.

    Raises:
        WireError: the value isn't of its base type, or out of its range.
    """
    return _value(value, "value", 0)


def encode_infotable(table: InfoTable) -> bytes:
    """An InfoTable without a type byte.

    Raises:
        WireError: a value isn't of its base type, or the table is beyond what the wire can count.
    """
    return _table(table, 1)


def encode_shape(fields: Mapping[str, Field]) -> bytes:
    """The data shape that opens an InfoTable, with the mark that ends it.

    Raises:
        WireError: an aspect isn't of its base type, or there are too many.
    """
    return _shape(fields, 1)


def encode_text(text: str) -> bytes:
    """A string with its length before it.

    Raises:
        ValueError: it has a lone surrogate, or is 2 GiB long.
        AttributeError: it is no string.
    """
    raw = text.encode()
    length = len(raw)
    if length < _SHORT_TEXT:
        return _LENGTHS[length] + raw
    if length > _LONGEST_TEXT:
        raise ValueError("a text of 2 GiB")
    return _U32.pack(length | 0x8000_0000) + raw


def _value(value: Value, name: str, depth: int) -> bytes:
    try:
        mark, payload = _KINDS[value.base_type]
        return mark + payload(value.value, depth)
    except WireError as error:
        raise error.inside(name) from None
    except (KeyError, *UNFIT) as error:
        kind = getattr(getattr(value, "base_type", None), "name", "a typed value")
        raise WireError(f"not encodable as {kind}: {error}", name) from None


def _table(table: InfoTable, depth: int) -> bytes:
    parts = [_shape(table.fields, depth)]
    names = tuple(table.fields)
    start = b"\x01" + _counted(names, "fields")
    for index, row in enumerate(table.rows):
        if len(row) > len(names):
            raise WireError(f"{len(row)} cells for {len(names)} fields", f"rows[{index}]")
        parts.append(start)
        try:
            parts += [_value(cell, name, depth) for cell, name in zip(row, names, strict=False)]
        except WireError as error:
            raise error.inside(f"rows[{index}]") from None
        parts.append(b"\xff" * (len(names) - len(row)))
    parts.append(b"\x00")
    return b"".join(parts)


def _shape(fields: Mapping[str, Field], depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep", "fields")
    parts = []
    for name, field in fields.items():
        try:
            parts += [b"\x01", encode_text(name), encode_text(field.description), _KINDS[field.base_type][0]]
        except (KeyError, *UNFIT) as error:
            raise WireError(f"not encodable: {error}", f"fields.{name!r}") from None
        parts.append(_counted(field.aspects, f"fields.{name!r}.aspects"))
        for aspect, value in field.aspects.items():
            try:
                parts.append(encode_text(aspect))
            except UNFIT as error:
                raise WireError(f"not encodable: {error}", f"fields.{name!r}.aspects") from None
            parts.append(_value(value, f"fields.{name!r}.aspects.{aspect}", depth))
    parts.append(b"\x00")
    return b"".join(parts)


def _counted(things: Mapping[str, Any] | tuple[str, ...], name: str) -> bytes:
    if len(things) > _MOST:
        raise WireError(f"{len(things)}, the wire counts to {_MOST}", name)
    return _U16.pack(len(things))


def _nothing(value: Any, _depth: int) -> bytes:
    if value is not None:
        raise TypeError("only None is NOTHING")
    return b""


def _text(value: str, _depth: int) -> bytes:
    return encode_text(value)


def _boolean(value: bool, _depth: int) -> bytes:  # noqa: FBT001 - it is the value, not a switch
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    raise TypeError("only True and False are BOOLEAN")


def _timespan(value: Any, _depth: int) -> bytes:
    start, end, period = value
    return _TWO_INT64.pack(start, end) + encode_text(period)


def _blob(value: Any, _depth: int) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("bytes expected")
    raw = bytes(value)
    return _U32.pack(len(raw)) + raw


def _one(form: struct.Struct) -> Callable[[Any, int], bytes]:
    return lambda value, _depth: form.pack(value)


def _several(form: struct.Struct) -> Callable[[Any, int], bytes]:
    return lambda value, _depth: form.pack(*value)


def _variant(value: Any, depth: int) -> bytes:
    if depth >= MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep", "variant")
    return _value(value, "variant", depth + 1)


def _infotable(value: Any, depth: int) -> bytes:
    if not isinstance(value, InfoTable):
        raise TypeError("an InfoTable expected")
    return _table(value, depth + 1)


_PAYLOADS: dict[BaseType, Callable[[Any, int], bytes]] = {
    BaseType.NOTHING: _nothing,
    BaseType.NUMBER: _one(_DOUBLE),
    BaseType.BOOLEAN: _boolean,
    BaseType.DATETIME: _one(_INT64),
    BaseType.TIMESPAN: _timespan,
    BaseType.INFOTABLE: _infotable,
    BaseType.LOCATION: _several(struct.Struct(">3d")),
    BaseType.IMAGE: _blob,
    BaseType.VARIANT: _variant,
    BaseType.BLOB: _blob,
    BaseType.INTEGER: _one(_INT32),
    BaseType.LONG: _one(_INT64),
    BaseType.VEC2: _several(struct.Struct(">2d")),
    BaseType.VEC3: _several(struct.Struct(">3d")),
    BaseType.VEC4: _several(struct.Struct(">4d")),
    BaseType.THINGCODE: _several(_THING_CODE),
}
#: Base type -> its byte and the writer of its payload; all types but those above are strings.
_KINDS = {
    base_type: (bytes((base_type.value & 0xFF,)), _PAYLOADS.get(base_type, _text)) for base_type in BaseType
}
