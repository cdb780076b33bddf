"""Where the readings of a Thing go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lambdas.shared.shape import Shape

__all__ = ["Destination"]


class Destination(NamedTuple):
    """Where a Thing's readings go.

    Attributes:
        slot: slot id.
        queue_url: the slot's queue.
        lanes: how many lanes the queue has.
        shape_id: id of the Thing's shape.
        shape: the Thing's shape.
    """

    slot: str
    queue_url: str
    lanes: int
    shape_id: str
    shape: Shape
