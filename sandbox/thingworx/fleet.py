"""Fleets from JSON, for the command line and the control API.

    {"templates": [{"name": "Pump", "base": "RemoteThing", "properties": [...]}],
     "things": [{"name": "pump-{}", "count": 1000, "template": "Pump", "tags": ["Plant:Line1"],
                 "identifier": "SN-{}",
                 "properties": [{"name": "Temp", "baseType": "NUMBER", "category": "AWSConnectorBound",
                                 "remote": true, "edgeName": "temp", "pushType": "ALWAYS",
                                 "logged": true}]}]}

`{}` in name and identifier is the number, from `first` (0) on; `count` is 1 when left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.model import PropertyDefinition, RemoteBinding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.thingworx.platform import Platform

__all__ = ["load_fleet"]

_TAGS: Final = ["AWS_CONNECTED_THING:AWS_CONNECTED_THING"]


def load_fleet(platform: Platform, fleet: Mapping[str, Any]) -> int:
    """Add templates and Things to a platform; how many Things.

    Raises:
        PlatformError: A name is taken, a template unknown, a base type or tag not valid.
        KeyError: A name is missing.
    """
    for template in fleet.get("templates", []):
        properties = [_definition(p) for p in template.get("properties", [])]
        platform.add_template(template["name"], template.get("base", "RemoteThing"), properties)
    added = 0
    for thing in fleet.get("things", []):
        # Made once: a hundred thousand alike Things share their definitions.
        properties = [_definition(p) for p in thing.get("properties", [])]
        first = thing.get("first", 0)
        for number in range(first, first + thing.get("count", 1)):
            platform.add_thing(
                thing["name"].replace("{}", str(number)),
                thing.get("template", "RemoteThing"),
                thing.get("tags", _TAGS),
                properties,
                description=thing.get("description", ""),
                identifier=thing.get("identifier", "").replace("{}", str(number)),
                enabled=thing.get("enabled", True),
            )
            added += 1
    return added


def _definition(values: Mapping[str, Any]) -> PropertyDefinition:
    name = values["name"]
    binding = None
    if values.get("remote", True):
        binding = RemoteBinding(
            values.get("edgeName", name),
            values.get("pushType", "ALWAYS"),
            push_threshold=values.get("pushThreshold", 0.0),
            cache_time=values.get("cacheTime", -1.0),
            fold_type=values.get("foldType", "NONE"),
        )
    return PropertyDefinition(
        name,
        values.get("baseType", "NUMBER"),
        values.get("description", ""),
        values.get("category", "AWSConnectorBound"),
        is_read_only=values.get("readOnly", False),
        is_logged=values.get("logged", True),
        data_shape=values.get("dataShape", ""),
        binding=binding,
    )
