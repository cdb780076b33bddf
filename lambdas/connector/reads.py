"""Answers to ThingWorx when it reads a property at the edge: the last value that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lambdas.connector.shadow import ShadowRefused, ShadowUnavailable, is_thing_name
from lambdas.thingworx.alwayson.codes import Status
from lambdas.thingworx.alwayson.events import Reply
from lambdas.thingworx.alwayson.model import InfoTable
from lambdas.thingworx.alwayson.wire_forms import to_wire
from lambdas.thingworx.base_types import ValueRefused, convert
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lambdas.connector.kept_values import KeptValues
    from lambdas.connector.shapes import EdgeProperty
    from lambdas.connector.writeback import Shapes

__all__ = ["Reads", "Reported"]

ALL_PROPERTIES = frozenset({"", "*"})


class Reported(Protocol):
    """What devices report in their shadows."""

    async def reported(self, thing: str) -> dict[str, Any]:
        """See `Shadow.reported`."""


class Reads:
    """Finds values: those that came lately, what the predecessor left, what the device's shadow reports.

    Args:
        newest: newest row of each edge property of a Thing that came in this connector's life.
        kept: what the predecessor left.
        shadow: what devices report.
        shapes: which property an edge name means.
    """

    def __init__(
        self,
        newest: Callable[[str], Mapping[str, ValueRow]],
        kept: KeptValues,
        shadow: Reported,
        shapes: Shapes,
    ) -> None:
        self._newest = newest
        self._kept = kept
        self._shadow = shadow
        self._shapes = shapes

    async def get(self, thing: str, edge: str) -> Reply:
        """The answer to a GET of one property, or of all that have a value."""
        known = {**(await self._kept.of(thing)).values}
        for name, row in self._newest(thing).items():
            if name not in known or row.time >= known[name].time:
                known[name] = row
        if edge in ALL_PROPERTIES:
            return _values(known)
        if edge in known:
            return _values({edge: known[edge]})
        shape = await self._shapes.of(thing, [edge])
        if edge not in shape:
            return Reply(Status.NOT_FOUND, f"{edge}: the connector serves no such property of {thing}")
        return await self._reported(thing, edge, shape[edge])

    async def _reported(self, thing: str, edge: str, known: EdgeProperty) -> Reply:
        nothing = f"{edge}: no value of it has come yet"
        if not is_thing_name(thing):
            return Reply(Status.NOT_FOUND, nothing)
        try:
            reported = await self._shadow.reported(thing)
            if reported.get(known.name) is None:
                return Reply(Status.NOT_FOUND, f"{nothing}, and the device's shadow reports none")
            value = convert(known.base_type, reported[known.name])
        except ShadowUnavailable as error:
            return Reply(Status.SERVICE_UNAVAILABLE, f"{nothing}; {error}")
        except (ShadowRefused, ValueRefused) as error:
            return Reply(Status.NOT_FOUND, f"{nothing}, and the device's shadow has none: {error}")
        return _values({edge: ValueRow(edge, known.base_type, value, 0)})


def _values(rows: Mapping[str, ValueRow]) -> Reply:
    values = {edge: to_wire(row.base_type, row.value) for edge, row in rows.items()}
    return Reply(Status.SUCCESS, content=InfoTable.of(values))
