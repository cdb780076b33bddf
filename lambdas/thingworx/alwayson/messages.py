"""Messages to and from bytes: the 15 bytes of header and the bodies of each kind."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.codes import Method
from lambdas.thingworx.alwayson.decode import read_infotable
from lambdas.thingworx.alwayson.encode import UNFIT, encode_infotable, encode_text
from lambdas.thingworx.alwayson.model import Auth, Bind, Chunk, Gateway, Ids, Other, Request, Response
from lambdas.thingworx.alwayson.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.thingworx.alwayson.model import InfoTable, Message

__all__ = [
    "CHUNK_HEADER_SIZE",
    "HEADER_SIZE",
    "REQUEST_METHODS",
    "decode_message",
    "encode_body",
    "encode_chunk",
    "encode_entity",
    "encode_header",
    "entity_of",
]

VERSION = 1
HEADER_SIZE = 15
CHUNK_HEADER_SIZE = 6
REQUEST_METHODS = frozenset({Method.GET, Method.PUT, Method.POST, Method.DELETE})

_HEADER = struct.Struct(">BBIIIB")
_IDS = struct.Struct(">III")
_CHUNK = struct.Struct(">HHH")
_U16 = struct.Struct(">H")
_FIRST_STATUS = 0x40
_INFOTABLE, _NOTHING = 0x05, 0xFF
_SMALLEST_PAIR = 2
_MOST_NAMES, _MOST_PAIRS, _HIGHEST_CODE = 0xFFFF, 0xFF, 0xFF


def decode_message(data: bytes | bytearray | memoryview) -> Message | Chunk:
    """One frame: a whole message, or a chunk of one.

    Bytes after a whole body mean nothing (the vendor's C SDK pads with zeros) and are only counted.
    A method that isn't known is no error.

    Raises:
        WireError: malformed.
    """
    reader = Reader(bytes(data))
    version = reader.u8("version")
    if version != VERSION:
        raise WireError(f"version {VERSION} expected, got {version}", "version", 0)
    code = reader.u8("code")
    ids = Ids(*reader.unpack(_IDS, "requestId, endpointId, sessionId"))
    if reader.marker("multipart"):
        return _read_chunk(reader, code, ids)
    if code >= _FIRST_STATUS:
        return _read_response(reader, code, ids)
    read = _BODIES.get(code)
    if read is None:
        return Other(ids, code, reader.take(reader.left, "body"))
    return read(reader, Method(code), ids)


def encode_header(ids: Ids, code: int, *, multipart: bool = False) -> bytes:
    """The 15 bytes before a body or a chunk's header.

    Raises:
        WireError: an id isn't of 32 bits.
    """
    try:
        return _HEADER.pack(VERSION, code, *ids, multipart)
    except UNFIT as error:
        raise WireError(f"not encodable: {error}", "header") from None


def encode_body(message: Message) -> tuple[int, bytes, int]:
    """Code and body of a message, and how many bytes at the start of the body name the entity.

    Raises:
        WireError: something in it has no form on the wire.
    """
    try:
        match message:
            case Request():
                return _request_body(message)
            case Response():
                return _response_body(message)
            case Bind():
                return _bind_body(message)
            case Auth():
                return _auth_body(message)
            case Other():
                return _checked(message.code, 0, _FIRST_STATUS - 1), bytes(message.body), 0
    except UNFIT as error:
        raise WireError(f"not encodable: {error}", type(message).__name__) from None


def encode_chunk(chunk: Chunk) -> bytes:
    """The frame of one chunk.

    Raises:
        WireError: a number in it is too large.
    """
    header = encode_header(chunk.ids, chunk.code, multipart=True)
    try:
        numbers = _CHUNK.pack(chunk.chunk_id, chunk.chunk_count, chunk.chunk_size)
    except UNFIT as error:
        raise WireError(f"not encodable: {error}", "chunk") from None
    return b"".join((header, numbers, chunk.entity, chunk.data))


def encode_entity(entity_type: int, entity_name: str) -> bytes:
    """Entity type and name as a request's body begins with them.

    Raises:
        ValueError, AttributeError: not encodable.
    """
    return bytes((entity_type,)) + encode_text(entity_name)


def entity_of(chunk: Chunk) -> tuple[int, str]:
    """Entity type and name of a chunk that has them."""
    reader = Reader(chunk.entity)
    return reader.u8("entityType"), reader.text("entityName")


def _read_chunk(reader: Reader, code: int, ids: Ids) -> Chunk:
    start = reader.pos
    chunk_id, count, size = reader.unpack(_CHUNK, "chunkId, chunkCount, chunkSize")
    if not 1 <= chunk_id <= count:
        raise WireError(f"1..{count} expected, got {chunk_id}", "chunkId", start)
    if reader.end > size:
        raise WireError(f"{size}, the frame has {reader.end} bytes", "chunkSize", start + 4)
    entity = b""
    if code in REQUEST_METHODS:
        start = reader.pos
        reader.u8("entityType")
        reader.text("entityName")
        entity = reader.data[start : reader.pos]
    return Chunk(ids, code, chunk_id, count, size, entity, reader.take(reader.left, "data"))


def _read_auth(reader: Reader, method: Method, ids: Ids) -> Auth:
    claims: dict[str, str] = {}
    for name, value, start in _read_pairs(reader, "claim"):
        if name in claims:
            raise WireError("the name of an earlier claim", "claim name", start)
        claims[name] = value
    return Auth(ids, claims, method, reader.left)


def _read_bind(reader: Reader, method: Method, ids: Ids) -> Bind:
    gateway = None
    if reader.marker("gatewayMarker"):
        gateway = Gateway(reader.text("gatewayName"), reader.text("gatewayType"))
    count = reader.count("count", each=1)
    names = tuple([reader.text(f"names[{index}]") for index in range(count)])
    return Bind(ids, names, gateway, method, reader.left)


def _read_request(reader: Reader, method: Method, ids: Ids) -> Request:
    entity_type = reader.u8("entityType")
    entity_name = reader.text("entityName")
    characteristic = reader.u8("characteristic")
    target = reader.text("characteristicName")
    headers = tuple([(name, value) for name, value, _ in _read_pairs(reader, "header")])
    params = _read_content(reader, "paramsType", "params")
    return Request(
        ids, method, entity_type, entity_name, characteristic, target, params, headers, reader.left
    )


def _read_response(reader: Reader, status: int, ids: Ids) -> Response:
    reason = reader.text("reason") if reader.marker("reasonMarker") else None
    content = _read_content(reader, "contentType", "content")
    return Response(ids, status, reason, content, reader.left)


def _read_pairs(reader: Reader, name: str) -> Iterable[tuple[str, str, int]]:
    count = reader.u8(f"{name}Count")
    if count * _SMALLEST_PAIR > reader.left:
        raise WireError(f"{count} announced, {reader.left} bytes left", f"{name}Count", reader.pos - 1)
    for _ in range(count):
        start = reader.pos
        yield reader.text(f"{name} name"), reader.text(f"{name} value"), start


def _read_content(reader: Reader, kind: str, name: str) -> InfoTable | None:
    code = reader.u8(kind)
    if code == _NOTHING:
        return None
    if code != _INFOTABLE:
        raise WireError(f"5 (INFOTABLE) or 255 (NOTHING) expected, got {code}", kind, reader.pos - 1)
    return read_infotable(reader, name)


def _auth_body(message: Auth) -> tuple[int, bytes, int]:
    if message.method not in (Method.AUTH, Method.CLEARAUTH):
        raise ValueError(f"method {message.method:#04x} takes no claims")
    return message.method, _pairs(message.claims.items()), 0


def _bind_body(message: Bind) -> tuple[int, bytes, int]:
    if message.method not in (Method.BIND, Method.UNBIND):
        raise ValueError(f"method {message.method:#04x} takes no names")
    if len(message.names) > _MOST_NAMES:
        raise ValueError(f"{len(message.names)} names, the wire counts to {_MOST_NAMES}")
    gateway = b"\x00"
    if message.gateway is not None:
        gateway = b"\x01" + encode_text(message.gateway.name) + encode_text(message.gateway.type)
    names = b"".join([encode_text(name) for name in message.names])
    return message.method, gateway + _U16.pack(len(message.names)) + names, 0


def _request_body(message: Request) -> tuple[int, bytes, int]:
    if message.method not in REQUEST_METHODS:
        raise ValueError(f"method {message.method:#04x} addresses no entity")
    entity = encode_entity(message.entity_type, message.entity_name)
    what = bytes((message.characteristic,)) + encode_text(message.target)
    body = b"".join((entity, what, _pairs(message.headers), _content(message.params, "params")))
    return message.method, body, len(entity)


def _response_body(message: Response) -> tuple[int, bytes, int]:
    reason = b"\x00" if message.reason is None else b"\x01" + encode_text(message.reason)
    body = reason + _content(message.content, "content")
    return _checked(message.status, _FIRST_STATUS, _HIGHEST_CODE), body, 0


def _pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    parts = [encode_text(name) + encode_text(value) for name, value in pairs]
    if len(parts) > _MOST_PAIRS:
        raise ValueError(f"{len(parts)} pairs, the wire counts to {_MOST_PAIRS}")
    return bytes((len(parts),)) + b"".join(parts)


def _content(table: InfoTable | None, name: str) -> bytes:
    if table is None:
        return b"\xff"
    try:
        return b"\x05" + encode_infotable(table)
    except WireError as error:
        raise error.inside(name) from None


def _checked(code: int, low: int, high: int) -> int:
    if not low <= code <= high:
        raise ValueError(f"code {code:#04x} isn't in {low:#04x}..{high:#04x}")
    return code


_BODIES: dict[int, Callable[[Reader, Method, Ids], Message]] = {
    **dict.fromkeys(REQUEST_METHODS, _read_request),
    Method.BIND: _read_bind,
    Method.UNBIND: _read_bind,
    Method.AUTH: _read_auth,
    Method.CLEARAUTH: _read_auth,
}
