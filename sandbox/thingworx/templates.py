"""The ThingTemplates every platform has, with their built-in properties."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.thingworx.model import REMOTE_TEMPLATES, PropertyDefinition, Template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.model import Shape

__all__ = ["built_in", "derive"]


def _built_in(text: str, category: str) -> list[PropertyDefinition]:
    pairs = (word.split(":") for word in text.split())
    return [
        PropertyDefinition(name, base_type, category=category, is_read_only=True, is_built_in=True)
        for name, base_type in pairs
    ]


def built_in() -> dict[str, Template]:
    """GenericThing, the remote family under it, and two more that a platform comes with."""
    metadata = _built_in(
        "name:STRING description:STRING thingTemplate:THINGTEMPLATENAME tags:TAGS", "Metadata"
    )
    remote = _built_in(
        "isConnected:BOOLEAN lastConnection:DATETIME isReporting:BOOLEAN reportingLastChange:DATETIME "
        "reportingLastEvaluation:DATETIME isInitialStateSynchronized:BOOLEAN "
        "lastInitialStateSynchronized:DATETIME",
        "",
    )
    generic = derive("GenericThing", None, metadata)
    root = derive("RemoteThing", generic, remote, is_remote=True)
    family = [derive(name, root, ()) for name in REMOTE_TEMPLATES if name != root.name]
    others = [derive(name, generic, ()) for name in ("Timer", "Scheduler")]
    return {template.name: template for template in (generic, root, *family, *others)}


def derive(
    name: str,
    base: Template | None,
    properties: Iterable[PropertyDefinition],
    *,
    is_remote: bool = False,
    shapes: Iterable[Shape] = (),
) -> Template:
    """A template with its base's properties, its shapes' and its own; remote when the base is."""
    template = Template(
        name,
        base,
        is_remote=is_remote or (base is not None and base.is_remote),
        added={definition.name: definition for definition in properties},
        shapes=tuple(shapes),
    )
    template.define()
    return template
