"""Services of a Thing: values, tags, life cycle; and the platform's entity and system services.

Documented by PTC or seen live: the services, their parameters and data shapes; a created Thing must be
enabled before use. Inferred: the VTQ services answer NamedVTQ rows (name, value, time, quality), a Thing that
is switched off still answers what is asked about its definition, and RestartThing doesn't switch it on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.errors import ParameterError
from sandbox.thingworx.infotable import Field, InfoTable, Tags, columns, result_table
from sandbox.thingworx.services import Call, service
from sandbox.thingworx.writes import (
    WriteBatch,
    check_enabled,
    current,
    push_values,
    set_values,
    update_values,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.model import PropertyDefinition, Thing
    from sandbox.thingworx.platform import Platform

__all__ = ["NAMED_VTQ", "property_row_table"]

NAMED_VTQ: Final = (
    Field("name", aspects=(("isPrimaryKey", True),)),
    Field("value", "VARIANT"),
    Field("time", "DATETIME"),
    Field("quality"),
)


def property_row_table(
    platform: Platform, thing: Thing, definitions: Iterable[PropertyDefinition]
) -> InfoTable:
    """One row, one column per property.

    Raises:
        ThingNotEnabledError: The Thing is switched off.
    """
    check_enabled(thing)
    wanted = list(definitions)
    row = {d.name: current(platform, thing, d).value for d in wanted}
    return InfoTable(tuple(Field(d.name, d.base_type, d.description) for d in wanted), [row])


def _named(call: Call) -> list[PropertyDefinition]:
    rows = call.params.rows("propertyNames")
    if rows is None:
        raise ParameterError("Required parameter [propertyNames] is missing")
    return [call.thing.definition(str(row.get("name"))) for row in rows]


def _vtq_table(call: Call, definitions: Iterable[PropertyDefinition]) -> InfoTable:
    check_enabled(call.thing)
    rows = []
    for definition in definitions:
        vtq = current(call.platform, call.thing, definition)
        rows.append({"name": definition.name, "value": vtq.value, "time": vtq.time, "quality": vtq.quality})
    return InfoTable(NAMED_VTQ, rows)


@service("Things/GetPropertyValuesVTQ")
def values_vtq(call: Call) -> InfoTable:
    """All current values with time and quality."""
    return _vtq_table(call, call.thing.definitions())


@service("Things/GetNamedPropertyValuesVTQ")
def named_values_vtq(call: Call) -> InfoTable:
    """Some current values with time and quality."""
    return _vtq_table(call, _named(call))


@service("Things/GetPropertyValues")
def values(call: Call) -> InfoTable:
    """All current values in one row."""
    return property_row_table(call.platform, call.thing, call.thing.definitions())


@service("Things/GetNamedPropertyValues")
def named_values(call: Call) -> InfoTable:
    """Some current values in one row."""
    return property_row_table(call.platform, call.thing, _named(call))


def _value_rows(call: Call) -> list[dict[str, Any]]:
    rows = call.params.rows("values")
    if rows is None:
        raise ParameterError("Required parameter [values] is missing")
    return rows


@service("Things/SetPropertyValues")
def set_property_values(call: Call) -> WriteBatch:
    """Write the columns of a one-row table."""
    batch = WriteBatch()
    for row in _value_rows(call):
        outcome = set_values(call.platform, call.thing, row, call.service, call.origin)
        batch.stored += outcome.stored
        batch.forwards += outcome.forwards
    return batch


@service("Things/UpdatePropertyValues")
def update_property_values(call: Call) -> WriteBatch:
    """Write NamedVTQ rows by property name."""
    return update_values(call.platform, call.thing, _value_rows(call), call.service, call.origin)


@service("Things/UpdateSubscribedPropertyValues", remote_only=True)
def update_subscribed_property_values(call: Call) -> WriteBatch:
    """Store NamedVTQ rows by edge name."""
    return push_values(call.platform, call.thing, _value_rows(call), call.service)


@service("Things/HavePropertiesChangedSince")
def changed_since(call: Call) -> InfoTable:
    """Whether any value is newer than a time."""
    since = call.params.moment("timestamp") or 0
    return result_table(any(vtq.time > since for vtq in call.thing.values.values()), "BOOLEAN")


@service("Things/GetTags")
def get_tags(call: Call) -> InfoTable:
    """The tags as one value."""
    return result_table(call.thing.tags, "TAGS")


@service("Things/AddTags")
def add_tags(call: Call) -> None:
    """Add tags."""
    call.params.required("tags")
    thing = call.thing
    call.platform.set_tags(thing, Tags(dict.fromkeys((*thing.tags, *call.params.tags()))))


@service("Things/RemoveTags")
def remove_tags(call: Call) -> None:
    """Take tags away."""
    call.params.required("tags")
    gone, thing = set(call.params.tags()), call.thing
    call.platform.set_tags(thing, Tags(tag for tag in thing.tags if tag not in gone))


@service("Things/GetIdentifier")
def get_identifier(call: Call) -> InfoTable:
    """The identifier under which an edge may bind."""
    return result_table(call.thing.identifier, "STRING")


@service("Things/SetIdentifier")
def set_identifier(call: Call) -> None:
    """Set the identifier; empty takes it away."""
    call.platform.set_identifier(call.thing, call.params.text("identifier"))


@service("Things/IsEnabled")
def is_enabled(call: Call) -> InfoTable:
    """Whether the Thing is switched on."""
    return result_table(call.thing.enabled, "BOOLEAN")


@service("Things/EnableThing")
def enable(call: Call) -> None:
    """Switch the Thing on."""
    call.thing.enabled = True
    call.platform.appeared(call.thing)


@service("Things/DisableThing")
def disable(call: Call) -> None:
    """Switch the Thing off: it takes and gives no values."""
    call.thing.enabled = False


@service("Things/RestartThing")
def restart(call: Call) -> None:
    """Restart; definitions take effect at once here, so only its time shows, and its edge is told."""
    call.platform.model_changed(call.thing)


@service("Resources/EntityServices/CreateThing")
def create_thing(call: Call) -> None:
    """Create a Thing, switched off."""
    params = call.params
    call.platform.add_thing(
        str(params.required("name")),
        str(params.required("thingTemplateName")),
        params.tags(),
        description=params.text("description"),
        project=params.text("projectName"),
        enabled=False,
    )


@service("Resources/EntityServices/DeleteThing")
def delete_thing(call: Call) -> None:
    """Delete a Thing."""
    call.platform.delete_thing(str(call.params.required("name")))


@service("Subsystems/PlatformSubsystem/GetThingworxVersion")
def version(call: Call) -> InfoTable:
    """The platform's version."""
    return result_table(call.platform.settings.version, "STRING")


@service("Subsystems/PlatformSubsystem/GetThingCount")
def thing_count(call: Call) -> InfoTable:
    """How many Things there are."""
    return result_table(len(call.platform.things), "NUMBER")


@service("Resources/DeviceFunctions/GetUnboundRemoteThings")
def unbound_things(call: Call) -> InfoTable:
    """Remote Things without a connected edge, and names bound by an edge that no Thing has."""
    platform = call.platform
    found = [
        name for name, thing in platform.things.items() if thing.is_remote and name not in platform.edges
    ]
    found += [name for name in platform.unbound if not name.startswith("*")]
    return InfoTable(columns("name"), [{"name": name} for name in found])


@service("Resources/DeviceFunctions/GetUnboundIdentifiers")
def unbound_identifiers(call: Call) -> InfoTable:
    """Identifiers bound by an edge that no Thing has."""
    found = [name[1:] for name in call.platform.unbound if name.startswith("*")]
    return InfoTable(columns("identifier"), [{"identifier": name} for name in found])


@service("Things/GetEventSubscriptions", remote_only=True)
def event_subscriptions(_call: Call) -> InfoTable:
    """Edge names of remote events: none, Things here define no events."""
    return InfoTable(columns("edgeName"))


@service("Things/ProcessRemoteEvents", remote_only=True)
def process_remote_events(call: Call) -> None:
    """Keep the events that an edge sends."""
    for row in _value_rows(call):
        call.platform.events.append((call.entity, str(row.get("eventName")), row.get("eventData")))
