"""What a connector does while it owns its slot: deliver, keep the lease, make room for a successor."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.assigned import Binds
from lambdas.connector.backlog import Backlog
from lambdas.connector.budget import WriteBudget, keep_share
from lambdas.connector.deliver import Delivery
from lambdas.connector.drain import MOST_MESSAGES, Drain
from lambdas.connector.incumbent import Incumbent, Outcome
from lambdas.connector.lease import LeaseLost
from lambdas.connector.life import State, ended
from lambdas.connector.outlet import Outlet
from lambdas.connector.slot_queue import SlotQueue
from lambdas.connector.stall import StallWatch
from lambdas.connector.stop import StopReason
from lambdas.connector.token import TokenClosed
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.connector.life import Life
    from lambdas.connector.slot_view import SlotView
    from lambdas.thingworx.transport import Transport

__all__ = ["Tenure"]

#: Offers of the slot that nobody takes up, before it is given up for whoever comes.
_MOST_OFFERS = 2
#: Messages held while a successor may come: few, since readings wait until all of them are settled.
_LEAVING_MESSAGES = 20
#: How long the first message waits for what the predecessor left.
_TAKE_OVER_SECONDS = 5.0
#: Counters that move while anything is settled.
_SETTLED = ("taken", "replayed_taken", "messages_deleted")


class Tenure:
    """Serves a slot whose lease is held.

    Args:
        life: of the connector.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._parts, self._settings = life.parts, life.settings
        self._stop, self._timing = life.stop, life.timing
        self._stall = StallWatch(life.settings.stall_seconds)
        self._called = asyncio.Event()
        self._offers = 0
        self._offering = False
        self._keepers: list[asyncio.Task[None]] = []

    async def serve(self, queue_url: str) -> None:
        """Serve the slot until there is a reason to stop, with nothing left at work.

        Args:
            queue_url: of the slot's queue.

        Raises:
            Exception: a part of it broke.
        """
        lease, settings = self._parts.lease, self._settings
        transport = self._parts.transport
        backlog = Backlog(
            self._parts.backlog,
            stop=self._stop,
            owns=lease.valid,
            retry_seconds=settings.thing_retry_seconds,
            knock=partial(_bind_again, transport),
        )
        budget = WriteBudget(self._first_share(), self._stop)
        outlet = Outlet(transport, budget, lease.valid, self._stop)
        if self._parts.assigned is not None:
            self._parts.assigned.pass_through(outlet)
        delivery = Delivery(
            outlet,
            self._parts.held,
            stop=self._stop,
            owns=lease.valid,
            backlog=backlog,
            concurrency=settings.delivery_concurrency,
            thing_retry_seconds=settings.thing_retry_seconds,
            counters=self._life.counters,
            presence=None if self._parts.assigned is None else self._parts.assigned.present,
            times=self._parts.times,
            notes=self._parts.notes,
        )
        queue = SlotQueue(self._parts.sqs, queue_url, visibility=settings.visibility_seconds, stop=self._stop)
        drain = Drain(
            queue,
            delivery,
            stop=self._stop,
            # A call that waits can't be ended, and a successor that comes would wait for it.
            poll_seconds=lambda: 0 if self._life.state is State.LEAVING else self._timing.poll,
            most_messages=lambda: _LEAVING_MESSAGES if self._life.state is State.LEAVING else MOST_MESSAGES,
            counters=self._life.counters,
        )
        watch = partial(self._is_stalled, drain, delivery, budget)
        tasks = [
            self._life.begun(self._keep_lease(watch)),
            self._life.begun(self._hand_over(drain, outlet)),
            begun := self._life.begun(self._parts.requests.begin(outlet)),
        ]
        if settings.max_writes_per_second:
            share = keep_share(budget, settings.max_writes_per_second, self._parts.slots)
            tasks.append(self._life.begun(share))
        self._begin_keeping()
        try:
            await backlog.load()
            # Values get their times after those that the predecessor gave; without, if they don't come.
            await asyncio.wait([begun], timeout=_TAKE_OVER_SECONDS)
            tasks.append(self._life.begun(delivery.catch_up()))
            await drain.run()
        finally:
            # Also when receiving failed for good: nothing may be left at work behind the lease.
            self._life.enter(State.SETTLING)
            # A successor waits: what has not come to rest by now is rather delivered again than waited for.
            waited_for = self._stop.reason is StopReason.SUCCESSOR_READY
            settle = self._timing.settle
            if waited_for:
                settle = min(settle, self._timing.rest)
            await asyncio.gather(
                drain.settled(settle, self._timing.grace), self._parts.requests.settle(settle)
            )
            await self._parts.requests.leave()  # only now is it known what has been delivered
            if waited_for and not self._life.handed and not self._offers:
                await self._offer(_now_ms())
            await ended([*tasks, *self._keepers])

    def _first_share(self) -> float:
        """What may be written before the number of slots is known: at least as many as this one's id says."""
        return self._settings.max_writes_per_second / max(1, int(self._life.slot))

    async def _keep_lease(self, stalled: Callable[[], bool]) -> None:
        """Renew, and notice every reason to stop."""
        lease = self._parts.lease
        while True:
            await asyncio.sleep(self._until_next_look())
            if self._offering:
                continue  # what is offered is prolonged, or lost, by the one who offers
            try:
                slot = await self._life.tried(lease.renew)
            except LeaseLost:
                slot = None
                if not self._offering:
                    self._stop.ask(StopReason.LEASE_LOST)
                    return
            if not lease.valid() and not self._offering:
                self._stop.ask(StopReason.LEASE_LOST)
                return
            if slot is not None:
                self._look_at(slot)
            if stalled():
                logger.error("stalled", slot=self._life.slot, seconds=self._settings.stall_seconds)
                self._stop.ask(StopReason.STALLED)
            if time.monotonic() >= self._timing.end_at:
                self._stop.ask(StopReason.END_OF_LIFE)
            self._life.report()

    def _until_next_look(self) -> float:
        if self._life.state is State.LEAVING:
            return self._timing.tick
        left = self._timing.end_at - time.monotonic()
        return min(self._settings.lease_seconds / 3, max(self._timing.tick, left))

    def _look_at(self, slot: SlotView) -> None:
        if slot.state in ("stopping", "gone"):
            self._stop.ask(StopReason.SLOT_STOPPING)
        elif slot.successor and self._life.state is State.LEAVING:
            if slot.takes and self._offers < _MOST_OFFERS:
                self._called.set()
            else:
                # One of a release before offers were made, or one that never takes them up.
                self._offers = _MOST_OFFERS
                self._stop.ask(StopReason.SUCCESSOR_READY)

    def _is_stalled(self, drain: Drain, delivery: Delivery, budget: WriteBudget) -> bool:
        return self._stall.stalled(
            holds=drain.busy,
            settled=any(self._life.counters[name] for name in _SETTLED),
            excused=delivery.gate.closed or budget.spent,
            trouble=delivery.gate.last_failure,
        )

    async def _hand_over(self, drain: Drain, outlet: Outlet) -> None:
        """Call for a successor in time, again until that is known to have worked; then hand over to it.

        Beside the lease's keeper: Step Functions may let this wait for longer than a lease lasts.
        """
        requests = self._parts.requests
        await asyncio.sleep(self._timing.handover_at - time.monotonic())
        while not self._stop.asked and not await self._announced():
            await self._stop.wait_asked(self._timing.tick)
        while not self._stop.asked:
            await requests.leave()  # most of it, while nobody waits for it
            await self._called.wait()
            _, at_rest = await asyncio.gather(requests.rest(self._timing.rest), drain.rest(self._timing.rest))
            if not (at_rest and await outlet.shut(self._timing.rest)):
                outlet.reopen()
                self._stop.ask(StopReason.SUCCESSOR_READY)  # what is stuck is given up first
                return
            since = _now_ms()
            await requests.leave()
            outcome = await self._offer(since)
            if outcome is not Outcome.BACK:
                self._stop.ask(StopReason.SUCCESSOR_READY)
                return
            self._called.clear()
            outlet.reopen()
            drain.go_on()
            requests.go_on()

    async def _offer(self, since: int) -> Outcome:
        """Offer the slot to its successor; nothing may have been under way `since` these ms since 1970."""
        self._offers += 1
        await ended(self._keepers)  # what they store for the successor, only an owner may
        self._offering = True
        incumbent = Incumbent(
            self._parts.lease,
            self._parts.transport,
            self._life.controlled,
            counters=self._life.counters,
            patience=self._life.patience,
            renew_seconds=self._settings.lease_seconds / 3,
        )
        try:
            outcome = await incumbent.offer(since, self._timing.end_at)
        except LeaseLost:
            self._stop.ask(StopReason.LEASE_LOST)
            return Outcome.UNKNOWN
        self._life.handed = outcome is Outcome.TAKEN
        self._offering = outcome is not Outcome.BACK
        if outcome is Outcome.BACK and not self._stop.asked:
            self._begin_keeping()
        return outcome

    def _begin_keeping(self) -> None:
        kept = (self._parts.assigned, self._parts.models)
        self._keepers = [self._life.begun(part.keep()) for part in kept if part is not None]

    async def _announced(self) -> bool:
        token, lease = self._parts.token, self._parts.lease
        try:
            if not token.answered:
                await self._life.controlled(
                    partial(token.answer, "handover", "the function's time is ending")
                )
            await self._life.controlled(lease.leave)
        except TokenClosed:
            self._stop.ask(StopReason.TOKEN_CLOSED)
        except LeaseLost:
            self._stop.ask(StopReason.LEASE_LOST)
        except (ClientError, BotoCoreError) as error:
            logger.warning("hand-over could not be announced, trying again", reason=str(error))
        else:
            if self._life.state is State.SERVING:  # or something made it stop meanwhile
                self._life.enter(State.LEAVING)
            return True
        return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _bind_again(transport: Transport, thing: str) -> None:
    """Have a Thing bound now that was refused, where Things are bound."""
    if isinstance(transport, Binds):
        transport.retry_parked([thing])
