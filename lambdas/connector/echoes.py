"""Values that a shadow has taken, pushed back: until then ThingWorx shows what was before the write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from lambdas.connector.gate import backoff
from lambdas.connector.stop import Stopped
from lambdas.shared.errors import ThingworxCallFailed, ThingworxError, ThingworxUnavailable
from lambdas.shared.observability import logger
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from lambdas.connector.outlet import Push
    from lambdas.connector.push_times import PushTimes
    from lambdas.connector.writeback import Accepted
    from lambdas.thingworx.transport import PushResult

__all__ = ["Echoes", "Passes"]

#: Tries of an echo while the platform is away: about a minute.
_TRIES = 7


class Passes(Protocol):
    """The way out of the connector."""

    async def through(self, push: Push, thing: str, rows: Sequence[ValueRow]) -> PushResult:
        """See `Outlet.through`."""


class Echoes:
    """Pushes values back, of many Things at once; for one event loop.

    Args:
        push: pushes back, see `AlwaysOnTransport.echo`.
        times: gives an echo its time.
        owns: whether this connector owns its slot; asked before each push.
        counters: what happened, by name.
    """

    def __init__(
        self, push: Push, times: PushTimes, *, owns: Callable[[], bool], counters: Counter[str]
    ) -> None:
        self._push = push
        self._times = times
        self._owns = owns
        self._counters = counters
        self._running: set[asyncio.Task[None]] = set()
        self._outlet: Passes | None = None

    def pass_through(self, outlet: Passes) -> None:
        """From now on push, through this outlet."""
        self._outlet = outlet

    def begin(self, thing: str, accepted: Sequence[Accepted]) -> None:
        """Push these values back; returns at once."""
        rows = [
            ValueRow(edge, base_type, value, self._times.echo(thing, edge, value))
            for edge, base_type, value in accepted
        ]
        task = asyncio.get_running_loop().create_task(self._pushed_back(thing, rows))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def rest(self, seconds: float) -> None:
        """Wait at most so long for those under way."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _pushed_back(self, thing: str, rows: list[ValueRow]) -> None:
        failed, reason = len(rows), "the connector ends"
        try:
            for _, pause in zip(range(_TRIES), backoff(), strict=False):
                if not self._owns():
                    reason = "the lease is lost"
                    return
                try:
                    result = await self._passed(thing, rows)
                except (ThingworxCallFailed, Stopped) as error:
                    reason = str(error) or reason
                    return
                except ThingworxError as error:
                    reason = str(error)
                    await asyncio.sleep(pause)
                else:
                    failed, reason = self._pushed(thing, rows, result)
                    return
        finally:
            self._counters["echoes_failed"] += failed
            if failed:
                logger.warning("written values not pushed back", thing=thing, values=failed, reason=reason)

    async def _passed(self, thing: str, rows: list[ValueRow]) -> PushResult:
        if self._outlet is None:
            raise ThingworxUnavailable("the slot is not served yet")
        return await self._outlet.through(self._push, thing, rows)

    def _pushed(self, thing: str, rows: list[ValueRow], result: PushResult) -> tuple[int, str]:
        """Count; how many the platform refused, and why."""
        refused = {id(entry.row): entry.detail for entry in result.refused}
        self._times.delivered(thing, [row for row in rows if id(row) not in refused])
        self._counters["echoes"] += len(rows) - result.suppressed - len(refused)
        self._counters["echoes_unneeded"] += result.suppressed
        return len(refused), next(iter(refused.values()), "")
