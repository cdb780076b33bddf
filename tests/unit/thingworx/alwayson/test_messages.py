"""Messages survive the wire, and what the peer may send beside the rules does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NO_REQUEST,
    NO_SESSION,
    Auth,
    Bind,
    Chunk,
    Ids,
    InfoTable,
    Message,
    Method,
    Other,
    Request,
    Response,
    Status,
    decode_message,
    encode_message,
    is_success,
    message_json,
    status_text,
)
from tests.unit.thingworx.alwayson import strategies
from tests.unit.thingworx.alwayson.corpus import BY_NAME

IDS = Ids(1, 2, 3)


def whole_frame(message: Message) -> bytes:
    (frame,) = encode_message(message, chunk_size=65_535)
    return frame


@settings(max_examples=250, deadline=None)
@given(strategies.messages, st.binary(max_size=5))
def test_messages_survive_the_wire_whatever_trails_them(message: Message, trailing: bytes) -> None:
    decoded = decode_message(whole_frame(message) + trailing)
    if isinstance(message, Other):
        assert decoded == Other(message.ids, message.code, message.body + trailing)
        return
    assert decoded == message
    assert not isinstance(decoded, (Chunk, Other))
    assert decoded.trailing == len(trailing)


@settings(max_examples=60, deadline=None)
@given(strategies.messages.filter(lambda message: not isinstance(message, Other)))
def test_message_cut_short_at_any_byte_is_refused(message: Message) -> None:
    frame = whole_frame(message)
    for size in range(len(frame)):
        with pytest.raises(WireError):
            decode_message(frame[:size])


def test_auth_is_written_as_the_vendor_writes_it() -> None:
    auth = Auth(Ids(1, 0, NO_SESSION), {"appKey": "0a1b2c3d-0000-1111-2222-333344445555"})
    assert encode_message(auth) == [BY_NAME["AUTH request appKey"].data]


def test_key_of_auth_is_not_in_its_repr() -> None:
    assert "secret" not in repr(Auth(IDS, {"appKey": "secret"}))


def test_claims_come_in_any_order() -> None:
    one, other = (
        decode_message(whole_frame(Auth(IDS, claims)))
        for claims in ({"userid": "u", "password": "p"}, {"password": "p", "userid": "u"})
    )
    assert one == other


def test_response_echoes_the_ids_of_its_request() -> None:
    request = decode_message(BY_NAME["platform->edge POST NotifyPropertyUpdate"].data)
    assert isinstance(request, Request)
    assert request.ids.request == 2_147_483_649
    response = whole_frame(Response(request.ids, Status.SUCCESS))
    assert response[2:14] == BY_NAME["platform->edge POST NotifyPropertyUpdate"].data[2:14]


def test_response_that_answers_nothing_is_a_response() -> None:
    message = decode_message(BY_NAME["server session-only response (requestId 0xFFFFFFFF)"].data)
    assert message == Response(Ids(NO_REQUEST, 5, 777), Status.SUCCESS)


@pytest.mark.parametrize("code", [0x00, 0x05, 0x09, 0x1F, 0x3F])
def test_unknown_method_is_kept_as_it_is(code: int) -> None:
    frame = bytes((1, code)) + bytes(13) + b"whatever"
    message = decode_message(frame)
    assert message == Other(Ids(0, 0, 0), code, b"whatever")
    assert whole_frame(message) == frame
    assert message_json(message)["kind"] == ("KEEP_ALIVE" if code == 0x1F else "UNKNOWN")


@pytest.mark.parametrize("status", range(0x40, 0x100))
def test_every_code_from_0x40_is_a_response(status: int) -> None:
    message = decode_message(whole_frame(Response(IDS, status, "")))
    assert message == Response(IDS, status, "")
    assert is_success(status) == (status < 0x60)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0x40, "0x40 SUCCESS(200)"),
        (0x60, "0x60 REDIRECT(300)"),
        (0x84, "0x84 NOT_FOUND(404)"),
        (0x94, "0x94 UNKNOWN(420)"),
        (0xA1, "0xa1 INVALID_SESSION(501)"),
        (0xE3, "0xe3 COMM_TIMEOUT(703)"),
    ],
)
def test_status_is_told_as_name_and_http_number(status: int, text: str) -> None:
    assert status_text(status) == text


def test_unlisted_entity_types_and_characteristics_are_kept() -> None:
    request = Request(IDS, Method.GET, 199, "x", 77, "y", headers=(("a", "1"), ("a", "2")))
    decoded = decode_message(whole_frame(request))
    assert decoded == request
    told = message_json(request)
    assert (told["entityType"], told["characteristic"]) == (199, 77)
    assert told["headers"] == [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]


@pytest.mark.parametrize(
    "message",
    [
        Request(IDS, Method.BIND, 10, "x", 2, "y"),
        Request(IDS, Method.GET, 256, "x", 2, "y"),
        Request(IDS, Method.GET, 10, "\udfff", 2, "y"),
        Request(IDS, Method.GET, 10, "x", 2, "y", headers=(("a", "b"),) * 256),
        Bind(IDS, ("x",), method=Method.AUTH),
        Bind(IDS, ("x",) * 65_536),
        Auth(IDS, {}, Method.BIND),
        Response(IDS, 0x3F),
        Response(IDS, 0x100),
        Other(IDS, 0x40),
        Response(Ids(2**32), 0x40),
        Response(Ids(-1), 0x40),
    ],
)
def test_message_that_has_no_form_on_the_wire_is_refused(message: Message) -> None:
    with pytest.raises(WireError):
        encode_message(message)


def test_empty_reason_and_no_reason_are_not_the_same() -> None:
    assert whole_frame(Response(IDS, 0x80, ""))[15:].hex() == "0100ff"
    assert whole_frame(Response(IDS, 0x80))[15:].hex() == "00ff"


def test_empty_table_is_not_the_same_as_none() -> None:
    assert whole_frame(Response(IDS, 0x40, None, InfoTable({})))[15:].hex() == "00050000"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_read(kind: Any) -> None:
    frame = BY_NAME["BIND response success"].data
    assert decode_message(kind(frame)) == decode_message(frame)
