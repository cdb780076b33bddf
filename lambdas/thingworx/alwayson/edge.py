"""What an edge owes the platform while that synchronises a Thing; and requests of services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from lambdas.thingworx.alwayson.codes import BaseType, Characteristic, Method, Status
from lambdas.thingworx.alwayson.events import Reply
from lambdas.thingworx.alwayson.model import Ids, InfoTable, Request, Value
from lambdas.thingworx.alwayson.update import NAMED_VTQ
from lambdas.thingworx.alwayson.wire_forms import to_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Edge", "service_of", "service_request"]


def _no_values(_: str, __: list[str]) -> Iterable[ValueRow]:
    return ()


def _no_properties(_: str) -> dict[str, dict[str, Any]]:
    return {}


class Edge:
    """Answers SynchronizeModelState and GetMetadata.

    Args:
        values: current values of a Thing's edge properties, by Thing name and edge names. A row says
            that the edge has this value at this time; none at all is as good.
        properties: definitions of a Thing's edge properties: name -> name, description, baseType, aspects.
    """

    def __init__(
        self,
        values: Callable[[str, list[str]], Iterable[ValueRow]] = _no_values,
        properties: Callable[[str], dict[str, dict[str, Any]]] = _no_properties,
    ) -> None:
        self._values = values
        self._properties = properties

    def model_state(self, thing: str, request: Request) -> Reply:
        """Reply to SynchronizeModelState: values of the properties that it lists, directly as content."""
        wanted = request.params.first("propertyInfo").value if request.params else None
        names: list[str] = []
        if isinstance(wanted, InfoTable):
            names = [row["edgeName"].value for row in wanted.records() if "edgeName" in row]
        rows = [
            {
                "name": row.name,
                "value": to_wire(row.base_type, row.value),
                "time": row.time,
                "quality": row.quality,
            }
            for row in self._values(thing, names)
        ]
        return Reply(Status.SUCCESS, content=InfoTable.build(NAMED_VTQ, rows))

    def metadata(self, thing: str) -> Reply:
        """Reply to GetMetadata: no services, no events, and the properties that are known."""
        document = {
            "name": thing,
            "description": "",
            "type": "Thing",
            "isSystemObject": False,
            "implementedShapes": [],
            "propertyDefinitions": self._properties(thing),
            "serviceDefinitions": {},
            "eventDefinitions": {},
        }
        result = Value(BaseType.JSON, orjson.dumps(document).decode())
        return Reply(Status.SUCCESS, content=InfoTable.of({"result": result}))


def service_request(
    ids: Ids, entity_type: int, entity: str, service: str, params: InfoTable | None = None
) -> Request:
    """The request that calls a service."""
    return Request(ids, Method.POST, entity_type, entity, Characteristic.SERVICES, service, params)


def service_of(request: Request) -> str | None:
    """Name of the service that a request calls, or None when it calls none."""
    if request.method is Method.POST and request.characteristic == Characteristic.SERVICES:
        return request.target
    return None
