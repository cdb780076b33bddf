"""The codec-made platform on a real WebSocket, and a transport to it."""

# ruff: noqa: D102 - names say what happens
from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.alwayson_transport import AlwaysOnTransport, alwayson_transport
from tests.unit.thingworx.alwayson.peer import KEY, Peer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from websockets.http11 import Request, Response

    from lambdas.shared.secrets import Secret

#: Nothing in a test waits for a pause to end.
QUICK = Timeouts(retry_first=0.001, retry_most=0.002, close=0.2)


class Key:
    """A secret with versions."""

    def __init__(self, text: str = KEY, version: str = "v1") -> None:
        self.text, self.version = text, version
        self.read = 0

    def latest(self) -> tuple[str, str]:
        self.read += 1
        return self.text, self.version


class Serving:
    """Connections of a peer.

    Attributes:
        upgrades: requests that asked for a WebSocket.
        cut: how many messages are taken before the connection is cut, once; None: never.
        taken: whether the message at which it is cut is still taken.
        held: messages of these services are answered when `release` is set.
        closed: close code and reason of each connection that ended.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.upgrades: list[Request] = []
        self.answering: Callable[[ServerConnection, Request], Response | None] | None = None
        self.cut: int | None = None
        self.taken = True
        self.hold: set[str] = set()
        self.release = asyncio.Event()
        self.held = asyncio.Event()
        self.closed: list[tuple[int | None, str | None]] = []
        self.connection: ServerConnection | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/Thingworx"

    def upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        self.upgrades.append(request)
        return self.answering(connection, request) if self.answering else None

    async def talk(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.peer.connect()
        try:
            async for frame in connection:
                assert isinstance(frame, bytes)
                if self.cut is not None:
                    self.cut -= 1
                    if self.cut < 0:
                        self.cut = None
                        if self.taken:
                            self.peer.handle(frame)
                        connection.transport.abort()
                        return
                if any(service.encode() in frame for service in self.hold):
                    self.held.set()
                    await self.release.wait()
                for answer in self.peer.handle(frame):
                    await connection.send(answer)
        except ConnectionClosed:
            pass
        finally:
            self.closed.append((connection.close_code, connection.close_reason))

    async def say(self, frames: list[bytes]) -> None:
        """The platform sends on its own."""
        assert self.connection is not None
        for frame in frames:
            await self.connection.send(frame)


@asynccontextmanager
async def serving(peer: Peer | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Serving]:
    """A platform on a free port of loopback."""
    platform = Serving(peer or Peer())
    async with serve(
        platform.talk, "127.0.0.1", 0, process_request=platform.upgrade, compression=None, ssl=tls
    ) as server:
        platform.port = next(iter(server.sockets)).getsockname()[1]
        yield platform


def transport_to(
    platform: Serving, key: Key | None = None, *, timeouts: Timeouts = QUICK, **options: Any
) -> AlwaysOnTransport:
    secret = cast("Secret", key or Key())
    url = options.pop("url", platform.url)
    return alwayson_transport(url, secret, timeouts=timeouts, **options)


@asynccontextmanager
async def connected(
    peer: Peer | None = None, **options: Any
) -> AsyncIterator[tuple[Serving, AlwaysOnTransport]]:
    """A platform, and an open transport to it."""
    async with serving(peer) as platform:
        transport = transport_to(platform, **options)
        await transport.open()
        try:
            yield platform, transport
        finally:
            await transport.close()
