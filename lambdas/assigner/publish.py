"""The publish step: make the registry say what the control table says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.control_table import ASSIGNED
from lambdas.shared.registry import Entry, Route

if TYPE_CHECKING:
    from lambdas.shared.control_table import ControlTable
    from lambdas.shared.registry import Registry

__all__ = ["publish"]


def publish(control: ControlTable, registry: Registry) -> dict[str, int]:
    """Write all slots, shapes and Things to the registry and remove what is no longer served.

    Nothing is compared with the last time, so the registry is right afterwards whatever it was. Only
    active slots get readings: a Thing whose slot retires or has no queue yet is unknown to the router
    until a later run, and its readings are held. One whose shape isn't stored is left as it was.

    Returns:
        Counts: `things`, `slots` and `shapes` written, `removed` Things.

    Raises:
        RegistryUnavailable: Redis doesn't answer; doing it again is safe.
    """
    routes = {
        slot.id: Route(slot.queue_url, slot.lanes)
        for slot in control.slots()
        if slot.queue_url and slot.state == "active"
    }
    served = {
        record.name: record
        for record in control.things()
        if record.state == ASSIGNED and record.slot in routes
    }
    shapes = control.shapes(record.shape for record in served.values())
    entries = {
        name: Entry(record.slot, record.shape) for name, record in served.items() if record.shape in shapes
    }
    removed = registry.thing_names() - served.keys()
    registry.publish(shapes, routes, entries, removed)
    return {"things": len(entries), "slots": len(routes), "shapes": len(shapes), "removed": len(removed)}
