"""The control API: steers and reads out a simulated platform, on a port of its own.

It can't be mistaken for the platform: the platform's port knows none of these paths, every answer here
carries `X-Simulator: thingworx`, and every change needs the header `X-Simulator-Control`. The page
docs/reference/thingworx-simulator.md lists the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from sandbox.thingworx.control_alwayson import AlwaysOnControl
from sandbox.thingworx.edges import QueuedEdge
from sandbox.thingworx.errors import PlatformError
from sandbox.thingworx.fleet import load_fleet
from sandbox.thingworx.infotable import json_value
from sandbox.thingworx.settings import FIXED_AT_START

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.thingworx.alwayson_server import AlwaysOnFrontEnd
    from sandbox.thingworx.faults import Faults
    from sandbox.thingworx.model import VTQ
    from sandbox.thingworx.platform import Platform

__all__ = ["CONTROL_HEADER", "ControlApi"]

CONTROL_HEADER: Final = "X-Simulator-Control"


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, default=json_value), status=status, content_type="application/json"
    )


def _vtq(vtq: VTQ) -> dict[str, Any]:
    return {"value": json_value(vtq.value), "time": vtq.time, "quality": vtq.quality}


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        if request.method != "GET" and CONTROL_HEADER not in request.headers:
            response: web.StreamResponse = _json(
                {"error": f"a change needs the header {CONTROL_HEADER}"}, 403
            )
        else:
            response = await handler(request)
    except web.HTTPException as refusal:
        response = _json({"error": refusal.reason}, refusal.status)
    except (PlatformError, ValueError, KeyError, TypeError) as error:
        response = _json({"error": f"{type(error).__name__}: {error}"}, 400)
    response.headers["X-Simulator"] = "thingworx"
    return response


class ControlApi:
    """The calls, over one platform and its faults."""

    def __init__(self, platform: Platform, faults: Faults, alwayson: AlwaysOnFrontEnd) -> None:
        self._platform = platform
        self._faults = faults
        self._alwayson = AlwaysOnControl(platform, alwayson)
        self._edges: dict[str, QueuedEdge] = {}

    def application(self) -> web.Application:
        """The aiohttp application, everything under `/simulator`."""
        app = web.Application(middlewares=[_guard], client_max_size=64 << 20)
        app.add_routes(
            [
                web.get("/simulator", self.overview),
                web.get("/simulator/faults", self.list_faults),
                web.post("/simulator/faults", self.add_fault),
                web.delete("/simulator/faults", self.clear_faults),
                web.delete("/simulator/faults/{id}", self.remove_fault),
                web.put("/simulator/state", self.set_state),
                web.put("/simulator/settings", self.set_settings),
                web.post("/simulator/app-keys", self.change_app_keys),
                web.get("/simulator/counters", self.counters),
                web.delete("/simulator/counters", self.reset_counters),
                web.get("/simulator/writes", self.writes),
                web.delete("/simulator/writes", self.clear_writes),
                web.get("/simulator/rejected", self.rejected),
                web.post("/simulator/fleet", self.add_fleet),
                web.get("/simulator/things", self.things),
                web.get("/simulator/things/{name}", self.thing),
                web.put("/simulator/edges/{name}", self.bind_edge),
                web.delete("/simulator/edges/{name}", self.unbind_edge),
                web.get("/simulator/edges/{name}", self.edge_writes),
                *self._alwayson.routes(),
            ]
        )
        return app

    async def overview(self, _request: web.Request) -> web.Response:
        """What there is."""
        with self._platform.lock:
            return _json(
                {
                    "simulator": "thingworx",
                    "things": len(self._platform.things),
                    "connected": len(self._platform.edges),
                    "writes": self._platform.log.accepted,
                    "latency_ms": self._faults.latency_ms,
                    "starting": self._faults.starting,
                }
            )

    async def list_faults(self, _request: web.Request) -> web.Response:
        """Rules, with how often each acted."""
        return _json(self._faults.rules())

    async def add_fault(self, request: web.Request) -> web.Response:
        """Add a rule."""
        rule = self._faults.add(**await _object(request))
        return _json({"id": rule.id}, 201)

    async def remove_fault(self, request: web.Request) -> web.Response:
        """Remove one rule."""
        if not self._faults.remove(int(request.match_info["id"])):
            raise web.HTTPNotFound(reason="no such fault")
        return _json({})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """Remove all rules, the latency and the starting state."""
        self._faults.clear()
        return _json({})

    async def set_state(self, request: web.Request) -> web.Response:
        """Set `latency_ms` and `starting`."""
        values = await _object(request)
        _only_keys(values, {"latency_ms", "starting"})
        self._faults.latency_ms = float(values.get("latency_ms", self._faults.latency_ms))
        self._faults.starting = bool(values.get("starting", self._faults.starting))
        return _json({})

    async def set_settings(self, request: web.Request) -> web.Response:
        """Change switches of the platform."""
        values = await _object(request)
        fixed = FIXED_AT_START & values.keys()
        if fixed:
            raise ValueError(f"unknown: {', '.join(sorted(fixed))}")
        with self._platform.lock:
            self._platform.settings.change(values)
        return _json({})

    async def change_app_keys(self, request: web.Request) -> web.Response:
        """Add and revoke application keys."""
        values = await _object(request)
        _only_keys(values, {"add", "revoke"})
        with self._platform.lock:
            self._platform.app_keys |= set(values.get("add", []))
            self._platform.app_keys -= set(values.get("revoke", []))
        return _json({})

    async def counters(self, _request: web.Request) -> web.Response:
        """Requests and writes."""
        log = self._platform.log
        writes = {"writes_accepted": log.accepted, "writes_rejected": log.rejected_count}
        return _json(self._faults.counters() | writes)

    async def reset_counters(self, _request: web.Request) -> web.Response:
        """Start counting requests anew."""
        self._faults.reset_counters()
        return _json({})

    async def writes(self, request: web.Request) -> web.Response:
        """Accepted writes in order of receipt."""
        query = request.query
        with self._platform.lock:
            found = self._platform.log.since(
                int(query.get("since", 0)),
                thing=query.get("thing"),
                limit=int(query["limit"]) if "limit" in query else None,
            )
        return _json([record._asdict() | {"value": json_value(record.value)} for record in found])

    async def clear_writes(self, _request: web.Request) -> web.Response:
        """Forget the log; its counts and sequence start anew."""
        with self._platform.lock:
            self._platform.log.clear()
        return _json({})

    async def rejected(self, _request: web.Request) -> web.Response:
        """The last rows that were not stored."""
        return _json(list(self._platform.log.rejected))

    async def add_fleet(self, request: web.Request) -> web.Response:
        """Add templates and Things."""
        return _json({"things": load_fleet(self._platform, await _object(request))}, 201)

    async def things(self, _request: web.Request) -> web.Response:
        """Current values of all Things."""
        with self._platform.lock:
            things = self._platform.things.values()
            return _json({t.name: {name: _vtq(vtq) for name, vtq in t.values.items()} for t in things})

    async def thing(self, request: web.Request) -> web.Response:
        """One Thing's values and history."""
        with self._platform.lock:
            thing = self._platform.thing(request.match_info["name"])
            logged = thing.history
            history = (
                {name: [_vtq(v) for v in logged.of(name)] for name in logged.properties()} if logged else {}
            )
            values = {name: _vtq(vtq) for name, vtq in thing.values.items()}
            return _json({"name": thing.name, "enabled": thing.enabled, "values": values, "history": history})

    async def bind_edge(self, request: web.Request) -> web.Response:
        """Connect an edge that keeps what is written to it."""
        name = request.match_info["name"]
        edge = QueuedEdge()
        self._platform.bind_edge(name, edge)
        self._edges[name] = edge
        return _json({})

    async def unbind_edge(self, request: web.Request) -> web.Response:
        """Disconnect that edge."""
        name = request.match_info["name"]
        self._platform.unbind_edge(name, self._edges.pop(name))
        return _json({})

    async def edge_writes(self, request: web.Request) -> web.Response:
        """Take what was written to that edge."""
        taken = self._edges[request.match_info["name"]].take()
        return _json(
            [{"edge_name": w.edge_name, "property": w.property, "value": json_value(w.value)} for w in taken]
        )


def _only_keys(values: dict[str, Any], known: set[str]) -> None:
    unknown = values.keys() - known
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")


async def _object(request: web.Request) -> dict[str, Any]:
    body = orjson.loads(await request.read() or b"{}")
    if not isinstance(body, dict):
        raise TypeError("the body is not a JSON object")
    return body
