"""Where Things' readings go today, read from the control table: what the router knows, without Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.backlog_markers import is_marked
from lambdas.shared.control_table import ASSIGNED, ControlTable
from lambdas.shared.destination import Destination
from lambdas.shared.held_store import NAMELESS

if TYPE_CHECKING:
    from lambdas.shared.shape import Shape
    from ops.stack import Stack

__all__ = ["Routing"]


class Routing:
    """Looks Things up one by one, and slots once.

    Args:
        stack: the stack.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._control = ControlTable(stack.control_table, stack.dynamodb)
        self._slots = {slot.id: slot for slot in self._control.slots()}
        self._shapes: dict[str, Shape] = {}

    def find(self, thing: str) -> tuple[Destination | None, str]:
        """A Thing's destination, or None and why it has none."""
        if thing in ("", NAMELESS):
            return None, "it came without a Thing's name"
        record = self._control.thing(thing)
        if record is None or record.state != ASSIGNED:
            return None, "the Thing is not known; run discovery once it exists in ThingWorx"
        slot = self._slots.get(record.slot)
        if slot is None or not slot.queue_url or slot.state != "active":
            return None, f"slot {record.slot} takes no readings; run discovery"
        if record.shape not in self._shapes:
            self._shapes.update(self._control.shapes([record.shape]))
        shape = self._shapes.get(record.shape)
        if shape is None:
            return None, "its properties are not known; run discovery"
        return Destination(slot.id, slot.queue_url, slot.lanes, record.shape, shape), ""

    def catches_up(self, thing: str, destination: Destination) -> bool:
        """Whether the slot's connector sends the Thing's parked readings itself, those read before asking."""
        return is_marked(self._stack.dynamodb, self._stack.control_table, destination.slot, thing)
