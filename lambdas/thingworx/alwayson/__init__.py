"""The codec of ThingWorx AlwaysOn: bytes in, typed messages out, and back; no I/O and no clock."""

from __future__ import annotations

from lambdas.thingworx.alwayson.codes import (
    NO_ENDPOINT,
    NO_REQUEST,
    NO_SESSION,
    BaseType,
    Characteristic,
    EntityType,
    Method,
    Status,
    is_success,
    status_text,
)
from lambdas.thingworx.alwayson.decode import decode_infotable, decode_value
from lambdas.thingworx.alwayson.encode import encode_infotable, encode_value
from lambdas.thingworx.alwayson.messages import decode_message, encode_chunk
from lambdas.thingworx.alwayson.model import (
    NOTHING,
    Auth,
    Bind,
    Chunk,
    Field,
    Gateway,
    Ids,
    InfoTable,
    Location,
    Message,
    Other,
    Request,
    Response,
    ThingCode,
    Timespan,
    Value,
)
from lambdas.thingworx.alwayson.multipart import CHUNK_SIZE, MAX_MESSAGE_SIZE, Reassembler, encode_message
from lambdas.thingworx.alwayson.update import NAMED_VTQ, encode_update
from lambdas.thingworx.alwayson.wire_forms import from_wire, to_wire
from lambdas.thingworx.alwayson.wire_json import message_json, table_json, value_json

__all__ = [
    "CHUNK_SIZE",
    "MAX_MESSAGE_SIZE",
    "NAMED_VTQ",
    "NOTHING",
    "NO_ENDPOINT",
    "NO_REQUEST",
    "NO_SESSION",
    "Auth",
    "BaseType",
    "Bind",
    "Characteristic",
    "Chunk",
    "EntityType",
    "Field",
    "Gateway",
    "Ids",
    "InfoTable",
    "Location",
    "Message",
    "Method",
    "Other",
    "Reassembler",
    "Request",
    "Response",
    "Status",
    "ThingCode",
    "Timespan",
    "Value",
    "decode_infotable",
    "decode_message",
    "decode_value",
    "encode_chunk",
    "encode_infotable",
    "encode_message",
    "encode_update",
    "encode_value",
    "from_wire",
    "is_success",
    "message_json",
    "status_text",
    "table_json",
    "to_wire",
    "value_json",
]
