"""One WebSocket as the front end uses it: whole messages out, frames in, and the ways a line can break.

aiohttp does the handshake and reads frames; what is sent is written to its transport as it stands, which is
what makes a frame that ends in the middle possible. A line that is half open stops reading at the transport:
the client's bytes pile up in the kernel, its pings stay unanswered and its closing goes unseen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import WSCloseCode, WSMsgType, web

from lambdas.thingworx.alwayson import CHUNK_SIZE, encode_message

if TYPE_CHECKING:
    from lambdas.thingworx.alwayson import Message
    from sandbox.thingworx.alwayson_counters import AlwaysOnCounters
    from sandbox.thingworx.faults import FaultRule

__all__ = ["Link", "open_link"]

_CLOSE_SECONDS: Final = 1.0
_SMALLEST_CHUNK: Final = 256
_UNSENT_LIMIT: Final = 4 << 20
_UNSENT_PAUSE: Final = 0.01
_SHORT: Final = 126
_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


async def open_link(http: web.Request, counters: AlwaysOnCounters) -> Link:
    """Upgrade a request; the answer names no extension and no subprotocol.

    Raises:
        web.HTTPBadRequest: It's no WebSocket handshake.
    """
    # aiohttp refuses a frame that reaches its limit, so the limit is one byte more than a frame may have.
    socket = web.WebSocketResponse(
        autoping=False, compress=False, max_msg_size=CHUNK_SIZE + 1, timeout=_CLOSE_SECONDS
    )
    await socket.prepare(http)
    asked = http.headers.get("Max-Frame-Size", "")
    largest = int(asked) if asked.isdecimal() else CHUNK_SIZE
    return Link(http, socket, min(max(largest, _SMALLEST_CHUNK), CHUNK_SIZE), counters)


class Link:
    """An open WebSocket.

    Attributes:
        socket: aiohttp's side of it.
        frozen: Half open: nothing is read or sent.
        remote: The client's address.
    """

    def __init__(
        self, http: web.Request, socket: web.WebSocketResponse, chunk_size: int, counters: AlwaysOnCounters
    ) -> None:
        assert http.transport is not None  # noqa: S101 - a request that was just upgraded has one
        self.socket = socket
        self.frozen = False
        self.remote = http.remote or ""
        self._transport = http.transport
        self._chunk_size = chunk_size
        self._counters = counters
        self._thawed = asyncio.Event()
        self._cut = False
        self._closing: asyncio.Task[bool] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closing is not None or self.socket.closed or self._transport.is_closing()

    @property
    def _congested(self) -> bool:
        """Whether the client doesn't read what it asks for."""
        # In this order: a TLS transport that has closed no longer knows its buffer.
        return not self._transport.is_closing() and self._transport.get_write_buffer_size() > _UNSENT_LIMIT

    async def receive(self) -> tuple[WSMsgType, bytes] | None:
        """The next binary message, ping or pong; None at the end. Texts are for tunnels, and passed over.

        What came in before the client closed is still read; what came in before this side cut is not.
        """
        while True:
            message = await self.socket.receive()
            if self.frozen:
                await self._thawed.wait()
            while self._congested:  # noqa: ASYNC110 - asyncio has no event for a transport's buffer
                await asyncio.sleep(_UNSENT_PAUSE)
            if self._cut or message.type in _ENDS:
                return None
            if message.type is not WSMsgType.TEXT:
                return message.type, bytes(message.data)

    def send(self, message: Message) -> None:
        """Send a message, in chunks where it is larger than a frame.

        Raises:
            WireError: It has no form on the wire, or is larger than any receiver takes.
        """
        frames = encode_message(message, chunk_size=self._chunk_size)
        if self.frozen or self.closed:
            return
        for frame in frames:
            self._counters.frame(len(frame))
            self._transport.write(_framed(WSMsgType.BINARY, frame))

    def pong(self, payload: bytes) -> None:
        """Answer a ping with its own payload."""
        if not self.frozen and not self.closed:
            self._transport.write(_framed(WSMsgType.PONG, payload))

    def cut(self, message: Message) -> None:
        """Send the first half of a message's first frame and close."""
        if not self.frozen and not self.closed:
            frame = _framed(WSMsgType.BINARY, encode_message(message, chunk_size=self._chunk_size)[0])
            self._transport.write(frame[: len(frame) // 2])
        self._cut = True
        self._transport.close()

    def freeze(self) -> None:
        """Become half open."""
        self.frozen = True
        self._thawed.clear()
        self._transport.pause_reading()

    def thaw(self) -> None:
        """Read and answer again; what would have been sent meanwhile is lost."""
        self.frozen = False
        self._thawed.set()
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection without a word."""
        self._cut = True
        self._transport.abort()
        self._thawed.set()

    def close(self, code: int = WSCloseCode.GOING_AWAY, reason: str = "") -> asyncio.Task[bool] | None:
        """Close in WebSocket's way, waiting a second for the client's answer; a half-open line is aborted."""
        if self.frozen:
            self.abort()
        elif not self.closed:
            self._closing = asyncio.create_task(self.socket.close(code=code, message=reason.encode()))
        return self._closing

    def break_by(self, rule: FaultRule, message: Message | None = None) -> None:
        """Break as a rule says; `message` is what is cut, and `silent` breaks nothing."""
        if rule.freeze:
            self.freeze()
        elif rule.cut and message is not None:
            self.cut(message)
        elif rule.drop or rule.cut:
            self.abort()
        elif rule.close is not None:
            self.close(rule.close)


def _framed(kind: WSMsgType, payload: bytes) -> bytes:
    """A frame with a length of 7 or 16 bits, as servers send: without a mask."""
    size = len(payload)
    if size < _SHORT:
        return bytes((0x80 | kind, size)) + payload
    return bytes((0x80 | kind, _SHORT)) + size.to_bytes(2, "big") + payload
