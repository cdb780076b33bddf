"""Whatever the bytes: a message comes out or one typed error, in bounded time and memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import ConnectorError, WireError
from lambdas.thingworx.alwayson import (
    BaseType,
    Reassembler,
    Value,
    decode_infotable,
    decode_message,
    decode_value,
    message_json,
    table_json,
    value_json,
)
from tests.unit.thingworx.alwayson.corpus import VECTORS, Vector

HEADER = "01{code}000001f50000002a0000030900"
RESPONSE = HEADER.format(code="40")
REQUEST = HEADER.format(code="03")
BIND = HEADER.format(code="0a")
AUTH = HEADER.format(code="14")


def read_as_anything(data: bytes) -> None:
    for read in (
        lambda: message_json(decode_message(data)),
        lambda: value_json(decode_value(data)),
        lambda: table_json(decode_infotable(data)[0]),
        lambda: Reassembler(lambda: 0.0).receive(data),
    ):
        try:
            read()
        except WireError as error:
            assert error.field  # noqa: PT017 - the other outcome, no error, is as good
            assert error.offset is not None  # noqa: PT017 - same
            assert 0 <= error.offset <= len(data) + 15  # noqa: PT017 - same


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
@example(b"")
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    read_as_anything(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["01400000000100000000000003090000", REQUEST, BIND, AUTH]), st.binary(max_size=60))
def test_random_bodies_are_read_or_refused(header: str, body: bytes) -> None:
    read_as_anything(bytes.fromhex(header) + body)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([vector for vector in VECTORS if len(vector.data) < 2000]),
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.integers(0, 3),
            st.binary(min_size=1, max_size=2) | st.sampled_from([b"\x80", b"\x05", b"\xff", b"\xff\xff"]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_mutated_vectors_are_read_or_refused(vector: Vector, changes: list[tuple[int, int, bytes]]) -> None:
    data = vector.data
    for place, removed, added in changes:
        at = place % (len(data) + 1)
        data = data[:at] + added + data[at + removed :]
    read_as_anything(data)


@pytest.mark.parametrize(
    ("data", "offset", "field"),
    [
        ("", 0, "version"),
        ("02" + RESPONSE[2:] + "00ff", 0, "version"),
        ("0140000001f500", 2, "requestId, endpointId, sessionId"),
        (RESPONSE[:-2] + "0200ff", 14, "multipart"),
        (RESPONSE, 15, "reasonMarker"),
        (RESPONSE + "02ff", 15, "reasonMarker"),
        (RESPONSE + "0105616263", 16, "reason"),
        (RESPONSE + "0102c328ff", 16, "reason"),
        (RESPONSE + "00", 16, "contentType"),
        (RESPONSE + "0000", 16, "contentType"),
        (RESPONSE + "000501ffffffff", 18, "content.fields[0].name"),
        (RESPONSE + "0005010178001300000000", 21, "content.fields[0].baseType"),
        (RESPONSE + "000501017800010001", 22, "content.fields[0].aspectCount"),
        (RESPONSE + "0005010178000100010155130000", 26, "content.fields[0].aspects.U"),
        (RESPONSE + "000501017800000000" + "0101780000000000", 25, "content.fields[1].name"),
        (RESPONSE + "0005010178000100000002", 25, "content.another row"),
        (RESPONSE + "00050101780001000000010002ff00", 26, "content.rows[0].cellCount"),
        (RESPONSE + "0005010178000100000001000113000000", 28, "content.rows[0].x"),
        (RESPONSE + "000501017800020000000100010207", 29, "content.rows[0].x.boolean"),
        (RESPONSE + "00050101780012000000010001120100", 30, "content.rows[0].x.variant.double"),
        (RESPONSE + "00050101780005000000010001050101790013", 33, "content.rows[0].x.fields[0].baseType"),
        (BIND + "02", 15, "gatewayMarker"),
        (BIND + "00ffff0141", 16, "count"),
        (BIND + "000002014105", 20, "names[1]"),
        (AUTH + "ff0161", 15, "claimCount"),
        (AUTH + "020161016201610163", 20, "claim name"),
        (REQUEST + "0a0141020142", 21, "headerCount"),
        (REQUEST + "0a014102014200", 22, "paramsType"),
        ("0103000001f50000002a0000030901" + "0000000300ff" + "0a0141", 15, "chunkId"),
        ("0103000001f50000002a0000030901" + "0004000300ff" + "0a0141", 15, "chunkId"),
        ("0103000001f50000002a0000030901" + "000100030005" + "0a0141", 19, "chunkSize"),
        ("0103000001f50000002a0000030901" + "0001000300ff" + "0a0541", 22, "entityName"),
        ("0140000001f50000002a0000030901" + "00010003", 15, "chunkId, chunkCount, chunkSize"),
    ],
)
def test_error_names_offset_and_field(data: str, offset: int, field: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_message(bytes.fromhex(data))
    assert (caught.value.offset, caught.value.field) == (offset, field)
    assert str(caught.value).startswith(f"offset {offset}, {field}: ")
    assert isinstance(caught.value, ConnectorError)


@pytest.mark.parametrize("number", [19, 24, 49, 53, 99, 103, 128, 200, 254])
def test_unused_base_types_are_refused(number: int) -> None:
    with pytest.raises(WireError, match=f"no base type {number}"):
        decode_value(bytes((number, 0, 0, 0, 0)))


def test_bytes_after_a_lone_value_are_refused() -> None:
    with pytest.raises(WireError, match="1 bytes after the value"):
        decode_value(bytes.fromhex("020100"))


def test_four_bytes_of_length_are_read_for_a_short_text_too() -> None:
    assert decode_value(bytes.fromhex("00800000024869")) == Value(BaseType.STRING, "Hi")


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"\x12" * 500_000, id="variants in variants"),
        pytest.param(bytes.fromhex("050101780005000000010001") * 40_000, id="tables in tables"),
        pytest.param(bytes.fromhex("05010178000100010155") * 50_000, id="tables in aspects"),
        pytest.param(bytes.fromhex("00ffffffff"), id="text of 2 GiB"),
        pytest.param(bytes.fromhex("15ffffffff"), id="bytes of 4 GiB"),
        pytest.param(bytes.fromhex("0501017800010000" + "0001ffff00"), id="65,535 cells"),
        pytest.param(bytes.fromhex("050101780001ffff0155"), id="65,535 aspects"),
    ],
)
def test_few_bytes_that_ask_for_much_are_refused(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode_value(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_short_rows_of_a_wide_table_do_not_fill_the_memory() -> None:
    wide = b"".join(b"\x01" + bytes((4,)) + b"%04x" % index + b"\x00\x00\x00\x00" for index in range(20_000))
    table = wide + b"\x00" + b"\x01\x00\x00" * 200_000 + b"\x00"
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="cells are missing"):
            decode_infotable(table)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
