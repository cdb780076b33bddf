"""The Things of a slot, bound from the start: shown as connected before their first reading comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["AssignedThings", "Binds"]

#: Each look reads all of the slot's records, and they change only when discovery runs.
_LOOK_SECONDS = 30.0
_REASONS_SHOWN = 5


@runtime_checkable
class Binds(Protocol):
    """A transport that keeps Things bound."""

    def bind(self, things: Iterable[str]) -> None:
        """Keep these Things bound; returns at once."""

    def unbind(self, things: Iterable[str]) -> None:
        """Bind these Things no longer; returns at once."""

    def retry_parked(self, things: Iterable[str] | None = None) -> None:
        """Bind refused Things now: these, or all."""

    def parked(self) -> dict[str, str]:
        """Things that the platform refuses now, with the reason."""

    async def ready(self, thing: str) -> None:
        """Wait until a Thing is bound, or can't be: then it raises."""


class AssignedThings:
    """Has the transport bind what the control table assigns to the slot.

    Args:
        slot: slot id, for logs.
        transport: binds.
        names: reads the names of the slot's Things; blocks.
        last_run: reads the name of the last discovery run that ended, or None; blocks.
    """

    def __init__(
        self,
        slot: str,
        transport: Binds,
        names: Callable[[], Iterable[str]],
        last_run: Callable[[], str | None],
    ) -> None:
        self._slot = slot
        self._transport = transport
        self._names = names
        self._last_run = last_run
        self._bound: frozenset[str] = frozenset()
        self._run: str | None = None

    async def keep(self) -> None:
        """Bind the slot's Things, and follow each change until cancelled."""
        told = False
        while True:
            await self._look()
            if self._bound and not told:
                told = True
                await self._tell()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        try:
            run = await asyncio.to_thread(self._last_run)
            now = frozenset(await asyncio.to_thread(self._names))
        except Exception as error:  # noqa: BLE001 - whatever it was: readings bind their Things all the same
            logger.warning("the slot's Things can't be read", slot=self._slot, reason=str(error))
            return
        before, self._bound = self._bound, now
        self._transport.bind(sorted(now - before))
        self._transport.unbind(sorted(before - now))
        if run and run != self._run:
            # What the platform refused may have been put right before somebody started this run.
            self._transport.retry_parked()
            self._run = run

    async def _tell(self) -> None:
        """Once a connector: how many Things are shown as connected, and why the others are not."""
        answers = await asyncio.gather(
            *(self._transport.ready(name) for name in sorted(self._bound)), return_exceptions=True
        )
        bound = sum(not isinstance(answer, BaseException) for answer in answers)
        parked = self._transport.parked()
        logger.warning(
            "Things bound",
            slot=self._slot,
            bound=bound,
            parked=len(parked),
            waiting=max(0, len(answers) - bound - len(parked)),
            first_reasons=dict(list(parked.items())[:_REASONS_SHOWN]),
        )
