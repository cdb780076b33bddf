"""A simulated platform that listens: in a thread of its own inside tests, or from the command line.

with SimulatorServer() as server:
    server.platform.add_thing("pump-1", properties=[remote_property("Temp")])
    client = Client(server.url, server.app_key)
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from sandbox.thingworx.alwayson_calls import PATH
from sandbox.thingworx.alwayson_server import AlwaysOnFrontEnd
from sandbox.thingworx.control import ControlApi
from sandbox.thingworx.faults import Faults
from sandbox.thingworx.platform import Platform
from sandbox.thingworx.rest import MAX_BODY, RestFrontEnd

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.thingworx.platform import Settings

__all__ = ["DEFAULT_APP_KEY", "SimulatorServer"]

DEFAULT_APP_KEY: Final = "00000000-0000-4000-8000-simulator000"
_START_SECONDS: Final = 10.0


class SimulatorServer:
    """A platform on loopback with a control API beside it; a context manager.

    Args:
        port: Where the platform listens; 0 picks a free port.
        control_port: Where the control API listens; 0 picks one, None leaves it out.
        app_key: The application key it accepts.
        settings: The platform's switches.
        tls: Certificate (chain) and key files; without them it speaks plain HTTP.
        host: Address to listen on.

    Attributes:
        platform: The model; its methods may be called from any thread.
        faults: Rules and counters; likewise.
        alwayson: The AlwaysOn front end: its counters, connections, and requests to edges; likewise.
        url: `http(s)://host:port`, known once started.
        ws_url: `ws(s)://host:port/Thingworx/WS`, the address of AlwaysOn.
        control_url: The same of the control API; empty without one.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        control_port: int | None = 0,
        app_key: str = DEFAULT_APP_KEY,
        settings: Settings | None = None,
        tls: tuple[Path | str, Path | str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.platform = Platform(settings, app_keys=[app_key])
        self.faults = Faults()
        self.alwayson = AlwaysOnFrontEnd(self.platform, self.faults)
        self.app_key = app_key
        self.url = ""
        self.ws_url = ""
        self.control_url = ""
        self._address = (host, port)
        self._control_port = control_port
        self._tls = tls
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen.

        Raises:
            OSError: The port is taken, or a certificate file can't be read.
            TimeoutError: It didn't come up within 10 s.
        """
        self._thread = threading.Thread(target=self._run, name="thingworx-simulator", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise TimeoutError("the ThingWorx simulator did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Close all connections and end the thread; a second call does nothing."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_SECONDS)
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started this one
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        host, port = self._address
        context = None
        if self._tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*self._tls)
        runners = []
        try:
            site = web.Application(client_max_size=MAX_BODY)
            self.alwayson.add_to(site)
            RestFrontEnd(self.platform, self.faults).add_to(site)
            scheme = "https" if context else "http"
            runners.append(web.AppRunner(site, access_log=None, shutdown_timeout=0.5))
            self.url = f"{scheme}://{host}:{await _listen(runners[0], host, port, context)}"
            self.ws_url = f"ws{self.url.removeprefix('http')}{PATH}"
            if self._control_port is not None:
                control = ControlApi(self.platform, self.faults, self.alwayson).application()
                runners.append(web.AppRunner(control, access_log=None, shutdown_timeout=0.5))
                self.control_url = f"http://{host}:{await _listen(runners[1], host, self._control_port)}"
            self._started.set()
            await self._stop.wait()
        finally:
            for runner in runners:
                await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    return int(runner.addresses[0][1])
