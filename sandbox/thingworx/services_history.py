"""Services that read logged values.

Documented by PTC: QueryPropertyHistory asks each logged property for `maxItems` entries, makes one row per
time and fills gaps with the previous value (`fillOption` None leaves them out); newest first unless
`oldestFirst`; QueryNamedPropertyHistory cuts its result to `maxItems` (500), can filter by quality and adds a
quality column per property. Inferred: a range's two ends belong to it, and the case of the quality column's
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.errors import ParameterError
from sandbox.thingworx.infotable import Field, InfoTable
from sandbox.thingworx.query import apply_query
from sandbox.thingworx.services import MAX_ITEMS, Call, service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.model import VTQ, PropertyDefinition

_TYPED: Final = {
    "Number": "NUMBER",
    "Integer": "INTEGER",
    "Long": "LONG",
    "Boolean": "BOOLEAN",
    "String": "STRING",
    "DateTime": "DATETIME",
    "Location": "LOCATION",
    "InfoTable": "INFOTABLE",
    "Image": "IMAGE",
}


def _entries(call: Call, name: str, limit: int | None) -> list[VTQ]:
    """Logged values of a property in the asked range, oldest first: the oldest or newest `limit` of them."""
    params, history = call.params, call.thing.history
    start, end = params.moment("startDate"), params.moment("endDate")
    qualities = set(filter(None, params.text("quality").upper().split("|")))
    found = [
        vtq
        for vtq in (history.of(name) if history else [])
        if (start is None or vtq.time >= start)
        and (end is None or vtq.time <= end)
        and (not qualities or vtq.quality in qualities)
    ]
    if limit is None or len(found) <= limit:
        return found
    return found[:limit] if params.flag("oldestFirst") else found[len(found) - limit :]


def _merged(
    call: Call, wanted: Iterable[PropertyDefinition], limit: int | None, *, quality: bool
) -> InfoTable:
    fields = [Field("timestamp", "DATETIME")]
    by_time: dict[int, dict[str, Any]] = {}
    for definition in wanted:
        fields.append(Field(definition.name, definition.base_type))
        if quality:
            fields.append(Field(f"{definition.name}_quality"))
        for vtq in _entries(call, definition.name, limit):
            row = by_time.setdefault(vtq.time, {"timestamp": vtq.time})
            row[definition.name] = vtq.value
            if quality:
                row[f"{definition.name}_quality"] = vtq.quality
    rows = [by_time[time] for time in sorted(by_time)]
    if call.params.text("fillOption", "Previous").upper() != "NONE":
        previous: dict[str, Any] = {}
        for index, row in enumerate(rows):
            rows[index] = previous = previous | row
    if not call.params.flag("oldestFirst"):
        rows.reverse()
    return InfoTable(tuple(fields), apply_query(rows, call.params.get("query")))


@service("Things/QueryPropertyHistory")
def query_property_history(call: Call) -> InfoTable:
    """Every logged property on one time axis."""
    limit = call.params.whole("maxItems", MAX_ITEMS)
    logged = (definition for definition in call.thing.definitions() if definition.is_logged)
    return _merged(call, logged, limit, quality=False)


@service("Things/QueryNamedPropertyHistory")
def query_named_property_history(call: Call) -> InfoTable:
    """Some logged properties on one time axis."""
    rows = call.params.rows("propertyNames")
    if not rows:
        raise ParameterError("Required parameter [propertyNames] is missing")
    wanted = [call.thing.definition(str(row.get("name"))) for row in rows]
    table = _merged(call, wanted, None, quality=True)
    table.rows = table.rows[: call.params.whole("maxItems", MAX_ITEMS)]
    return table


def _query_typed(call: Call) -> InfoTable:
    """The entries of one property as they were logged."""
    base_type = _TYPED[call.service.removeprefix("Query").removesuffix("PropertyHistory")]
    definition = call.thing.definition(str(call.params.required("propertyName")))
    if definition.base_type != base_type:
        raise ParameterError(f"Property [{definition.name}] is {definition.base_type}, not {base_type}")
    rows = [
        {
            "id": f"{definition.name}-{vtq.time}",
            "timestamp": vtq.time,
            "value": vtq.value,
            "quality": vtq.quality,
        }
        for vtq in _entries(call, definition.name, None)
    ]
    if not call.params.flag("oldestFirst"):
        rows.reverse()
    fields = (Field("id"), Field("timestamp", "DATETIME"), Field("value", base_type), Field("quality"))
    limit = call.params.whole("maxItems", MAX_ITEMS)
    return InfoTable(fields, apply_query(rows, call.params.get("query"))[:limit])


for _kind in _TYPED:
    service(f"Things/Query{_kind}PropertyHistory")(_query_typed)
