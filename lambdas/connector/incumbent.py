"""A connector that leaves: offers its lease, and unbinds its Things when the successor calls for them."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.handover import HandsOver, group_of, groups_for
from lambdas.connector.lease import LeaseLost
from lambdas.connector.slot_view import Offer
from lambdas.shared.errors import ThingworxError
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter

    from lambdas.connector.handover import Call, Patience
    from lambdas.connector.lease import Lease
    from lambdas.connector.slot_view import SlotView

__all__ = ["Incumbent", "Outcome"]

#: Groups that may be unbound and not bound again: the next is unbound while the successor binds one.
_AWAY_AT_ONCE = 2


class Outcome(Enum):
    """What became of an offer."""

    TAKEN = "the successor has the lease"
    BACK = "the lease is ours again"
    UNKNOWN = "the table can't be asked"


class Incumbent:
    """One offer of the lease, from a connector that has nothing under way.

    Args:
        lease: the slot's, held.
        transport: way to ThingWorx.
        call: runs a call of the lease in a thread.
        counters: what happened, by name.
        patience: time limits.
        renew_seconds: how often the lease is prolonged meanwhile.
    """

    def __init__(
        self,
        lease: Lease,
        transport: object,
        call: Call,
        *,
        counters: Counter[str],
        patience: Patience,
        renew_seconds: float,
    ) -> None:
        self._lease = lease
        self._transport = transport if isinstance(transport, HandsOver) else None
        self._call = call
        self._counters = counters
        self._patience = patience
        self._renew_seconds = renew_seconds
        self._things: list[str] = []
        self._renewed = time.monotonic()

    async def offer(self, since: int, end_at: float) -> Outcome:
        """Offer the lease and wait until it is taken; when it is not, take it back.

        Args:
            since: when receiving was stopped, milliseconds since 1970.
            end_at: when to stop waiting whatever happens, on the monotonic clock.

        Raises:
            LeaseLost: it was lost before it could be offered.
        """
        self._things = self._transport.bound_things() if self._transport else []
        offer = Offer(groups_for(len(self._things)), self._things[0] if self._things else "", since)
        try:
            await self._call(partial(self._lease.offer, offer))
        except (ClientError, BotoCoreError) as error:
            logger.warning("the lease can't be offered", reason=str(error))
        else:
            try:
                if await self._taken(offer.groups, end_at):
                    return Outcome.TAKEN
            except LeaseLost:
                return Outcome.TAKEN
            logger.warning("no sign of the successor: serving on")
        return await self._take_back(end_at)

    async def _taken(self, groups: int, end_at: float) -> bool:
        """Whether the successor takes the lease in time; it is helped to bind meanwhile.

        Raises:
            LeaseLost: it has taken it.
        """
        unbound, told, sign = 0, 0, None
        last_sign = time.monotonic()
        while (now := time.monotonic()) < min(end_at, last_sign + self._patience.sign):
            slot = await self._look(unbound if unbound > told else None)
            if slot is None:
                await asyncio.sleep(self._patience.poll)
                continue
            if slot.owner != self._lease.owner:
                return True
            if slot.offer is None or slot.state == "stopping":
                return False
            told = unbound
            if slot.offer.rebound != sign:
                sign, last_sign = slot.offer.rebound, now
            if sign is not None and unbound < min(groups, sign + _AWAY_AT_ONCE):
                await self._unbind(unbound, groups)
                unbound += 1
            else:
                await asyncio.sleep(self._patience.poll)
        return False

    async def _look(self, unbound: int | None) -> SlotView | None:
        """The slot as it is now, or None when it can't be read; `unbound` is what it is to be told first."""
        now = time.monotonic()
        prolongs = unbound is not None or now - self._renewed >= self._renew_seconds
        look = self._lease.renew if prolongs else self._lease.view
        try:
            slot: SlotView = await self._call(
                look if unbound is None else partial(self._lease.unbound, unbound)
            )
        except (ClientError, BotoCoreError) as error:
            logger.warning("the slot can't be read", reason=str(error))
            return None
        if prolongs:
            self._renewed = now
        return slot

    async def _unbind(self, group: int, groups: int) -> None:
        things = [thing for thing in self._things if group_of(thing, groups) == group]
        if self._transport is None or not things:
            return
        self._counters["handover_transitions"] += 2 * len(things)
        try:
            async with asyncio.timeout(self._patience.step):
                await self._transport.release(things)
        except (ThingworxError, TimeoutError) as error:
            # The successor tries for as long as the platform keeps them.
            logger.warning("Things were not unbound", group=group, reason=str(error))

    async def _take_back(self, end_at: float) -> Outcome:
        while True:
            try:
                await self._call(self._lease.take_back)
            except LeaseLost:
                return Outcome.TAKEN
            except (ClientError, BotoCoreError) as error:
                logger.warning("the lease can't be taken back yet", reason=str(error))
            else:
                if self._transport is not None:
                    # Those too that were bound meanwhile: the successor may have taken them.
                    self._transport.rebind({*self._things, *self._transport.bound_things()})
                return Outcome.BACK
            if time.monotonic() >= end_at:
                return Outcome.UNKNOWN
            await asyncio.sleep(10 * self._patience.poll)
