"""Services about what a Thing consists of: property definitions, remote bindings, metadata.

Documented by PTC or seen live: the services, parameters and data shapes; the category filter is the server's;
GetPropertySubscriptions exists on remote Things only; GetRemotePropertyBinding fails for a property that
isn't bound; adding a property that exists answers 403. Inferred: BulkProcessingReport names every row, and
the subscriptions of one Thing come in the order its properties were defined.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.basetypes import convert
from sandbox.thingworx.errors import AlreadyDefinedError, ParameterError, PlatformError
from sandbox.thingworx.infotable import Field, InfoTable, columns, result_table
from sandbox.thingworx.model import PropertyDefinition, RemoteBinding
from sandbox.thingworx.services import Call, Params, service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.model import Thing

__all__ = ["definitions_table"]

_DEFINITION: Final = columns(
    "name description baseType:BASETYPENAME isReadOnly:BOOLEAN isPersistent:BOOLEAN isLogged:BOOLEAN"
)
_DETAILED: Final = columns(
    "name description aspects:INFOTABLE sourceName sourceType category baseType:BASETYPENAME ordinal:INTEGER "
    "isPersistent:BOOLEAN isReadOnly:BOOLEAN isLocalOnly:BOOLEAN isLogged:BOOLEAN isIndexed:BOOLEAN "
    "isExternallyRouted:BOOLEAN"
)
_SUBSCRIPTION: Final = columns("edgeName pushType pushThreshold:NUMBER")
_BINDING: Final = columns("name sourceName pushType pushThreshold:NUMBER timeout:NUMBER aspects:JSON")
_REPORT: Final = columns("name success:BOOLEAN errorMessage")
_ASPECT_TYPES: Final = {bool: "BOOLEAN", int: "NUMBER", float: "NUMBER", str: "STRING", dict: "JSON"}


def _definition_row(definition: PropertyDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "description": definition.description,
        "baseType": definition.base_type,
        "isReadOnly": definition.is_read_only,
        "isPersistent": definition.is_persistent,
        "isLogged": definition.is_logged,
    }


def _aspects_table(definition: PropertyDefinition) -> InfoTable:
    aspects = definition.aspects()
    fields = tuple(Field(name, _ASPECT_TYPES.get(type(value), "VARIANT")) for name, value in aspects.items())
    return InfoTable(fields, [aspects])


def definitions_table(thing: Thing) -> InfoTable:
    """All properties with category, aspects and who defines them."""
    rows = []
    for ordinal, definition in enumerate(thing.definitions()):
        source_type, source_name = thing.source_of(definition.name)
        rows.append(
            _definition_row(definition)
            | {
                "aspects": _aspects_table(definition),
                "category": definition.category,
                "sourceType": source_type,
                "sourceName": source_name,
                "ordinal": ordinal,
                "isLocalOnly": False,
                "isIndexed": False,
                "isExternallyRouted": False,
            }
        )
    return InfoTable(_DETAILED, rows)


@service("Things/GetPropertyDefinitions")
def property_definitions(call: Call) -> InfoTable:
    """Definitions, of one category, base type or data shape only when given."""
    category, kind, shape = (call.params.text(name) for name in ("category", "type", "dataShape"))
    found = (
        definition
        for definition in call.thing.definitions()
        if (not category or definition.category == category)
        and (not kind or definition.base_type == kind)
        and (not shape or definition.data_shape == shape)
    )
    return InfoTable(_DEFINITION, [_definition_row(definition) for definition in found])


@service("Things/GetPropertyDefinition")
def property_definition(call: Call) -> InfoTable:
    """One definition."""
    return InfoTable(_DEFINITION, [_definition_row(call.thing.definition(str(call.params.required("name"))))])


def _definition_from(params: Params, base_type_key: str, prefix: str = "") -> PropertyDefinition:
    """A definition from parameters; the single and the bulk service name some of them differently."""

    def flag(name: str) -> bool:
        return params.flag(f"{prefix}{name}" if not prefix else f"{prefix}{name[0].upper()}{name[1:]}")

    name, base_type = str(params.required("name")), str(params.required(base_type_key))
    binding = None
    if flag("remote"):
        binding = RemoteBinding(
            params.text("remotePropertyName") or name,
            params.text("pushType") or "ALWAYS",
            float(params.get("pushThreshold", 0)),
            timeout=float(params.get("timeout", 0)),
            aspects=tuple((params.get("remoteBindingAspects") or {}).items()),
        )
    default = params.get("defaultValue")
    return PropertyDefinition(
        name,
        base_type,
        params.text("description"),
        params.text("category"),
        is_read_only=flag("readOnly"),
        is_persistent=flag("persistent"),
        is_logged=flag("logged"),
        data_shape=params.text("dataShape"),
        default_value=None if default in (None, "") else convert(default, base_type),
        data_change_type=params.text("dataChangeType") or "VALUE",
        data_change_threshold=float(params.get("dataChangeThreshold", 0)),
        binding=binding,
    )


def _add(call: Call, definition: PropertyDefinition) -> None:
    if any(existing.name == definition.name for existing in call.thing.definitions()):
        raise AlreadyDefinedError(f"Property [{definition.name}] already exists on Thing [{call.thing.name}]")
    call.platform.define(call.thing, definition)


@service("Things/AddPropertyDefinition")
def add_property_definition(call: Call) -> None:
    """Define a property."""
    _add(call, _definition_from(call.params, "type"))


@service("Things/AddPropertyDefinitions")
def add_property_definitions(call: Call) -> InfoTable:
    """Define several and report on each; the first bad one fails the call unless those are to be ignored."""
    report = []
    for row in call.params.rows("values") or []:
        name = str(row.get("name", ""))
        try:
            _add(call, _definition_from(Params(row), "baseType", prefix="is"))
        except PlatformError as error:
            if not call.params.flag("ignoreInvalidDefinitions"):
                raise
            report.append({"name": name, "success": False, "errorMessage": str(error)})
        else:
            report.append({"name": name, "success": True, "errorMessage": ""})
    return InfoTable(_REPORT, report)


@service("Things/RemovePropertyDefinition")
def remove_property_definition(call: Call) -> None:
    """Remove one of the Thing's own properties."""
    call.platform.undefine(call.thing, str(call.params.required("name")))


def _bound(thing: Thing) -> Iterable[tuple[PropertyDefinition, RemoteBinding]]:
    for definition in thing.definitions():
        binding = thing.binding(definition)
        if binding is not None:
            yield definition, binding


@service("Things/GetPropertySubscriptions", remote_only=True)
def property_subscriptions(call: Call) -> InfoTable:
    """Edge name and push type of every bound property."""
    rows = [
        {"edgeName": b.source_name, "pushType": b.push_type, "pushThreshold": b.push_threshold}
        for _, b in _bound(call.thing)
    ]
    return InfoTable(_SUBSCRIPTION, rows)


@service("Things/GetRemotePropertyBinding", remote_only=True)
def get_binding(call: Call) -> InfoTable:
    """The binding of one property."""
    name = str(call.params.required("propertyName"))
    binding = call.thing.binding(call.thing.definition(name))
    if binding is None:
        raise ParameterError(f"Property [{name}] on Thing [{call.thing.name}] is not remotely bound")
    aspects = {
        "cacheTime": binding.cache_time,
        "foldType": binding.fold_type,
        "startType": binding.start_type,
    }
    row = {
        "name": name,
        "sourceName": binding.source_name,
        "pushType": binding.push_type,
        "pushThreshold": binding.push_threshold,
        "timeout": binding.timeout,
        "aspects": aspects | dict(binding.aspects),
    }
    return InfoTable(_BINDING, [row])


@service("Things/SetRemotePropertyBinding", remote_only=True)
def set_binding(call: Call) -> None:
    """Bind a property to an edge property, or bind it anew."""
    params = call.params
    name = str(params.required("propertyName"))
    aspects = params.get("aspects") or {}
    binding = RemoteBinding(
        params.text("sourcePropertyName") or name,
        params.text("pushType") or "ALWAYS",
        float(params.get("pushThreshold", 0)),
        float(params.get("cacheTime", -1)),
        params.text("foldType") or "NONE",
        float(params.get("timeout", 0)),
        aspects=tuple((json.loads(aspects) if isinstance(aspects, str) else aspects).items()),
    )
    _rebind(call, name, binding)


@service("Things/RemoveRemotePropertyBinding", remote_only=True)
def remove_binding(call: Call) -> None:
    """Make a property local."""
    _rebind(call, str(call.params.required("propertyName")), None)


def _rebind(call: Call, name: str, binding: RemoteBinding | None) -> None:
    thing = call.thing
    thing.definition(name)
    thing.rebound = {**(thing.rebound or {}), name: binding}
    call.platform.model_changed(thing)


@service("Things/GetMetadata")
def metadata(call: Call) -> InfoTable:
    """One row: name, type and a table of the properties; those of services and events are empty."""
    fields = columns(
        "name description type propertyDefinitions:INFOTABLE "
        "serviceDefinitions:INFOTABLE eventDefinitions:INFOTABLE"
    )
    row = {
        "name": call.thing.name,
        "description": call.thing.description,
        "type": "Thing",
        "propertyDefinitions": definitions_table(call.thing),
        "serviceDefinitions": InfoTable(columns("name description")),
        "eventDefinitions": InfoTable(columns("name description")),
    }
    return InfoTable(fields, [row])


@service("Things/GetMetadataAsJSON")
def metadata_as_json(call: Call) -> InfoTable:
    """The same as a JSON object, properties by name."""
    properties = {
        definition.name: {
            "name": definition.name,
            "description": definition.description,
            "baseType": definition.base_type,
            "category": definition.category,
            "aspects": definition.aspects(),
        }
        for definition in call.thing.definitions()
    }
    answer = {"name": call.thing.name, "type": "Thing", "propertyDefinitions": properties}
    return result_table(answer, "JSON")
