"""The control API's calls about AlwaysOn: connections, transitions of isConnected, requests to edges."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, get_args

import orjson
from aiohttp import web

from lambdas.thingworx.alwayson import Characteristic, Method, status_text, table_json
from lambdas.thingworx.alwayson.codes import http_status
from sandbox.thingworx.alwayson_calls import Question
from sandbox.thingworx.alwayson_server import LineAction
from sandbox.thingworx.alwayson_values import wire_table
from sandbox.thingworx.basetypes import convert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.alwayson_server import AlwaysOnFrontEnd
    from sandbox.thingworx.platform import Platform

__all__ = ["AlwaysOnControl"]

_METHODS: Final = {"GET": Method.GET, "PUT": Method.PUT, "POST": Method.POST}


class AlwaysOnControl:
    """Those calls, over one platform and its front end."""

    def __init__(self, platform: Platform, front_end: AlwaysOnFrontEnd) -> None:
        self._platform = platform
        self._front_end = front_end

    def routes(self) -> Iterable[web.RouteDef]:
        """Everything under `/simulator` that is about AlwaysOn."""
        return [
            web.get("/simulator/alwayson", self.overview),
            web.delete("/simulator/alwayson", self.reset),
            web.post("/simulator/connections", self.act),
            web.get("/simulator/transitions", self.transitions),
            web.put("/simulator/invisible", self.hide),
            web.get("/simulator/events", self.events),
            web.post("/simulator/edges/{name}/request", self.ask),
        ]

    async def overview(self, _request: web.Request) -> web.Response:
        """Counters and open connections."""
        answer = {"counters": self._front_end.counters.as_json(), "open": self._front_end.connections()}
        return web.json_response(answer)

    async def reset(self, _request: web.Request) -> web.Response:
        """Start counting anew."""
        self._front_end.counters.reset()
        return web.json_response({})

    async def act(self, request: web.Request) -> web.Response:
        """Drop, close, freeze or thaw connections."""
        values = await _object(request)
        if values.get("do") not in get_args(LineAction):
            raise ValueError(f"do is one of {', '.join(get_args(LineAction))}")
        return web.json_response({"connections": self._front_end.act(values["do"], values.get("number"))})

    async def transitions(self, request: web.Request) -> web.Response:
        """Changes of isConnected after a sequence number, oldest first."""
        query = request.query
        since, thing = int(query.get("since", 0)), query.get("thing")
        with self._platform.lock:
            found = (
                t._asdict()
                for t in self._platform.transitions
                if t.sequence > since and thing in {None, t.thing}
            )
            return web.json_response(list(islice(found, int(query["limit"]) if "limit" in query else None)))

    async def hide(self, request: web.Request) -> web.Response:
        """Make Things invisible to edges, or visible again."""
        values = await _object(request)
        with self._platform.lock:
            self._platform.invisible |= set(values.get("add", []))
            self._platform.invisible -= set(values.get("remove", []))
            return web.json_response(sorted(self._platform.invisible))

    async def events(self, _request: web.Request) -> web.Response:
        """Events that edges sent."""
        with self._platform.lock:
            found = [{"thing": t, "event": event, "data": data} for t, event, data in self._platform.events]
        return web.json_response(found, dumps=lambda value: orjson.dumps(value, default=str).decode())

    async def ask(self, request: web.Request) -> web.Response:
        """Send a request to the edge of a Thing and give its answer."""
        question = _question(await _object(request))
        answer = await asyncio.wrap_future(self._front_end.request(request.match_info["name"], question))
        return web.json_response(
            {
                "status": http_status(answer.status),
                "code": status_text(answer.status),
                "reason": answer.reason,
                "content": None if answer.content is None else table_json(answer.content),
            }
        )


def _question(values: dict[str, Any]) -> Question:
    """A request from `{"method", "property" or "service", "params"}`; params as an InfoTable's JSON form.

    Raises:
        ValueError, KeyError: It is something else.
        PlatformError: The parameters aren't an InfoTable.
    """
    if values.get("method") not in _METHODS or ("property" in values) == ("service" in values):
        raise ValueError("a request has method GET, PUT or POST, and a property or a service")
    params = values.get("params")
    table = None if params is None else wire_table(convert(params, "INFOTABLE"))
    if "property" in values:
        return Question(_METHODS[values["method"]], Characteristic.PROPERTIES, values["property"], table)
    return Question(_METHODS[values["method"]], Characteristic.SERVICES, values["service"], table)


async def _object(request: web.Request) -> dict[str, Any]:
    body = orjson.loads(await request.read() or b"{}")
    if not isinstance(body, dict):
        raise TypeError("the body is not a JSON object")
    return body
