"""A Thing's presence as one of its properties, so that ThingWorx keeps a history of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lambdas.connector.gate import backoff
from lambdas.connector.outcome import Outcome, outcome_of
from lambdas.connector.stop import Stopped
from lambdas.shared.observability import logger
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lambdas.connector.presence import Tell
    from lambdas.shared.control_table import ThingRecord
    from lambdas.shared.shape import Shape
    from lambdas.thingworx.transport import Pushes

__all__ = ["PresenceProperty"]

_BASE_TYPE = "BOOLEAN"
#: Writes under way at once: a whole slot may come or go together.
_AT_ONCE = 16
#: Tries of a write that the platform fails for a reason that may pass.
_TRIES = 5


class PresenceProperty:
    """Writes presence to the property of one name, of those Things that have it as a BOOLEAN.

    Args:
        name: property name.
        shapes: reads shapes by id; blocks.
    """

    def __init__(self, name: str, shapes: Callable[[Iterable[str]], Mapping[str, Shape]]) -> None:
        self._name = name
        self._shapes = shapes
        self._outlet: Pushes | None = None
        self._window = asyncio.Semaphore(_AT_ONCE)
        #: Shape id -> the property's edge name, None where the shape has none.
        self._edges: dict[str, str | None] = {}
        self._shape_of: dict[str, str] = {}

    def pass_through(self, outlet: Pushes) -> None:
        """From now on write, through this outlet."""
        self._outlet = outlet

    def learn(self, things: Iterable[ThingRecord]) -> None:
        """Take note of the slot's Things; blocks."""
        shape_of = {thing.name: thing.shape for thing in things}
        new = set(shape_of.values()) - self._edges.keys()
        found = self._shapes(new) if new else {}
        for shape_id, shape in found.items():
            known = shape.get(self._name)
            self._edges[shape_id] = known.edge if known and known.base_type == _BASE_TYPE else None
        self._shape_of = shape_of

    def edge_of(self, thing: str) -> str | None:
        """Edge name of the property, or None where the Thing has none."""
        return self._edges.get(self._shape_of.get(thing, ""))

    async def write(self, tell: Tell) -> bool:
        """Write until ThingWorx has it, or will never take it; a Thing without the property is left alone.

        Returns:
            Whether that is done; false: the slot isn't ours, or not ours any more.
        """
        edge = self.edge_of(tell.thing)
        if edge is None:
            return True
        if self._outlet is None:
            return False
        row = ValueRow(edge, _BASE_TYPE, tell.connected, tell.time)
        for number, delay in enumerate(backoff(), start=1):
            try:
                # Before it takes a place: Things that are slow to be bound must not stop all others.
                await self._outlet.ready(tell.thing)
                async with self._window:
                    # A remote binding may be missing: then the result says so, and nobody needs to know.
                    await self._outlet.push(tell.thing, [row])
            except Stopped:
                return False
            except Exception as error:  # noqa: BLE001 - outcome_of says what to do with each
                verdict = outcome_of(error)
                final = verdict.outcome in (Outcome.PARK, Outcome.REJECT)
                if final or (verdict.outcome is Outcome.RETRY and number == _TRIES):
                    logger.warning("presence not written", thing=tell.thing, reason=verdict.detail)
                    return True
            else:
                return True
            await asyncio.sleep(delay)
        raise AssertionError  # pragma: no cover - backoff never ends
