"""The AlwaysOn front end: WebSockets at `/Thingworx/WS`, beside REST on the same port and the same Things.

Documented by PTC or captured from its clients: the address, that the key comes in the `appKey` header and
again in AUTH (browsers can't send the header), and that the server sends nothing before AUTH.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from sandbox.thingworx.alwayson_calls import PATH, Question
from sandbox.thingworx.alwayson_connection import Connection
from sandbox.thingworx.alwayson_counters import AlwaysOnCounters
from sandbox.thingworx.alwayson_edge import BoundThing
from sandbox.thingworx.alwayson_link import open_link
from sandbox.thingworx.errors import EdgeUnavailableError
from sandbox.thingworx.faults import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from lambdas.thingworx.alwayson import Response
    from sandbox.thingworx.faults import FaultRule, Faults
    from sandbox.thingworx.platform import Platform

__all__ = ["AlwaysOnFrontEnd", "LineAction"]

LineAction = Literal["drop", "close", "freeze", "thaw"]
_STOP_SECONDS = 0.3


class AlwaysOnFrontEnd:
    """Serves a platform over AlwaysOn, with faults.

    Attributes:
        counters: What it counts; read them from any thread.
    """

    def __init__(self, platform: Platform, faults: Faults) -> None:
        self.counters = AlwaysOnCounters()
        self._platform = platform
        self._faults = faults
        self._open: dict[int, Connection] = {}
        self._numbers = itertools.count(1)

    def add_to(self, app: web.Application) -> None:
        """Serve in this application; to be called before any route that takes all paths."""
        app.router.add_get(PATH, self.handle)
        app.on_shutdown.append(self._stop)

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """One connection, from handshake to close."""
        request = Request("UPGRADE", PATH, protocol="alwayson")
        self._faults.began(request)
        status = 0
        try:
            refusal = await self._refusal(http, self._faults.take(request))
            if refusal is None:
                link = await open_link(http, self.counters)
            status = refusal.status if refusal else 101
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self._faults.ended(status)
        if refusal is not None:
            return refusal
        self.counters.add("connections")
        number = next(self._numbers)
        connection = Connection(number, link, self._platform, self._faults, self.counters)
        self._open[number] = connection
        try:
            await connection.run()
        finally:
            del self._open[number]
        return link.socket

    async def _refusal(self, http: web.Request, rule: FaultRule | None) -> web.Response | None:
        """What is answered instead of the upgrade."""
        delay = self._faults.latency_ms + (rule.delay_ms if rule else 0)
        if delay:
            await asyncio.sleep(delay / 1000)
        if rule is not None and (rule.silent or rule.freeze):
            await asyncio.Event().wait()
        if rule is not None and rule.breaks:
            if http.transport is not None:
                http.transport.abort()
            return web.Response(status=499)
        if rule is not None and rule.redirect:
            return web.Response(status=302, headers={**rule.headers, "Location": rule.redirect})
        if rule is not None and rule.status is not None:
            return web.Response(status=rule.status, text=rule.body, headers=rule.headers)
        if self._faults.starting:
            return web.Response(status=503, text="ThingWorx is starting")
        return self._key_refusal(http.headers.get("appKey"))

    def _key_refusal(self, key: str | None) -> web.Response | None:
        policy = self._platform.settings.upgrade_key
        if policy == "ignore" or (policy == "check" and key is None) or key in self._platform.app_keys:
            return None
        return web.Response(status=401, text="Authentication failed")

    def request(self, thing: str, question: Question) -> Future[Response]:
        """Ask something of the edge that has bound a Thing; from any thread. Its refusals are answers too.

        Raises:
            EdgeUnavailableError: None has, over AlwaysOn. As the future's exception: it didn't answer.
        """
        with self._platform.lock:
            link = self._platform.edges.get(thing)
        if not isinstance(link, BoundThing):
            raise EdgeUnavailableError(thing)
        return link.request(question)

    def connections(self) -> list[dict[str, Any]]:
        """The open connections, with how many Things each has (those another took are that one's)."""
        edges = self._platform.edges
        found = []
        for connection in list(self._open.values()):
            bound = [link for name, link in list(connection.binder.things.items()) if edges.get(name) is link]
            found.append(
                {
                    "number": connection.number,
                    "remote": connection.link.remote,
                    "authenticated": bool(connection.session),
                    "session": connection.session,
                    "bound": len(bound),
                    "synchronised": sum(link.synchronised for link in bound),
                    "frozen": connection.link.frozen,
                }
            )
        return found

    def act(self, action: LineAction, number: int | None = None) -> int:
        """Do something to one connection or to all of them, from any thread; to how many.

        Args:
            action: `drop` them without a word, `close` them with 1001, `freeze` them half open, `thaw` those.
            number: Of the connection; None for all.
        """
        chosen = [c for c in list(self._open.values()) if number in {None, c.number}]
        for connection in chosen:
            link = connection.link
            calls: dict[LineAction, Callable[[], Any]] = {
                "drop": link.abort,
                "close": link.close,
                "freeze": link.freeze,
                "thaw": link.thaw,
            }
            connection.in_loop(calls[action])
        return len(chosen)

    async def _stop(self, _app: web.Application) -> None:
        closing = [task for c in self._open.values() if (task := c.link.close(reason="shutdown"))]
        if closing:
            await asyncio.wait(closing, timeout=_STOP_SECONDS)
        for connection in self._open.values():
            connection.link.abort()
