"""Messages and values as JSON for people: the wire trace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lambdas.thingworx.alwayson.codes import BaseType, Characteristic, Method, status_text
from lambdas.thingworx.alwayson.messages import REQUEST_METHODS, entity_of
from lambdas.thingworx.alwayson.model import Auth, Bind, Chunk, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.thingworx.alwayson.model import Field, Ids, InfoTable, Message, Other, Value

__all__ = ["message_json", "table_json", "value_json"]

_CHARACTERISTICS = {
    Characteristic.CUSTOM: "Custom",
    Characteristic.PROPERTIES: "Properties",
    Characteristic.SERVICES: "Services",
    Characteristic.EVENTS: "Events",
    Characteristic.PROPERTIES_VTQ: "PropertiesVTQ",
    Characteristic.UNKNOWN: "Unknown",
}


def value_json(value: Value) -> dict[str, Any]:
    """`{"baseType", "value"}`; bytes as hex, NaN and infinities as text."""
    form = _FORMS.get(value.base_type)
    return {
        "baseType": value.base_type.name,
        "value": value.value if form is None else form(value.value),
    }


def table_json(table: InfoTable) -> dict[str, Any]:
    """`{"fields": [...], "rows": [{name: cell}]}`."""
    return {
        "fields": [_field(name, field) for name, field in table.fields.items()],
        "rows": [
            {name: value_json(cell) for name, cell in zip(table.fields, row, strict=True)}
            for row in table.rows
        ],
    }


def message_json(message: Message | Chunk) -> dict[str, Any]:
    """Header and body, with the number of bytes after it that mean nothing."""
    match message:
        case Chunk():
            return {**_header(message.ids, message.code, multipart=1), **_chunk(message)}
        case Auth():
            code: int = message.method
            body: dict[str, Any] = {"kind": message.method.name, "claims": dict(message.claims)}
        case Bind():
            code, body = message.method, _bind(message)
        case Request():
            code, body = message.method, _request(message)
        case Response():
            code, body = message.status, _response(message)
        case _:
            return {**_header(message.ids, message.code, multipart=0), **_other(message)}
    return {**_header(message.ids, code, multipart=0), **body, "trailingBytes": message.trailing}


def _header(ids: Ids, code: int, *, multipart: int) -> dict[str, Any]:
    return {
        "version": 1,
        "code": f"0x{code:02x}",
        "requestId": ids.request,
        "endpointId": ids.endpoint,
        "sessionId": ids.session,
        "multipart": multipart,
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    numbers = {"chunkId": chunk.chunk_id, "chunkCount": chunk.chunk_count, "chunkSize": chunk.chunk_size}
    if chunk.code in REQUEST_METHODS:
        entity_type, name = entity_of(chunk)
        entity = {"entityType": entity_type, "entityName": name}
        return {"kind": "MULTIPART_REQUEST", **numbers, **entity, "data": chunk.data.hex()}
    # Binds share the layout of responses; their chunks are nothing but names, which a trace can spare.
    shown = {} if chunk.code in (Method.BIND, Method.UNBIND) else {"data": chunk.data.hex()}
    return {"kind": "MULTIPART_RESPONSE", **numbers, **shown}


def _bind(message: Bind) -> dict[str, Any]:
    gateway = message.gateway
    return {
        "kind": message.method.name,
        "gatewayMarker": int(gateway is not None),
        "gatewayName": gateway.name if gateway else None,
        "gatewayType": gateway.type if gateway else None,
        "count": len(message.names),
        "names": list(message.names),
    }


def _request(message: Request) -> dict[str, Any]:
    return {
        "kind": "REQUEST",
        "method": message.method.name,
        "entityType": message.entity_type,
        "entityName": message.entity_name,
        "characteristic": _CHARACTERISTICS.get(message.characteristic, message.characteristic),  # type: ignore[call-overload]
        "target": message.target,
        "headers": [{"name": name, "value": value} for name, value in message.headers],
        **_content(message.params, "paramsType", "params"),
    }


def _response(message: Response) -> dict[str, Any]:
    return {
        "kind": "RESPONSE",
        "status": status_text(message.status),
        "reasonMarker": int(message.reason is not None),
        "reason": message.reason,
        **_content(message.content, "contentType", "content"),
    }


def _other(message: Other) -> dict[str, Any]:
    kind = "KEEP_ALIVE" if message.code == Method.KEEP_ALIVE else "UNKNOWN"
    return {"kind": kind, "body": message.body.hex(), "trailingBytes": 0}


def _content(table: InfoTable | None, kind: str, name: str) -> dict[str, Any]:
    base_type = BaseType.NOTHING if table is None else BaseType.INFOTABLE
    return {kind: base_type.name, name: None if table is None else table_json(table)}


def _field(name: str, field: Field) -> dict[str, Any]:
    return {
        "name": name,
        "description": field.description,
        "baseType": field.base_type.name,
        "aspects": {aspect: value_json(value) for aspect, value in field.aspects.items()},
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _numbers(value: tuple[float, ...]) -> list[float | str]:
    return [_number(number) for number in value]


_FORMS: dict[BaseType, Callable[[Any], Any]] = {
    BaseType.NUMBER: _number,
    BaseType.TIMESPAN: lambda value: {"start": value.start, "end": value.end, "period": value.period},
    BaseType.INFOTABLE: table_json,
    BaseType.LOCATION: lambda value: {
        "longitude": _number(value.longitude),
        "latitude": _number(value.latitude),
        "elevation": _number(value.elevation),
    },
    BaseType.IMAGE: bytes.hex,
    BaseType.VARIANT: value_json,
    BaseType.BLOB: bytes.hex,
    BaseType.VEC2: _numbers,
    BaseType.VEC3: _numbers,
    BaseType.VEC4: _numbers,
    BaseType.THINGCODE: lambda value: {"domainId": value.domain_id, "instanceId": value.instance_id},
}
