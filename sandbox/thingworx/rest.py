"""The REST front end: `/Thingworx/<Collection>/<Entity>/<Characteristic>/<Name>` on top of the model.

Documented by PTC or seen live: app key in a header only (401 for an unknown key and for a key in the URL); a
content type of JSON or XML on every POST, PUT and DELETE, body or not (403); HTML unless JSON is asked for;
405 for the wrong verb; a failed service answers 500 with `Unable to Invoke Service S on E : cause`; deleting
an entity by HTTP DELETE with an app key answers 500 with a page. Inferred: which refusals come as page and
which as bare text, `Accept: */*` means HTML, 406 for a body that isn't a JSON object, the shape of a Thing
itself. Not here: answers in XML and CSV (406), Basic and Bearer authentication, file upload.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import orjson
from aiohttp import web

from sandbox.thingworx.catalogue import invoke
from sandbox.thingworx.edges import edge_answers
from sandbox.thingworx.errors import (
    EntityNotFoundError,
    PlatformError,
    ServiceFailedError,
)
from sandbox.thingworx.faults import Request
from sandbox.thingworx.infotable import Field, InfoTable, json_value, to_json
from sandbox.thingworx.pages import error_page, table_page
from sandbox.thingworx.reads import refresh
from sandbox.thingworx.services import MAX_ITEMS, Params
from sandbox.thingworx.services_definition import definitions_table
from sandbox.thingworx.services_search import root_entity_list
from sandbox.thingworx.services_thing import property_row_table
from sandbox.thingworx.writes import set_values

if TYPE_CHECKING:
    from sandbox.thingworx.faults import FaultRule, Faults
    from sandbox.thingworx.platform import Platform

__all__ = ["MAX_BODY", "RestFrontEnd"]

MAX_BODY: Final = 64 << 20
_BODY_TYPES: Final = frozenset({"application/json", "application/xml", "text/xml"})
_WRITING: Final = frozenset({"POST", "PUT", "DELETE"})


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A page that ends a request early, before the model is asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RestFrontEnd:
    """Serves a platform over HTTP, with faults."""

    def __init__(self, platform: Platform, faults: Faults) -> None:
        self._platform = platform
        self._faults = faults

    def add_to(self, app: web.Application) -> None:
        """Serve all paths that this application has no route for: a platform answers all of them itself."""
        app.router.add_route("*", "/{path:.*}", self.handle)

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one request, faults and counters included."""
        parts = [unquote(part) for part in http.rel_url.raw_path.strip("/").split("/")]
        padded = (*parts[1:], "", "", "", "")
        service = padded[3] if padded[2] == "Services" else ""
        request = Request(http.method, http.path, padded[0], padded[1], service)
        self._faults.began(request)
        status = 0
        try:
            response = await self._with_faults(http, request, parts)
            status = response.status
        finally:
            self._faults.ended(status)
        return response

    async def _with_faults(self, http: web.Request, request: Request, parts: list[str]) -> web.Response:
        rule = self._faults.take(request)
        delay = self._faults.latency_ms + (rule.delay_ms if rule else 0)
        if delay:
            await asyncio.sleep(delay / 1000)
        if rule is not None and rule.answers and rule.when == "before":
            return self._fault(http, rule)
        if self._faults.starting:
            return _page(503, "ThingWorx is starting")
        response = await self._answer(http, parts)
        if rule is not None and rule.answers:
            return self._fault(http, rule)
        return response

    def _fault(self, http: web.Request, rule: FaultRule) -> web.Response:
        if rule.breaks:
            if http.transport is not None:
                http.transport.abort()
            return web.Response(status=499)
        if rule.redirect:
            return web.Response(status=302, headers={**rule.headers, "Location": rule.redirect})
        if rule.bad_json:
            return web.Response(
                body=b'{"dataShape":{"fieldDefinitions":{}},"rows":[{"na', content_type="application/json"
            )
        status = rule.status or 500
        if rule.html:
            return _page(status, rule.body, rule.headers)
        is_json = rule.body[:1] in {"{", "["}
        kind = "application/json" if is_json else "text/plain"
        return web.Response(status=status, text=rule.body, content_type=kind, headers=rule.headers)

    async def _answer(self, http: web.Request, parts: list[str]) -> web.Response:
        try:
            self._authenticate(http)
            _check_form(http, parts)
            wants_json = _wants_json(http.headers.get("Accept", ""))
            response = await self._route(http, parts[1:], _Renderer(http.path, wants_json=wants_json))
        except _Refusal as refusal:
            return _page(refusal.status, str(refusal))
        except PlatformError as error:
            if "application/json" in http.headers.get("Accept", ""):
                return web.Response(status=error.status, text=str(error))
            return _page(error.status, str(error))
        self._session(http, response)
        return response

    def _authenticate(self, http: web.Request) -> None:
        if any(name.lower() == "appkey" for name in http.query) and not (
            self._platform.settings.allow_app_key_in_url
        ):
            raise _Refusal(401, "ApplicationKey Is Not Allowed As A URL Parameter")
        in_url = next((value for name, value in http.query.items() if name.lower() == "appkey"), "")
        if http.headers.get("appKey", in_url) not in self._platform.app_keys:
            raise _Refusal(401, "Authentication failed")

    def _session(self, http: web.Request, response: web.Response) -> None:
        if (
            http.headers.get("x-thingworx-session", "").lower() != "false"
            and "JSESSIONID" not in http.cookies
        ):
            response.set_cookie("JSESSIONID", secrets.token_hex(16).upper(), path="/Thingworx", httponly=True)
            self._faults.session_opened()

    async def _route(self, http: web.Request, parts: list[str], render: _Renderer) -> web.Response:
        match parts:
            case [collection] if collection:
                return render.table(self._collection(_only(http, "GET"), collection))
            case [collection, entity]:
                return render.record(self._entity(_only(http, "GET", "DELETE"), collection, entity))
            case [collection, entity, "Services", service]:
                return await self._service(_only(http, "POST"), (collection, entity, service), render)
            case ["Things", name, "Properties", *rest] if len(rest) < 2:
                return await self._properties(_only(http, "GET", "PUT"), name, "".join(rest) or "*", render)
            case ["Things", name, "PropertyDefinitions"]:
                _only(http, "GET")
                return render.table(definitions_table(self._platform.thing(name)))
            case ["Things", name, "Metadata"]:
                _only(http, "GET")
                return render.table(invoke(self._platform, "Things", name, "GetMetadata", {}).table)
            case _:
                raise _Refusal(404, http.path)

    def _collection(self, http: web.Request, collection: str) -> InfoTable | None:
        query = Params(dict(http.query))
        if collection == "Things":
            limit, tags = query.whole("maxItems", MAX_ITEMS), query.tags()
            with self._platform.lock:
                return root_entity_list(self._platform, tags, query.text("nameMask"), limit)
        if collection == "ThingTemplates":
            params = {**http.query, "type": "ThingTemplate"}
            return invoke(self._platform, "Resources", "EntityServices", "GetEntityList", params).table
        raise EntityNotFoundError(f"Entity Not Found : [{collection}]")

    def _entity(self, http: web.Request, collection: str, name: str) -> dict[str, Any]:
        if http.method == "DELETE":
            raise _Refusal(500, "Entities are deleted by EntityServices")
        if collection == "ThingTemplates":
            description = self._platform.template(name).description
            return {"name": name, "entityType": "ThingTemplates", "description": description}
        if collection != "Things":
            raise EntityNotFoundError(f"Entity Not Found : [{collection}]")
        thing = self._platform.thing(name)
        return {
            "name": thing.name,
            "entityType": "Things",
            "description": thing.description,
            "thingTemplate": thing.template.name,
            "tags": json_value(thing.tags),
            "identifier": thing.identifier,
            "projectName": thing.project,
            "enabled": thing.enabled,
            "lastModifiedDate": thing.last_modified,
        }

    async def _service(
        self, http: web.Request, target: tuple[str, str, str], render: _Renderer
    ) -> web.Response:
        collection, entity, name = target
        reply = invoke(self._platform, collection, entity, name, await _body(http))
        try:
            await edge_answers(reply.forwards, entity, self._platform.settings.edge_answer_seconds)
            return render.table(reply.table)
        except PlatformError as error:
            raise ServiceFailedError(name, entity, error) from error

    async def _properties(
        self, http: web.Request, thing_name: str, name: str, render: _Renderer
    ) -> web.Response:
        thing = self._platform.thing(thing_name)
        if http.method == "GET":
            wanted = list(thing.definitions()) if name == "*" else [thing.definition(name)]
            await refresh(self._platform, thing, wanted)
            with self._platform.lock:
                return render.table(property_row_table(self._platform, thing, wanted))
        values = await _body(http)
        if name != "*":
            thing.definition(name)
            if name not in values:
                raise _Refusal(404, f"The body has no value for property [{name}]")
            values = {name: values[name]}
        batch = set_values(self._platform, thing, values, "PUT")
        await edge_answers(batch.forwards, thing_name, self._platform.settings.edge_answer_seconds)
        return web.Response()


class _Renderer:
    """Turns results into answers of the form the client asked for."""

    def __init__(self, title: str, *, wants_json: bool) -> None:
        self._title = title
        self._wants_json = wants_json

    def table(self, table: InfoTable | None) -> web.Response:
        """A table, or nothing.

        Raises:
            PlatformError: JSON can't carry a value.
        """
        if table is None:
            return web.Response()
        if not self._wants_json:
            return web.Response(text=table_page(table, self._title), content_type="text/html")
        return web.Response(body=orjson.dumps(to_json(table)), content_type="application/json")

    def record(self, record: dict[str, Any]) -> web.Response:
        """An entity."""
        if not self._wants_json:
            fields = tuple(Field(name) for name in record)
            return web.Response(
                text=table_page(InfoTable(fields, [record]), self._title), content_type="text/html"
            )
        return web.Response(body=orjson.dumps(record), content_type="application/json")


def _page(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, text=error_page(status, message), content_type="text/html", headers=headers
    )


def _check_form(http: web.Request, parts: list[str]) -> None:
    if parts[0] != "Thingworx":
        raise _Refusal(404, http.path)
    if http.method in _WRITING and http.content_type not in _BODY_TYPES:
        raise _Refusal(403, f"Content type [{http.headers.get('Content-Type', '')}] is not allowed")


def _only(http: web.Request, *verbs: str) -> web.Request:
    if http.method not in verbs:
        raise _Refusal(405, f"{http.method} is not allowed here")
    return http


def _wants_json(accept: str) -> bool:
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")] if accept else []
    if "application/json" in kinds:
        return True
    if kinds and not {"*/*", "text/html", "text/*"}.intersection(kinds):
        raise _Refusal(406, f"[{accept}] is not available")
    return False


async def _body(http: web.Request) -> dict[str, Any]:
    raw = await http.read()
    if not raw.strip():
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _Refusal(406, f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Refusal(406, "The body is not a JSON object")
    return body
