"""Values that are asked of the edge when somebody reads them.

Documented by PTC: a binding's cache time (-1 the platform's copy, 0 ask each time, else ask once the copy is
that old, in ms). Inferred: that the answer becomes the current value, with the platform's time, and that
without an edge the copy is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.thingworx.edges import edge_answers
from sandbox.thingworx.writes import current, push_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.model import PropertyDefinition, Thing
    from sandbox.thingworx.platform import Platform

__all__ = ["refresh"]


async def refresh(platform: Platform, thing: Thing, definitions: Iterable[PropertyDefinition]) -> None:
    """Ask the edge for those of these properties whose copy is too old by their bindings.

    Raises:
        PlatformError: The edge refuses, or doesn't answer in time.
    """
    with platform.lock:
        link = platform.edges.get(thing.name)
        due = []
        for definition in definitions:
            binding = thing.binding(definition)
            if link is None or binding is None or binding.cache_time < 0:
                continue
            if platform.now() - current(platform, thing, definition).time >= binding.cache_time:
                due.append((binding.source_name, link.read(binding.source_name)))
    seconds = platform.settings.edge_answer_seconds
    answers = await edge_answers((answer for _, answer in due), thing.name, seconds)
    rows = [{"name": name, "value": value} for (name, _), value in zip(due, answers, strict=True)]
    if rows:
        push_values(platform, thing, rows, "GET")
