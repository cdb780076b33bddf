"""What the vendor's encoders wrote is read as they meant it, and written again byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    Bind,
    Chunk,
    Reassembler,
    decode_infotable,
    decode_message,
    decode_value,
    encode_infotable,
    encode_message,
    encode_value,
    message_json,
    table_json,
    value_json,
)
from lambdas.thingworx.alwayson.messages import encode_chunk
from tests.unit.thingworx.alwayson.corpus import BY_NAME, DOCUMENT, NOT_CANONICAL, VECTORS, Vector

by_name = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def as_json(kind: str, data: bytes) -> dict[str, Any]:
    if kind == "value":
        return value_json(decode_value(data))
    if kind == "infotable":
        table, trailing = decode_infotable(data)
        return {"table": table_json(table), "trailingBytes": trailing}
    return message_json(decode_message(data))


def written_again(kind: str, data: bytes) -> bytes:
    if kind == "value":
        return encode_value(decode_value(data))
    if kind == "infotable":
        return encode_infotable(decode_infotable(data)[0])
    message = decode_message(data)
    if isinstance(message, Chunk):
        return encode_chunk(message)
    (frame,) = encode_message(message, chunk_size=65_535)
    return frame


@by_name
def test_vector_is_decoded_to_what_it_says(vector: Vector) -> None:
    decoded = json.loads(json.dumps(as_json(vector.kind, vector.data), allow_nan=False))
    assert decoded == vector.decode


@by_name
def test_vector_is_encoded_to_the_same_bytes_where_it_is_canonical(vector: Vector) -> None:
    again = written_again(vector.kind, vector.data)
    if vector.name in NOT_CANONICAL:
        assert again != vector.data
        expected = {**vector.decode, "trailingBytes": 0}
        assert as_json(vector.kind, again) == expected
    else:
        assert again == vector.data


@by_name
def test_vector_cut_short_anywhere_is_refused_with_its_place(vector: Vector) -> None:
    whole = len(vector.data) - vector.decode.get("trailingBytes", 0)
    if "chunkId" in vector.decode:
        # What is left of a chunk's data is data: only its header can be cut short.
        entity = 2 + len(vector.decode["entityName"]) if "entityName" in vector.decode else 0
        whole = 21 + entity
    for size in range(min(whole, 3000)):
        with pytest.raises(WireError) as caught:
            as_json(vector.kind, vector.data[:size])
        assert caught.value.offset is not None
        assert caught.value.offset <= size
        assert caught.value.field


def test_every_vector_of_the_list_of_exceptions_exists() -> None:
    assert NOT_CANONICAL.keys() <= BY_NAME.keys()


def frames_of(group: dict[str, Any]) -> list[bytes]:
    return [BY_NAME[name].data for name in group["frames"]]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_chunks_of_a_request_make_the_message_in_any_order(order: list[int]) -> None:
    group = next(entry for entry in DOCUMENT["multipart"] if "PUT" in entry["group"])
    frames = frames_of(group)
    reassembler = Reassembler(lambda: 0.0)
    *early, last = [reassembler.receive(frames[index]) for index in order]
    assert early == [None, None]
    assert last is not None
    assert message_json(last) == group["reassembled"]
    assert encode_message(last, chunk_size=256) == frames


def test_chunks_of_a_bind_make_the_message() -> None:
    group = next(entry for entry in DOCUMENT["multipart"] if "BIND" in entry["group"])
    frames = frames_of(group)
    reassembler = Reassembler(lambda: 0.0)
    *early, last = [reassembler.receive(frame) for frame in frames]
    assert early == [None, None]
    assert isinstance(last, Bind)
    said = group["reassembled"]
    assert (len(last.names), last.names[0], last.names[-1]) == (
        said["count"],
        said["firstName"],
        said["lastName"],
    )
    assert encode_message(last) == frames


def test_response_in_chunks_makes_the_message_it_was_cut_from() -> None:
    group = next(entry for entry in DOCUMENT["multipart"] if "response" in entry["group"])
    said = group["reassembled"]
    whole = BY_NAME["edge reply to GET property Temp=21.5"]
    text = said["content"]["rows"][0]["Big"]["value"].encode()
    body = b"\x00\x05\x01\x03Big\x00\x00\x00\x00\x00\x01\x00\x01\x00" + (len(text) | 1 << 31).to_bytes(
        4, "big"
    )
    frame = whole.data[:2] + said["requestId"].to_bytes(4, "big") + whole.data[6:15] + body + text + b"\x00"
    message = decode_message(frame)
    assert not isinstance(message, Chunk)
    assert message_json(message) == said
    frames = encode_message(message, chunk_size=256)
    reassembler = Reassembler(lambda: 0.0)
    assert [reassembler.receive(frame) for frame in frames] == [None, None, message]
