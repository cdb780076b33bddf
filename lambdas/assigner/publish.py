"""The publish step: make the registry say what the control table says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.control_table import ASSIGNED
from lambdas.shared.destination import Destination
from lambdas.shared.registry import Entry, Route

if TYPE_CHECKING:
    from lambdas.assigner.held import HeldOfNewThings
    from lambdas.shared.control_table import ControlTable
    from lambdas.shared.registry import Registry

__all__ = ["publish"]

#: A plan's records are written at most so long after the time that they have; milliseconds.
_PLAN_MILLISECONDS = 900_000


def publish(
    control: ControlTable, registry: Registry, held: HeldOfNewThings, published: int
) -> dict[str, int]:
    """Write all slots, shapes and Things to the registry and remove what is no longer served.

    Nothing is compared with the last time, so the registry is right afterwards whatever it was. Only
    active slots get readings: a Thing whose slot retires or has no queue yet is unknown to the router
    until a later run, and its readings are held. One whose shape isn't stored is left as it was. What is
    held of a new Thing is sent before it is published; one that has more than time allows waits for a
    later run.

    Args:
        control: control table.
        registry: registry.
        held: sends what is held of new Things.
        published: when the last publishing that ended well began, milliseconds since 1970.

    Returns:
        Counts: `things`, `slots` and `shapes` written, `removed` and `waiting` Things, and `stranded` ones: a
        plan put them into a slot just as it began to retire, and the next run over all Things moves them.

    Raises:
        RegistryUnavailable: Redis doesn't answer; doing it again is safe.
    """
    active = {slot.id: slot for slot in control.slots() if slot.state == "active"}
    routes = {name: Route(slot.queue_url, slot.lanes) for name, slot in active.items() if slot.queue_url}
    assigned = [record for record in control.things() if record.state == ASSIGNED]
    served = {record.name: record for record in assigned if record.slot in routes}
    shapes = control.shapes(record.shape for record in served.values())
    entries = {
        name: Entry(record.slot, record.shape) for name, record in served.items() if record.shape in shapes
    }

    def destination(entry: Entry) -> Destination:
        route = routes[entry.slot]
        return Destination(entry.slot, route.queue_url, route.lanes, entry.shape, shapes[entry.shape])

    known = registry.thing_names()
    new = entries.keys() - known
    # Whom a registry that is whole doesn't have is unknown to the router, however long ago it was planned:
    # its slot may have had no queue. While one is lost the router holds nothing.
    fresh = (
        new
        if registry.is_published()
        else {name for name in new if served[name].changed > published - _PLAN_MILLISECONDS}
    )
    waiting = held.before({name: destination(entries[name]) for name in new}, fresh)
    for name in waiting:
        del entries[name]
    removed = known - served.keys()
    registry.publish(shapes, routes, entries, removed)
    held.after({name: destination(entry) for name, entry in entries.items()})
    return {
        "things": len(entries),
        "slots": len(routes),
        "shapes": len(shapes),
        "removed": len(removed),
        "waiting": len(waiting),
        "stranded": sum(record.slot not in active for record in assigned),
    }
