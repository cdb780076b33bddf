"""The one way by which values leave a connector: paced, and shut while the lease is offered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lambdas.connector.stop import Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lambdas.connector.budget import WriteBudget
    from lambdas.connector.stop import Stop
    from lambdas.thingworx.infotable import ValueRow
    from lambdas.thingworx.transport import Check, PushResult, Transport

    Push = Callable[[str, Sequence[ValueRow], Check], Awaitable[PushResult]]

__all__ = ["Outlet"]

#: How soon a push that waits goes on once the outlet is open again.
_LOOK_SECONDS = 0.05


class Outlet:
    """Pushes for everybody in a connector that has something to push.

    Args:
        transport: way to the platform.
        budget: what may be written a second.
        owns: whether this connector owns its slot; asked right before each request that a push needs.
        stop: ends the waiting.
    """

    def __init__(
        self, transport: Transport, budget: WriteBudget, owns: Callable[[], bool], stop: Stop
    ) -> None:
        self._transport = transport
        self._budget = budget
        self._owns = owns
        self._stop = stop
        self._under_way = 0
        self._open = asyncio.Event()
        self._open.set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def ready(self, thing: str) -> None:
        """See `Pushes.ready`.

        Raises:
            Stopped: the connector doesn't own the slot any more: nothing may be bound.
        """
        self._check()
        await self._transport.ready(thing)

    async def push(self, thing: str, rows: Sequence[ValueRow]) -> PushResult:
        """See `Pushes.push`.

        Raises:
            Stopped: the connector gives up, or doesn't own the slot any more.
        """
        return await self.through(self._transport.push, thing, rows)

    async def through(self, push: Push, thing: str, rows: Sequence[ValueRow]) -> PushResult:
        """Push in another way, under the same rules."""
        await self._budget.take(len(rows))
        while not self._open.is_set():
            await self._stop.pause(_LOOK_SECONDS)
        self._check()
        self._under_way += 1
        self._quiet.clear()
        try:
            return await push(thing, rows, self._check)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def shut(self, seconds: float) -> bool:
        """Let nothing begin until `reopen`, and wait at most `seconds` for what is under way.

        Returns:
            Whether nothing is under way.
        """
        self._open.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def reopen(self) -> None:
        """Let pushes begin again."""
        self._open.set()

    def _check(self) -> None:
        if not self._owns():
            raise Stopped
