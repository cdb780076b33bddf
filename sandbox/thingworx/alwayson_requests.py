"""What edges ask of the platform: services, properties and events, over the same model as REST.

Documented by PTC: services can be called right after AUTH, without a bind; values pushed before a Thing is
synchronised are lost. Inferred: that such a push is answered as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lambdas.thingworx.alwayson import Characteristic, EntityType, Method, Request, Response, Status
from lambdas.thingworx.alwayson import InfoTable as WireTable
from sandbox.thingworx.alwayson_values import parameters, row_names, wire_table
from sandbox.thingworx.catalogue import invoke
from sandbox.thingworx.errors import AccessDeniedError, EntityNotFoundError, ParameterError, PlatformError
from sandbox.thingworx.services_thing import property_row_table
from sandbox.thingworx.writes import set_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from sandbox.thingworx.alwayson_connection import Connection
    from sandbox.thingworx.infotable import InfoTable
    from sandbox.thingworx.model import PropertyDefinition, Thing

__all__ = ["COLLECTIONS", "Outcome", "code_of", "serve"]

COLLECTIONS: Final[dict[int, str]] = {
    EntityType.THINGS: "Things",
    EntityType.THING_SHAPES: "ThingShapes",
    EntityType.THING_TEMPLATES: "ThingTemplates",
    EntityType.MODEL_TAGS: "ModelTags",
    EntityType.RESOURCES: "Resources",
    EntityType.SUBSYSTEMS: "Subsystems",
}
_PUSH: Final = "UpdateSubscribedPropertyValues"
_ALL: Final = frozenset({"", "*"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A response, to be sent once `forwards` (writes to edges) have ended, and what to do after that."""

    response: Response
    forwards: list[Future[None]] = field(default_factory=list)
    then: Callable[[], None] | None = None


def code_of(status: int) -> int:
    """The code of an HTTP-like status: 404 -> 0x84, 703 -> 0xE3."""
    return (status // 100) << 5 | min(status % 100, 0x1F)


def serve(connection: Connection, message: Request, entity: str) -> Outcome:
    """Answer a request; `entity` is its entity's name, resolved.

    Raises:
        PlatformError: What the platform refuses it with.
    """
    collection = COLLECTIONS.get(message.entity_type)
    if collection is None:
        raise EntityNotFoundError(f"Entity Not Found : [{message.entity_type}]")
    if collection == "Things" and entity in connection.platform.invisible:
        raise AccessDeniedError(f"Not authorized for Thing [{entity}]")
    match message.characteristic, message.method:
        case Characteristic.SERVICES, Method.POST:
            return _service(connection, message, collection, entity)
        case Characteristic.PROPERTIES, Method.GET if collection == "Things":
            return _content(message, _read(connection, entity, message.target))
        case Characteristic.PROPERTIES, Method.PUT if collection == "Things":
            return _write(connection, message, entity)
        case Characteristic.EVENTS, Method.POST if collection == "Things":
            connection.platform.thing(entity)
            connection.platform.events.append((entity, message.target, parameters(message.params)))
            return _content(message, None)
    return Outcome(Response(message.ids, Status.METHOD_NOT_ALLOWED, "Method not permitted"))


def _content(
    message: Request, table: InfoTable | None, forwards: list[Future[None]] | None = None
) -> Outcome:
    try:
        content = None if table is None else wire_table(table)
    except (ValueError, TypeError, KeyError) as error:
        raise PlatformError(f"The result can't be sent: {error}") from error
    return Outcome(Response(message.ids, Status.SUCCESS, None, content), forwards or [])


def _service(connection: Connection, message: Request, collection: str, entity: str) -> Outcome:
    bound = connection.binder.things.get(entity) if collection == "Things" else None
    if message.target == _PUSH and collection == "Things":
        values = message.params.first("values").value if message.params else None
        connection.counters.add("pushes")
        connection.counters.add("pushed_rows", len(values.rows) if isinstance(values, WireTable) else 0)
        lost = connection.platform.settings.unsynchronised_push == "lose"
        if lost and (bound is None or not bound.synchronised) and entity in connection.platform.things:
            return _lose(connection, message, entity)
    reply = invoke(
        connection.platform, collection, entity, message.target, parameters(message.params), origin=bound
    )
    if bound is not None and message.target == "GetPropertySubscriptions" and not bound.synchronised:
        bound.synchronised = True
        connection.counters.add("synchronised")
    return _content(message, reply.table, reply.forwards)


def _lose(connection: Connection, message: Request, entity: str) -> Outcome:
    names = row_names(message.params)
    connection.counters.add("lost_rows", len(names))
    with connection.platform.lock:
        for name in names:
            connection.platform.log.reject(entity, name, "pushed before synchronisation", _PUSH)
    return _content(message, None)


def _definition(thing: Thing, name: str) -> PropertyDefinition:
    """A property by its name, or by its edge's."""
    by_edge = thing.by_edge_name(name)
    if by_edge is not None and not any(d.name == name for d in thing.definitions()):
        return by_edge
    return thing.definition(name)


def _read(connection: Connection, entity: str, target: str) -> InfoTable:
    platform = connection.platform
    with platform.lock:
        thing = platform.thing(entity)
        wanted = thing.definitions() if target in _ALL else [_definition(thing, target)]
        return property_row_table(platform, thing, wanted)


def _write(connection: Connection, message: Request, entity: str) -> Outcome:
    platform = connection.platform
    with platform.lock:
        thing = platform.thing(entity)
        given = parameters(message.params)
        if message.target not in _ALL:
            _definition(thing, message.target)
            if message.target not in given:
                raise ParameterError(f"No value for property [{message.target}]: values cannot be null")
            given = {message.target: given[message.target]}
        values: dict[str, Any] = {_definition(thing, name).name: value for name, value in given.items()}
        batch = set_values(platform, thing, values, "PUT", connection.binder.things.get(entity))
    return _content(message, None, batch.forwards)
