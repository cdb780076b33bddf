"""Properties of a slot's Things by their edge names, read from the control table when they are asked for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lambdas.shared.control_table import ThingRecord
    from lambdas.shared.shape import Shape

__all__ = ["EdgeProperty", "Shapes"]

#: A discovery run may give a Thing other properties.
_FRESH_SECONDS = 60.0
#: How soon a property that isn't known is looked for again.
_UNKNOWN_SECONDS = 2.0


class EdgeProperty(NamedTuple):
    """A property as the platform addresses it.

    Attributes:
        name: the property's, which devices use.
        base_type: ThingWorx base type.
    """

    name: str
    base_type: str


class Shapes:
    """Shapes of Things, each read once and again after a while.

    Args:
        record: reads a Thing's record; blocks.
        shapes: reads shapes by id; blocks.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        record: Callable[[str], ThingRecord | None],
        shapes: Callable[[Iterable[str]], Mapping[str, Shape]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._read_shapes = shapes
        self._clock = clock
        self._shape_of: dict[str, tuple[float, str]] = {}
        self._by_edge: dict[str, dict[str, EdgeProperty]] = {}

    async def of(self, thing: str, edges: Iterable[str] = ()) -> Mapping[str, EdgeProperty]:
        """Edge name -> property of a Thing; empty when the Thing isn't known.

        Args:
            thing: Thing name.
            edges: edge names it is asked for: when one isn't known, the table may know it by now.
        """
        read_at, shape = self._shape_of.get(thing, (float("-inf"), ""))
        found = self._by_edge.get(shape, {})
        known = all(edge in found for edge in edges)
        if self._clock() - read_at < (_FRESH_SECONDS if known else _UNKNOWN_SECONDS):
            return found
        before = self._clock()
        shape = await asyncio.to_thread(self._load, thing)
        self._shape_of[thing] = (before, shape)
        return self._by_edge.get(shape, {})

    def _load(self, thing: str) -> str:
        record = self._record(thing)
        if record is None:
            return ""
        if record.shape not in self._by_edge:  # an id's content never changes
            for shape_id, shape in self._read_shapes([record.shape]).items():
                self._by_edge[shape_id] = {
                    known.edge: EdgeProperty(name, known.base_type) for name, known in shape.items()
                }
        return record.shape
