"""Large messages go in chunks, come together in any order, and never hold more than they may."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    Auth,
    BaseType,
    Bind,
    Chunk,
    Ids,
    InfoTable,
    Message,
    Method,
    Reassembler,
    Request,
    Response,
    Value,
    decode_message,
    encode_message,
)
from lambdas.thingworx.alwayson.messages import encode_body, encode_chunk
from tests.unit.thingworx.alwayson import strategies

IDS = Ids(30, 4, 777)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.time


def put(size: int, ids: Ids = IDS) -> Request:
    params = InfoTable.of({"Big": Value(BaseType.STRING, "x" * size)})
    return Request(ids, Method.PUT, 10, "ThingA", 1, "Big", params)


def cut(message: Message, places: list[int], chunk_size: int = 8192) -> list[bytes]:
    """Frames of a message whose body is cut at these places, counted after the entity."""
    code, body, entity_size = encode_body(message)
    entity, rest = body[:entity_size], body[entity_size:]
    ends = [0, *places, len(rest)]
    return [
        encode_chunk(Chunk(message.ids, code, index + 1, len(ends) - 1, chunk_size, entity, rest[start:end]))
        for index, (start, end) in enumerate(itertools.pairwise(ends))
    ]


def joined(frames: list[bytes], reassembler: Reassembler | None = None) -> Message:
    reassembler = reassembler or Reassembler(Clock())
    *early, last = [reassembler.receive(frame) for frame in frames]
    assert early == [None] * len(early)
    assert last is not None
    assert len(reassembler) == 0
    return last


SMALL: list[Message] = [
    put(20),
    Response(IDS, 0x40, "why", InfoTable.of({"result": Value(BaseType.STRING, "é中😀")})),
    Bind(IDS, ("ThingA", "*SN-1")),
    Bind(IDS, ("ThingA",), method=Method.UNBIND),
]


@pytest.mark.parametrize("message", SMALL, ids=lambda message: type(message).__name__)
def test_message_split_at_any_byte_comes_together_in_both_orders(message: Message) -> None:
    _, body, entity_size = encode_body(message)
    for place in range(len(body) - entity_size + 1):
        frames = cut(message, [place])
        assert joined(frames) == message
        assert joined(frames[::-1]) == message


@settings(max_examples=80, deadline=None)
@given(
    (strategies.requests | strategies.responses | strategies.binds).filter(
        lambda message: not isinstance(message, Request) or len(message.entity_name.encode()) < 20
    ),
    st.integers(70, 300),
    st.randoms(use_true_random=False),
)
def test_any_message_comes_together_from_shuffled_chunks(
    message: Message, chunk_size: int, random: object
) -> None:
    frames = encode_message(message, chunk_size=chunk_size)
    assert all(len(frame) <= chunk_size for frame in frames)
    getattr(random, "shuffle")(frames)  # noqa: B009 - hypothesis gives no type for it
    assert joined(frames) == message


@pytest.mark.parametrize("size", range(8100, 8200))
def test_no_frame_is_larger_than_8192_bytes(size: int) -> None:
    frames = encode_message(put(size))
    assert max(map(len, frames)) <= 8192
    assert joined(frames) == put(size)


def test_body_that_just_fits_goes_whole() -> None:
    def frames(spare: int) -> list[bytes]:
        body = 8192 - 15 - 6 - spare
        return encode_message(Response(IDS, 0x80, "x" * (body - 6)))

    assert [frame[14] for frame in frames(0)] == [0]
    assert [frame[14] for frame in frames(-1)] == [1, 1]


def test_empty_last_chunk_is_taken() -> None:
    message = SMALL[1]
    _, body, _ = encode_body(message)
    frames = cut(message, [len(body)])
    assert len(frames[-1]) == 21
    assert joined(frames) == message


def test_single_chunk_is_a_message() -> None:
    assert joined(cut(put(20), [])) == put(20)


def test_padding_after_the_last_chunk_is_ignored() -> None:
    frames = cut(put(20), [9])
    message = joined([frames[0], frames[1] + bytes(5)])
    assert message == put(20)
    assert isinstance(message, Request)
    assert message.trailing == 5


def test_chunks_of_messages_with_other_ids_or_direction_are_kept_apart() -> None:
    messages: list[Message] = [
        put(20),
        put(30, Ids(30, 5, 777)),
        put(40, Ids(31, 4, 777)),
        Response(IDS, 0x40, "x" * 20),
    ]
    frames = [cut(message, [5]) for message in messages]
    reassembler = Reassembler(Clock())
    assert [reassembler.receive(first) for first, _ in frames] == [None] * 4
    assert [reassembler.receive(second) for _, second in frames] == messages


def test_whole_messages_pass_between_chunks() -> None:
    first, second = cut(put(20), [5])
    reassembler = Reassembler(Clock())
    assert reassembler.receive(first) is None
    assert reassembler.receive(encode_message(SMALL[1])[0]) == SMALL[1]
    assert reassembler.receive(second) == put(20)


def test_chunk_that_comes_twice_counts_once() -> None:
    first, second = cut(put(20), [5])
    assert joined([first, first, second]) == put(20)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("code", {"code": Method.POST}),
        ("sessionId", {"ids": Ids(30, 4, 778)}),
        ("chunkCount", {"chunk_count": 3}),
        ("chunkSize", {"chunk_size": 4096}),
        ("entity", {"entity": b"\x0a\x06ThingB"}),
    ],
)
def test_chunk_that_contradicts_the_others_ends_the_message(field: str, change: dict[str, object]) -> None:
    first, second = cut(put(20), [5])
    chunk = decode_message(second)
    assert isinstance(chunk, Chunk)
    other = Chunk(**{name: getattr(chunk, name) for name in Chunk.__slots__} | change)
    reassembler = Reassembler(Clock())
    reassembler.receive(first)
    with pytest.raises(WireError) as caught:
        reassembler.receive(encode_chunk(other))
    assert caught.value.field == field
    assert (len(reassembler), reassembler.dropped) == (0, 1)
    assert joined([first, second], reassembler) == put(20)


def test_same_chunk_with_other_data_ends_the_message() -> None:
    first, _ = cut(put(20), [5])
    reassembler = Reassembler(Clock())
    reassembler.receive(first)
    with pytest.raises(WireError, match="data"):
        reassembler.receive(first[:-1] + b"?")
    assert len(reassembler) == 0


def test_chunks_that_make_no_message_are_refused_when_complete() -> None:
    first, second = cut(put(20), [5])
    reassembler = Reassembler(Clock())
    reassembler.receive(first)
    with pytest.raises(WireError, match="params"):
        reassembler.receive(second[:-1])
    assert len(reassembler) == 0


def test_message_that_announces_more_than_the_limit_is_refused_at_its_first_chunk() -> None:
    chunk = Chunk(IDS, 0x40, 1, 129, 8192, b"", b"x")
    with pytest.raises(WireError) as caught:
        Reassembler(Clock()).receive(encode_chunk(chunk))
    assert caught.value.field == "chunkCount"
    assert Reassembler(Clock()).receive(encode_chunk(Chunk(IDS, 0x40, 1, 128, 8192, b"", b"x"))) is None


def test_own_messages_stop_at_the_limit_of_receivers() -> None:
    assert len(encode_message(put(1_040_000))) == 128
    with pytest.raises(WireError, match="at most 1048576"):
        encode_message(put(1_050_000))


def test_stale_partial_is_dropped_after_50_seconds() -> None:
    clock = Clock()
    reassembler = Reassembler(clock)
    first, second = cut(put(20), [5])
    reassembler.receive(first)
    clock.time = 49.9
    reassembler.expire()
    assert len(reassembler) == 1
    clock.time = 50.0
    assert reassembler.receive(second) is None
    assert reassembler.dropped == 1
    assert reassembler.receive(first) == put(20)


def test_oldest_partial_makes_room_when_there_are_too_many() -> None:
    reassembler = Reassembler(Clock(), max_partials=3)
    frames = [cut(put(20, Ids(request)), [5]) for request in range(4)]
    for first, _ in frames:
        reassembler.receive(first)
    assert (len(reassembler), reassembler.dropped) == (3, 1)
    assert reassembler.receive(frames[3][1]) == put(20, Ids(3))
    assert reassembler.receive(frames[0][1]) is None


def test_partials_hold_no_more_bytes_than_allowed() -> None:
    reassembler = Reassembler(Clock(), max_bytes=20_000)
    for request in range(50):
        reassembler.receive(encode_chunk(Chunk(Ids(request), 0x40, 1, 2, 8192, b"", bytes(8000))))
        assert len(reassembler) <= 2
    assert reassembler.dropped == 48


def test_empty_chunks_are_not_free() -> None:
    reassembler = Reassembler(Clock(), max_bytes=20_000)
    for chunk in range(1, 1000):
        reassembler.receive(encode_chunk(Chunk(IDS, 0x40, chunk, 40_000, 22, b"", b"")))
    assert reassembler.dropped >= 6


def test_name_that_leaves_no_room_for_data_is_refused() -> None:
    with pytest.raises(WireError, match="fills a frame"):
        encode_message(Request(IDS, Method.GET, 10, "x" * 8180, 1, "y"))


def test_claims_are_never_cut() -> None:
    with pytest.raises(WireError, match="claims"):
        encode_message(Auth(IDS, {"appKey": "x" * 8192}))
