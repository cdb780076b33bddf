"""Which Things of a slot are bound: all of them from the start, or those that are present."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.connector.present_things import PresentThings
    from lambdas.thingworx.transport import Pushes

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

    For a hand-over: `load`, then `wanted` is what the connector before has bound, to be bound before that
    one closes; `keep`, once the slot is ours, reads again and does the rest. `keep` stores what the next
    one needs when it is cancelled, so it has to end before the lease is given away.

    Args:
        slot: slot id, for logs.
        transport: binds.
        names: reads the names of the slot's Things; blocks.
        last_run: reads the name of the last discovery run that ended, or None; blocks.
        present: says which of them are present; None: all are bound.
        tell_refused: takes the Things that the platform refuses, with the reason; blocks.
    """

    def __init__(
        self,
        slot: str,
        transport: Binds,
        names: Callable[[], Iterable[str]],
        last_run: Callable[[], str | None],
        present: PresentThings | None = None,
        *,
        tell_refused: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        self.present = present
        self._slot = slot
        self._transport = transport
        self._names = names
        self._last_run = last_run
        self._wanted: frozenset[str] = frozenset()
        self._bound: frozenset[str] = frozenset()
        self._run: str | None = None
        self._tell_refused = tell_refused
        self._refused: dict[str, str] | None = None

    def pass_through(self, outlet: Pushes) -> None:
        """The slot is ours: what is written about Things goes through this outlet."""
        if self.present is not None:
            self.present.pass_through(outlet)

    async def load(self) -> None:
        """Learn what is to be bound, in one read; binds nothing.

        Raises:
            ClientError: the control table can't be read.
        """
        if self.present is not None:
            await self.present.load()
        else:
            self._wanted = frozenset(await asyncio.to_thread(self._names))

    def wanted(self) -> frozenset[str]:
        """Things that are to be bound, as far as is known; empty before `load` and `keep`."""
        return self._wanted if self.present is None else self.present.wanted()

    async def keep(self) -> None:
        """Keep the Things bound that are to be bound, until cancelled."""
        if self.present is None:
            await self._follow()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.present.run())
            await self.present.ready()
            await self._follow()

    async def _follow(self) -> None:
        """Look at the assignment again and again."""
        told = False
        while True:
            await self._look()
            if not told and (wanted := self.wanted()):
                told = True
                await self._tell(wanted)
            await self._report_refused()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        try:
            run = await asyncio.to_thread(self._last_run)
            now = frozenset(await asyncio.to_thread(self._names))
        except Exception as error:  # noqa: BLE001 - whatever it was: readings bind their Things all the same
            logger.warning("the slot's Things can't be read", slot=self._slot, reason=str(error))
            return
        if self.present is not None:
            self.present.assign(now)
        else:
            before, self._bound, self._wanted = self._bound, now, now
            self._transport.bind(sorted(now - before))
            self._transport.unbind(sorted(before - now))
        if run and run != self._run:
            # What the platform refused may have been put right before somebody started this run.
            self._transport.retry_parked()
            self._run = run

    async def _report_refused(self) -> None:
        """For the report of the next discovery run, when it isn't what was told last."""
        refused = self._transport.parked()
        if self._tell_refused is None or refused == self._refused:
            return
        try:
            await asyncio.to_thread(self._tell_refused, refused)
        except (ClientError, BotoCoreError) as error:
            logger.warning("refused Things can't be told", slot=self._slot, reason=str(error))
        else:
            self._refused = refused

    async def _tell(self, wanted: frozenset[str]) -> None:
        """Once a connector: how many Things are shown as connected, and why the others are not."""
        answers = await asyncio.gather(
            *(self._transport.ready(name) for name in sorted(wanted)), return_exceptions=True
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
