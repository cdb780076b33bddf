"""Messages larger than a frame: cut into chunks, and put together again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.codes import Method
from lambdas.thingworx.alwayson.messages import (
    CHUNK_HEADER_SIZE,
    HEADER_SIZE,
    decode_message,
    encode_body,
    encode_chunk,
    encode_header,
)
from lambdas.thingworx.alwayson.model import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.thingworx.alwayson.model import Ids, Message

__all__ = ["CHUNK_SIZE", "MAX_MESSAGE_SIZE", "STALE_SECONDS", "Reassembler", "encode_message", "frames_of"]

#: Largest frame in bytes, the vendor's default on both sides.
CHUNK_SIZE = 8192
#: Largest message in bytes, the default of the C SDK and of the Connection Server.
MAX_MESSAGE_SIZE = 1_048_576
#: How long the C SDK waits for the rest of a message: five of its message time-outs.
STALE_SECONDS = 50.0

_FIRST_STATUS = 0x40
_MOST_CHUNKS = 0xFFFF
#: What a held chunk costs beside its data, so that many empty ones count too.
_CHUNK_OVERHEAD = 128


def encode_message(
    message: Message, *, chunk_size: int = CHUNK_SIZE, max_message_size: int = MAX_MESSAGE_SIZE
) -> list[bytes]:
    """A message as the frames to send, in order.

    Raises:
        WireError: something in it has no form on the wire, or it is larger than a receiver takes.
    """
    code, body, entity_size = encode_body(message)
    return frames_of(
        message.ids, code, body, entity_size, chunk_size=chunk_size, max_message_size=max_message_size
    )


def frames_of(
    ids: Ids,
    code: int,
    body: bytes,
    entity_size: int,
    *,
    chunk_size: int = CHUNK_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> list[bytes]:
    """A body as the frames to send, cut as the C SDK cuts: the first chunk of a request is the shorter one.

    Args:
        ids: of the header.
        code: method or status.
        body: the whole body.
        entity_size: bytes at its start that name the entity, which every chunk repeats.
        chunk_size: largest frame in bytes.
        max_message_size: what the receiver takes, in bytes.

    Raises:
        WireError: it is larger than a receiver takes, or no data would fit into a chunk.
    """
    if HEADER_SIZE + CHUNK_HEADER_SIZE + len(body) <= chunk_size:
        return [encode_header(ids, code) + body]
    if code in (Method.AUTH, Method.CLEARAUTH):
        raise WireError(f"{len(body)} bytes don't fit into a frame of {chunk_size}", "claims")
    entity = body[:entity_size]
    room = chunk_size - HEADER_SIZE - CHUNK_HEADER_SIZE - entity_size
    if room <= entity_size:
        raise WireError(f"a name of {entity_size} bytes fills a frame of {chunk_size}", "entityName")
    count = -(-len(body) // room)
    if count * chunk_size > max_message_size or count > _MOST_CHUNKS:
        raise WireError(f"{count} chunks of {chunk_size} bytes, at most {max_message_size} bytes go", "body")
    return [
        encode_chunk(
            Chunk(
                ids,
                code,
                index + 1,
                count,
                chunk_size,
                entity,
                body[max(index * room, entity_size) : (index + 1) * room],
            )
        )
        for index in range(count)
    ]


@dataclass(slots=True)
class _Partial:
    first: Chunk
    since: float
    data: dict[int, bytes] = field(default_factory=dict)
    held: int = 0


class Reassembler:
    """Puts the chunks of one connection together.

    Bounded: partial messages are dropped, the oldest first, when they are older than `stale_seconds`,
    more than `max_partials`, or hold more than `max_bytes` in all.

    Attributes:
        dropped: how many partial messages were given up so far.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        max_message_size: int = MAX_MESSAGE_SIZE,
        max_partials: int = 64,
        max_bytes: int = 4 * MAX_MESSAGE_SIZE,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.dropped = 0
        self._now = now
        self._max_message_size = max_message_size
        self._max_partials = max_partials
        self._max_bytes = max_bytes
        self._stale_seconds = stale_seconds
        # A dict keeps the order of insertion, which is the order of age.
        self._partials: dict[tuple[bool, int, int], _Partial] = {}
        self._held = 0

    def __len__(self) -> int:
        """How many messages are partly here."""
        return len(self._partials)

    def receive(self, frame: bytes | bytearray | memoryview) -> Message | None:
        """Decode a frame; None when it is a chunk and others of its message are missing.

        Raises:
            WireError: the frame is malformed, contradicts earlier chunks of its message, announces more
                than `max_message_size`, or completes a message that is malformed. What was held of
                that message is dropped.
        """
        self.expire()
        message = decode_message(frame)
        return self._add(message) if isinstance(message, Chunk) else message

    def expire(self) -> None:
        """Drop what is stale."""
        limit = self._now() - self._stale_seconds
        while self._partials:
            key, partial = next(iter(self._partials.items()))
            if partial.since > limit:
                return
            self._drop(key)

    def _add(self, chunk: Chunk) -> Message | None:
        key = (chunk.code >= _FIRST_STATUS, chunk.ids.endpoint, chunk.ids.request)
        try:
            self._check(chunk, self._partials.get(key))
        except WireError:
            if key in self._partials:
                self._drop(key)
            raise
        partial = self._partials.setdefault(key, _Partial(chunk, self._now()))
        if chunk.chunk_id not in partial.data:
            partial.data[chunk.chunk_id] = chunk.data
            cost = len(chunk.data) + _CHUNK_OVERHEAD
            partial.held += cost
            self._held += cost
        if len(partial.data) == chunk.chunk_count:
            self._forget(key)
            return _whole(partial)
        while self._held > self._max_bytes or len(self._partials) > self._max_partials:
            self._drop(next(iter(self._partials)))
        return None

    def _check(self, chunk: Chunk, partial: _Partial | None) -> None:
        size = chunk.chunk_count * chunk.chunk_size
        if size > self._max_message_size:
            raise WireError(
                f"{size} bytes announced, at most {self._max_message_size} taken", "chunkCount", 17
            )
        if partial is None:
            return
        first = partial.first
        for name, offset, before, now in (
            ("code", 1, first.code, chunk.code),
            ("sessionId", 10, first.ids.session, chunk.ids.session),
            ("chunkCount", 17, first.chunk_count, chunk.chunk_count),
            ("chunkSize", 19, first.chunk_size, chunk.chunk_size),
            ("entity", 21, first.entity, chunk.entity),
            ("data", 21 + len(chunk.entity), partial.data.get(chunk.chunk_id, chunk.data), chunk.data),
        ):
            if before != now:
                raise WireError("not what another chunk of the message said", name, offset)

    def _forget(self, key: tuple[bool, int, int]) -> None:
        self._held -= self._partials.pop(key).held

    def _drop(self, key: tuple[bool, int, int]) -> None:
        self._forget(key)
        self.dropped += 1


def _whole(partial: _Partial) -> Message:
    first = partial.first
    data = [partial.data[index + 1] for index in range(first.chunk_count)]
    message = decode_message(b"".join((encode_header(first.ids, first.code), first.entity, *data)))
    # The header says that it isn't a chunk.
    assert not isinstance(message, Chunk)  # noqa: S101 - tells mypy, and holds by construction
    return message
