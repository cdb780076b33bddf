"""The one message that carries all telemetry, encoded at speed."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.codes import BaseType, Characteristic, EntityType, Method
from lambdas.thingworx.alwayson.encode import UNFIT, encode_shape, encode_text, encode_value
from lambdas.thingworx.alwayson.messages import encode_entity
from lambdas.thingworx.alwayson.model import Field
from lambdas.thingworx.alwayson.multipart import CHUNK_SIZE, MAX_MESSAGE_SIZE, frames_of
from lambdas.thingworx.alwayson.wire_forms import to_wire
from lambdas.thingworx.base_types import SUPPORTED, TEXT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.thingworx.alwayson.model import Ids
    from lambdas.thingworx.infotable import ValueRow

__all__ = ["NAMED_VTQ", "UPDATE_SERVICE", "encode_update"]

UPDATE_SERVICE = "UpdateSubscribedPropertyValues"
#: Fields of the NamedVTQ data shape: one row is one property's value at one time.
NAMED_VTQ = {
    "name": BaseType.STRING,
    "value": BaseType.VARIANT,
    "time": BaseType.DATETIME,
    "quality": BaseType.STRING,
}

_STRING, _DATETIME, _VARIANT = BaseType.STRING, BaseType.DATETIME, BaseType.VARIANT
_ONE_ROW = b"\x01\x00\x01"
_ROW = b"\x01" + struct.pack(">H", len(NAMED_VTQ))
_HEAD = b"".join(
    (
        bytes((Characteristic.SERVICES,)),
        encode_text(UPDATE_SERVICE),
        b"\x00",
        bytes((BaseType.INFOTABLE,)),
        encode_shape({"values": Field(BaseType.INFOTABLE)}),
        _ONE_ROW,
        bytes((BaseType.INFOTABLE,)),
        encode_shape({name: Field(base_type) for name, base_type in NAMED_VTQ.items()}),
    )
)
#: End of the inner rows, end of the outer row.
_TAIL = b"\x00\x00"
_TIME = struct.Struct(">Bq")


def encode_update(
    thing: str,
    rows: Iterable[ValueRow],
    ids: Ids,
    *,
    chunk_size: int = CHUNK_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> list[bytes]:
    """The UpdateSubscribedPropertyValues request of these rows, as the frames to send.

    The same bytes as `encode_message` makes of the request, at several times its speed.

    Args:
        thing: name of the Thing, as it was bound.
        rows: base type by name; values in its JSON form, as `convert` gives it.
        ids: of the header.
        chunk_size: largest frame in bytes.
        max_message_size: what the receiver takes, in bytes.

    Raises:
        WireError: a value isn't of its base type, or all of it is larger than a receiver takes.
    """
    try:
        entity = encode_entity(EntityType.THINGS, thing)
    except UNFIT as error:
        raise WireError(f"not encodable: {error}", "entityName") from None
    parts = [entity, _HEAD]
    add = parts.append
    writers = _WRITERS
    try:
        for name, base_type, value, time, quality in rows:
            add(_name_cell(name))
            add(writers[base_type](value, time))
            add(_text_cell(quality))
    except WireError as error:
        raise error.inside(_row_at(parts)) from None
    except (KeyError, *UNFIT) as error:
        raise WireError(f"not encodable: {error!r}", _row_at(parts)) from None
    add(_TAIL)
    return frames_of(
        ids,
        Method.POST,
        b"".join(parts),
        len(entity),
        chunk_size=chunk_size,
        max_message_size=max_message_size,
    )


def _row_at(parts: list[bytes]) -> str:
    """The row that was being encoded: each takes three parts, after the two before them."""
    return f"params.values.rows[{(len(parts) - 2) // 3}]"


# Names of properties and qualities repeat; the bounds keep texts of strangers from filling the memory.
@lru_cache(maxsize=4096)
def _name_cell(name: str) -> bytes:
    return _ROW + bytes((_STRING,)) + encode_text(name) + bytes((_VARIANT,))


@lru_cache(maxsize=64)
def _text_cell(text: str) -> bytes:
    return bytes((_STRING,)) + encode_text(text)


def _fixed(base_type: BaseType, form: str) -> Callable[[Any, int], bytes]:
    """Value and time in one go; `form` is struct's letter for the payload."""
    pack, mark = struct.Struct(f">B{form}Bq").pack, base_type.value
    return lambda value, time: pack(mark, value, _DATETIME, time)


def _boolean(value: Any, time: int) -> bytes:
    if value is not True and value is not False:
        raise TypeError("only True and False are BOOLEAN")
    return bytes((BaseType.BOOLEAN, value)) + _TIME.pack(_DATETIME, time)


def _string(value: str, time: int) -> bytes:
    return b"\x00" + encode_text(value) + _TIME.pack(_DATETIME, time)


def _variant(value: dict[str, Any], time: int) -> bytes:
    """A VARIANT property's value; the cell is the variant, so it isn't wrapped again."""
    return encode_value(to_wire("VARIANT", value).value) + _TIME.pack(_DATETIME, time)


def _general(base_type: str) -> Callable[[Any, int], bytes]:
    return lambda value, time: encode_value(to_wire(base_type, value)) + _TIME.pack(_DATETIME, time)


_WRITERS: dict[str, Callable[[Any, int], bytes]] = {
    **{base_type: _general(base_type) for base_type in SUPPORTED},
    **dict.fromkeys(TEXT_TYPES - {"XML"}, _string),
    "NUMBER": _fixed(BaseType.NUMBER, "d"),
    "INTEGER": _fixed(BaseType.INTEGER, "i"),
    "LONG": _fixed(BaseType.LONG, "q"),
    "DATETIME": _fixed(BaseType.DATETIME, "q"),
    "VARIANT": _variant,
    "BOOLEAN": _boolean,
}
