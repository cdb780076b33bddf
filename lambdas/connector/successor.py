"""A connector that takes over: binds the slot's Things, then takes the lease that is offered to it."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.handover import HandsOver, group_of
from lambdas.connector.lease import LeaseLost, Taken
from lambdas.shared.errors import ThingworxCallFailed, ThingworxError
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter

    from lambdas.connector.handover import Call, Patience
    from lambdas.connector.lease import Lease
    from lambdas.connector.slot_view import Offer

__all__ = ["Successor", "Wanted"]


class Wanted(Protocol):
    """Which Things shall be bound."""

    async def load(self) -> None:
        """Learn it from what the owner has stored; raises when that can't be read."""

    def wanted(self) -> frozenset[str]:
        """Their names, as far as they have been loaded; empty before."""


class Successor:
    """One hand-over, from the side of the connector that has waited for it.

    Args:
        lease: the slot's, asked for.
        transport: way to ThingWorx, open.
        wanted: which Things to bind; None where nothing is bound.
        call: runs a call of the lease in a thread.
        counters: what happened, by name.
        patience: time limits.
    """

    def __init__(
        self,
        lease: Lease,
        transport: object,
        wanted: Wanted | None,
        call: Call,
        *,
        counters: Counter[str],
        patience: Patience,
    ) -> None:
        self._lease = lease
        self._transport = transport if isinstance(transport, HandsOver) else None
        self._wanted = wanted
        self._call = call
        self._counters = counters
        self._patience = patience
        self._bound: set[str] = set()
        self._prepared = False

    async def prepare(self) -> None:
        """Learn what to bind, once, while the owner still serves; changes since are seen to later."""
        if self._prepared:
            return
        try:
            if self._wanted is not None:
                await self._wanted.load()
        except (ClientError, BotoCoreError) as error:
            # They are bound once the slot is ours.
            logger.warning("what is to be bound can't be read", reason=str(error))
        else:
            self._prepared = True

    async def take(self) -> bool:
        """Take what is offered; false when the offer was withdrawn, with nothing left bound here."""
        await self.prepare()
        # Only now: where the last bind wins, binding for an offer that was taken back would take Things from
        # an owner that doesn't learn of it.
        slot = await self._call(self._lease.view)
        if slot.offer is None or slot.owner is None or slot.successor != self._lease.owner:
            return False
        try:
            if not await self._bind(slot.offer, slot.owner):
                return False
            await self._call(partial(self._lease.take, slot.owner))
        except LeaseLost:
            # Withdrawn; or it was taken by a call whose answer got lost.
            if await self._call(self._lease.acquire) is not Taken.HELD:
                self._give_back()
                return False
        gap = max(0, int(time.time() * 1000) - slot.offer.since)
        self._counters.update(handovers=1, handover_gap_ms=gap)
        logger.info("slot taken over", things=len(self._bound), gap_ms=gap)
        return True

    async def _bind(self, offer: Offer, owner: str) -> bool:
        """Bind as far as the platform lets us; false when that is not to be tried now.

        Raises:
            LeaseLost: the offer is withdrawn.
        """
        transport, wanted = self._transport, self._wanted.wanted() if self._wanted else frozenset()
        if transport is None:
            return True
        try:
            if not offer.probe or await self._wins(transport, offer.probe):
                await self._bind_all(transport, wanted)
            else:
                await self._bind_groups(transport, wanted, offer.groups, owner)
        except ThingworxError as error:
            logger.warning("no connection to take the slot over with", reason=str(error))
            self._give_back()
            return False
        return True

    async def _wins(self, transport: HandsOver, probe: str) -> bool:
        """Whether this connection gets a Thing that the owner's has, by binding it.

        Only one that the platform also synchronises is surely bound here: it may answer a BIND with
        success and do nothing.
        """
        self._bound.add(probe)
        transport.bind([probe])
        try:
            async with asyncio.timeout(self._patience.probe):
                await transport.ready(probe)
        except (ThingworxCallFailed, TimeoutError):
            transport.unbind([probe])
            self._bound.discard(probe)
            return False
        return True

    async def _bind_all(self, transport: HandsOver, things: frozenset[str]) -> None:
        self._bound |= things
        transport.bind(sorted(things))
        try:
            async with asyncio.timeout(self._patience.step):
                await transport.bound(things)
        except TimeoutError:
            logger.warning("not all Things are bound yet", things=len(things))

    async def _bind_groups(
        self, transport: HandsOver, things: frozenset[str], groups: int, owner: str
    ) -> None:
        slot = await self._call(partial(self._lease.rebound, 0, owner))
        for group in range(groups):
            since = time.monotonic()
            while slot.offer is not None and slot.offer.unbound <= group:
                if time.monotonic() - since >= self._patience.step:
                    logger.warning("the connector before this one does not answer any more", group=group)
                    await self._bind_all(transport, things)
                    return
                await asyncio.sleep(self._patience.poll)
                slot = await self._call(self._lease.view)
            if slot.offer is None or slot.owner != owner:
                raise LeaseLost("the offer is withdrawn")
            await self._bind_all(
                transport, frozenset(thing for thing in things if group_of(thing, groups) == group)
            )
            if group + 1 < groups:  # after the last one, taking the lease says it
                slot = await self._call(partial(self._lease.rebound, group + 1, owner))

    def _give_back(self) -> None:
        if self._transport is not None:
            self._transport.unbind(self._bound)
        self._bound = set()
