"""One connector's life: beat, own the slot, serve it, make room for a successor, end.

    STARTING -> WAITING -> SERVING -> LEAVING -> SETTLING -> ENDED
                  |           |                     ^
                  +-----------+---------------------+   (any reason to stop)

Hand-over: well before the function's time ends the incumbent answers its token with `handover` and
serves on; the state machine starts the successor, which connects, learns which Things are the slot's, and
asks for it on the lease; the incumbent stops receiving, settles what it holds and offers the lease
(`handover` says how the Things change hands). Where that can't be, it closes and releases the lease.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.asked import NoRequests
from lambdas.connector.assigned import Binds
from lambdas.connector.backlog import Backlog
from lambdas.connector.budget import WriteBudget, keep_share
from lambdas.connector.deliver import Delivery
from lambdas.connector.drain import MOST_MESSAGES, Drain
from lambdas.connector.handover import HandsOver, Patience
from lambdas.connector.incumbent import Incumbent, Outcome
from lambdas.connector.lease import LeaseLost, Taken
from lambdas.connector.outlet import Outlet
from lambdas.connector.slot_queue import SlotQueue
from lambdas.connector.stall import StallWatch
from lambdas.connector.stop import Stop, StopReason
from lambdas.connector.successor import Successor
from lambdas.connector.timing import plan
from lambdas.connector.token import TokenClosed
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mypy_boto3_sqs import SQSClient

    from lambdas.connector.asked import Requests
    from lambdas.connector.assigned import AssignedThings
    from lambdas.connector.backlog import Store
    from lambdas.connector.isolation import Notes
    from lambdas.connector.lease import Lease
    from lambdas.connector.model_changes import ModelChanges
    from lambdas.connector.push_times import PushTimes
    from lambdas.connector.slot_view import SlotView
    from lambdas.connector.timing import Timing
    from lambdas.connector.token import TaskToken
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.transport import Transport

__all__ = ["Connector", "Parts", "State"]

_T = TypeVar("_T")

_THREADS = 24
#: Beats and the lease have threads of their own: work that hangs must not keep them waiting.
_CONTROL_THREADS = 3
#: Offers of the slot that nobody takes up, before it is given up for whoever comes.
_MOST_OFFERS = 2
#: Messages held while a successor may come: few, since readings wait until all of them are settled.
_LEAVING_MESSAGES = 20
#: How long a successor that was noticed looks often for the offer.
_QUICK_SECONDS = 20.0
#: The token is closed, or somebody else's to answer.
_OF_NO_ANSWER = frozenset({StopReason.TOKEN_CLOSED, StopReason.TWIN})


class State(Enum):
    """Where a connector is in its life."""

    STARTING = "starting"
    WAITING = "waiting for the slot"
    SERVING = "serving"
    LEAVING = "serving until a successor comes"
    SETTLING = "settling"
    ENDED = "ended"


class Parts(NamedTuple):
    """What a connector is made of; all of it belongs to this invocation alone.

    Attributes:
        token: task token of the state machine.
        lease: lease of the slot.
        transport: way to ThingWorx.
        held: held store.
        sqs: boto3 SQS client.
        backlog: markers and readings of parked Things.
        assigned: keeps the slot's Things bound; None where nothing is bound.
        slots: how many slots share the write budget; blocks.
        times: gives pushed values their times.
        requests: answers what ThingWorx asks.
        models: passes on which Things were changed; None with a transport that isn't told.
        notes: what is known of parcels that may have ended a connector.
    """

    token: TaskToken
    lease: Lease
    transport: Transport
    held: HeldStore
    sqs: SQSClient
    backlog: Store
    assigned: AssignedThings | None = None
    slots: Callable[[], int] = lambda: 1
    times: PushTimes | None = None
    requests: Requests = NoRequests()
    models: ModelChanges | None = None
    notes: Notes | None = None


class Connector:
    """Serves one slot once.

    Args:
        slot: slot id, for logs.
        settings: the function's settings.
        parts: stores and clients.
        seconds_left: time until the function is killed.
        timing: of this life; None follows from the settings and the time that is left.
        counters: what happened, by name; reported and cleared with each look at the lease.
    """

    def __init__(
        self,
        slot: str,
        settings: ConnectorSettings,
        parts: Parts,
        seconds_left: float,
        counters: Counter[str] | None = None,
        *,
        timing: Timing | None = None,
    ) -> None:
        self._slot = slot
        self._settings = settings
        self._parts = parts
        self._counters: Counter[str] = Counter() if counters is None else counters
        self._state = State.STARTING
        self._stop = Stop()
        self._timing = timing or plan(settings, seconds_left, time.monotonic())
        self._patience = Patience()
        self._stall = StallWatch(settings.stall_seconds)
        self._called = asyncio.Event()
        self._offers = 0
        self._offering = self._handed = False
        self._keepers: list[asyncio.Task[None]] = []
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, thread_name_prefix="control")

    @property
    def state(self) -> State:
        """Where this connector is in its life."""
        return self._state

    def _enter(self, state: State) -> None:
        self._state = state
        logger.info("state", slot=self._slot, state=state.value)

    async def run(self) -> None:
        """Serve until there is a reason to stop, then answer the token if it is still open.

        Raises:
            Exception: what made serving impossible; the token has been answered with it.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        try:
            # The first call: an event that comes late or twice finds its token closed, and ends here.
            await self._controlled(self._parts.token.beat)
            await self._live()
        except TokenClosed:
            logger.info("nobody waits for this connector", slot=self._slot)
        except Exception as error:
            await self._answer(partial(self._parts.token.fail, error))
            raise
        finally:
            self._report()  # the function may be killed while it closes
            await self._parts.transport.close()
            await asyncio.to_thread(self._control.shutdown)
            self._report()
            self._enter(State.ENDED)

    async def _live(self) -> None:
        beating = asyncio.get_running_loop().create_task(self._beat())
        try:
            await self._own_the_slot()
            await self._answer_at_the_end()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        token = self._parts.token
        while not token.answered:
            await asyncio.sleep(self._settings.beat_seconds)
            try:
                await self._controlled(token.beat)
            except TokenClosed:
                self._stop.ask(StopReason.TOKEN_CLOSED)
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the next beat may pass
                logger.warning("heartbeat failed", slot=self._slot, reason=str(error))

    async def _own_the_slot(self) -> None:
        await self._parts.transport.open()
        self._enter(State.WAITING)
        if not await self._acquired():
            return
        try:
            queue_url = (await self._controlled(self._parts.lease.view)).queue_url
            if queue_url is None:
                raise ConnectorError(f"slot {self._slot} has no queue yet; a discovery run creates it")
            self._enter(State.SERVING)
            logger.warning("serving", slot=self._slot, limits=self._parts.transport.limits)
            await self._serve(queue_url)
        finally:
            if self._stop.reason is StopReason.SUCCESSOR_READY and not self._handed:
                self._counters["handover_transitions"] += 2 * self._bound_here()
            self._report()
            # Before the lease: by default the platform refuses a Thing to the successor while it is bound
            # here.
            await self._parts.transport.close()
            # When this fails, the lease runs out by itself.
            await self._tried(self._parts.lease.release)

    async def _acquired(self) -> bool:
        """Wait for the lease; false when there is a reason not to serve."""
        parts, quick_until = self._parts, 0.0
        successor = Successor(
            parts.lease,
            parts.transport,
            parts.assigned,
            self._controlled,
            counters=self._counters,
            patience=self._patience,
        )
        while not self._stop.asked:
            # Nothing is held yet: a failure is best left to the state machine, which backs off.
            taken = await self._controlled(self._parts.lease.acquire)
            if taken is Taken.HELD or (taken is Taken.OFFERED and await successor.take()):
                return True
            if taken is Taken.SUPERSEDED:
                self._stop.ask(StopReason.SUPERSEDED)
            elif taken is Taken.STOPPING:
                self._stop.ask(StopReason.SLOT_STOPPING)
            elif taken is Taken.TWIN:
                self._stop.ask(StopReason.TWIN)
            elif (now := time.monotonic()) >= self._timing.end_at:
                self._stop.ask(StopReason.END_OF_LIFE)
            elif taken is Taken.BUSY:
                await self._stop.wait_asked(self._timing.tick)
            else:
                await successor.prepare()
                quick_until = quick_until or now + _QUICK_SECONDS
                await self._stop.wait_asked(self._timing.quick if now < quick_until else self._timing.tick)
        return False

    async def _serve(self, queue_url: str) -> None:
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
        delivery = Delivery(
            outlet,
            self._parts.held,
            stop=self._stop,
            owns=lease.valid,
            backlog=backlog,
            concurrency=settings.delivery_concurrency,
            thing_retry_seconds=settings.thing_retry_seconds,
            counters=self._counters,
            presence=None if self._parts.assigned is None else self._parts.assigned.present,
            times=self._parts.times,
            notes=self._parts.notes,
        )
        queue = SlotQueue(self._parts.sqs, queue_url, visibility=settings.visibility_seconds, stop=self._stop)
        drain = Drain(
            queue,
            delivery,
            stop=self._stop,
            poll_seconds=lambda: 1 if self._state is State.LEAVING else self._timing.poll,
            most_messages=lambda: _LEAVING_MESSAGES if self._state is State.LEAVING else MOST_MESSAGES,
            counters=self._counters,
        )
        watch = partial(self._is_stalled, drain, delivery, budget)
        tasks = [
            self._begun(self._keep_lease(watch)),
            self._begun(self._hand_over(drain, outlet)),
            self._begun(self._parts.requests.begin(outlet)),
        ]
        if settings.max_writes_per_second:
            share = keep_share(budget, settings.max_writes_per_second, self._parts.slots)
            tasks.append(self._begun(share))
        self._begin_keeping()
        try:
            await backlog.load()
            tasks.append(self._begun(delivery.catch_up()))
            await drain.run()
        finally:
            # Also when receiving failed for good: nothing may be left at work behind the lease.
            self._enter(State.SETTLING)
            await asyncio.gather(
                drain.settled(self._timing.settle, self._timing.grace),
                self._parts.requests.settle(self._timing.settle),
            )
            if self._stop.reason is StopReason.SUCCESSOR_READY and not self._handed and not self._offers:
                await self._offer(_now_ms())
            await _ended([*tasks, *self._keepers])

    def _first_share(self) -> float:
        """What may be written before the number of slots is known: at least as many as this one's id says."""
        return self._settings.max_writes_per_second / max(1, int(self._slot))

    async def _keep_lease(self, stalled: Callable[[], bool]) -> None:
        """Renew, and notice every reason to stop."""
        lease = self._parts.lease
        while True:
            await asyncio.sleep(self._until_next_look())
            if self._offering:
                continue  # what is offered is prolonged, or lost, by the one who offers
            try:
                slot = await self._tried(lease.renew)
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
                logger.error("stalled", slot=self._slot, seconds=self._settings.stall_seconds)
                self._stop.ask(StopReason.STALLED)
            if time.monotonic() >= self._timing.end_at:
                self._stop.ask(StopReason.END_OF_LIFE)
            self._report()

    def _until_next_look(self) -> float:
        if self._state is State.LEAVING:
            return self._timing.tick
        left = self._timing.end_at - time.monotonic()
        return min(self._settings.lease_seconds / 3, max(self._timing.tick, left))

    def _look_at(self, slot: SlotView) -> None:
        if slot.state in ("stopping", "gone"):
            self._stop.ask(StopReason.SLOT_STOPPING)
        elif slot.successor and self._state is State.LEAVING:
            if slot.takes and self._offers < _MOST_OFFERS:
                self._called.set()
            else:
                # One of a release before offers were made, or one that never takes them up.
                self._offers = _MOST_OFFERS
                self._stop.ask(StopReason.SUCCESSOR_READY)

    def _is_stalled(self, drain: Drain, delivery: Delivery, budget: WriteBudget) -> bool:
        return self._stall.stalled(
            holds=drain.busy,
            settled=any(self._counters[name] for name in ("taken", "replayed_taken", "messages_deleted")),
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
        await _ended(self._keepers)  # what they store for the successor, only an owner may
        self._offering = True
        incumbent = Incumbent(
            self._parts.lease,
            self._parts.transport,
            self._controlled,
            counters=self._counters,
            patience=self._patience,
            renew_seconds=self._settings.lease_seconds / 3,
        )
        try:
            outcome = await incumbent.offer(since, self._timing.end_at)
        except LeaseLost:
            self._stop.ask(StopReason.LEASE_LOST)
            return Outcome.UNKNOWN
        self._handed = outcome is Outcome.TAKEN
        self._offering = outcome is not Outcome.BACK
        if outcome is Outcome.BACK and not self._stop.asked:
            self._begin_keeping()
        return outcome

    def _begin_keeping(self) -> None:
        kept = (self._parts.assigned, self._parts.models)
        self._keepers = [self._begun(part.keep()) for part in kept if part is not None]

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task beside receiving; when it breaks, the connector ends, and fails with its error."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                self._stop.ask(StopReason.BROKEN)
                raise

        return asyncio.get_running_loop().create_task(guarded())

    def _bound_here(self) -> int:
        transport = self._parts.transport
        return len(transport.bound_things()) if isinstance(transport, HandsOver) else 0

    async def _announced(self) -> bool:
        token, lease = self._parts.token, self._parts.lease
        try:
            if not token.answered:
                await self._controlled(partial(token.answer, "handover", "the function's time is ending"))
            await self._controlled(lease.leave)
        except TokenClosed:
            self._stop.ask(StopReason.TOKEN_CLOSED)
        except LeaseLost:
            self._stop.ask(StopReason.LEASE_LOST)
        except (ClientError, BotoCoreError) as error:
            logger.warning("hand-over could not be announced, trying again", reason=str(error))
        else:
            if self._state is State.SERVING:  # or something made it stop meanwhile
                self._enter(State.LEAVING)
            return True
        return False

    async def _answer_at_the_end(self) -> None:
        token, reason = self._parts.token, self._stop.reason
        if token.answered or reason is None or reason in _OF_NO_ANSWER:
            return
        follow_up = "stop" if reason.ends_the_chain else "again"
        await self._answer(partial(token.answer, follow_up, reason.value))

    async def _answer(self, call: Callable[[], None]) -> None:
        if self._parts.token.answered:
            return
        try:
            await self._controlled(call)
        except TokenClosed:
            logger.info("nobody waits for the answer", slot=self._slot)
        except (ClientError, BotoCoreError) as error:
            # The missing heartbeat will tell the state machine.
            logger.warning("answer could not be sent", slot=self._slot, reason=str(error))

    async def _tried(self, call: Callable[[], _T]) -> _T | None:
        """Result of a table call, or None when AWS failed this time: the lease's deadline decides."""
        try:
            return await self._controlled(call)
        except (ClientError, BotoCoreError) as error:
            logger.warning("control table call failed", slot=self._slot, reason=str(error))
            return None

    async def _controlled(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._control, call)

    def _report(self) -> None:
        count(self._settings.stack, "connector", dict(self._counters))
        self._counters.clear()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """End tasks; where one of them broke, the connector has failed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


def _bind_again(transport: Transport, thing: str) -> None:
    """Have a Thing bound now that was refused, where Things are bound."""
    if isinstance(transport, Binds):
        transport.retry_parked([thing])
