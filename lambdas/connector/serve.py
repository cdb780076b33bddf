"""One connector's life: beat, own the slot, serve it, make room for a successor, end.

    STARTING -> WAITING -> SERVING -> LEAVING -> SETTLING -> ENDED
                  |           |                     ^
                  +-----------+---------------------+   (any reason to stop)

Hand-over: well before the function's time ends the incumbent answers its token with `handover` and
serves on; the state machine starts the successor, which asks for the slot on the lease; the incumbent
stops receiving, settles what it holds, releases the lease, and the successor takes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.assigned import Binds
from lambdas.connector.backlog import Backlog
from lambdas.connector.deliver import Delivery
from lambdas.connector.drain import Drain
from lambdas.connector.lease import LeaseLost, Taken
from lambdas.connector.slot_queue import SlotQueue
from lambdas.connector.stop import Stop, StopReason
from lambdas.connector.timing import plan
from lambdas.connector.token import TokenClosed
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import count, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_sqs import SQSClient

    from lambdas.connector.assigned import AssignedThings
    from lambdas.connector.backlog import Store
    from lambdas.connector.lease import Lease, SlotView
    from lambdas.connector.token import TaskToken
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.transport import Transport

__all__ = ["Connector", "Parts", "State"]

_T = TypeVar("_T")

_THREADS = 24
#: Beats and the lease have threads of their own: work that hangs must not keep them waiting.
_CONTROL_THREADS = 3


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
    """

    token: TaskToken
    lease: Lease
    transport: Transport
    held: HeldStore
    sqs: SQSClient
    backlog: Store
    assigned: AssignedThings | None = None


class Connector:
    """Serves one slot once.

    Args:
        slot: slot id, for logs.
        settings: the function's settings.
        parts: stores and clients.
        seconds_left: time until the function is killed.
        counters: what happened, by name; reported and cleared with each look at the lease.
    """

    def __init__(
        self,
        slot: str,
        settings: ConnectorSettings,
        parts: Parts,
        seconds_left: float,
        counters: Counter[str] | None = None,
    ) -> None:
        self._slot = slot
        self._settings = settings
        self._parts = parts
        self._counters: Counter[str] = Counter() if counters is None else counters
        self._state = State.STARTING
        self._stop = Stop()
        self._timing = plan(settings, seconds_left, time.monotonic())
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
            # Before the lease: by default the platform refuses a Thing to the successor while it is bound
            # here.
            await self._parts.transport.close()
            # When this fails, the lease runs out by itself.
            await self._tried(self._parts.lease.release)

    async def _acquired(self) -> bool:
        """Wait for the lease; false when there is a reason not to serve."""
        while not self._stop.asked:
            # Nothing is held yet: a failure is best left to the state machine, which backs off.
            taken = await self._controlled(self._parts.lease.acquire)
            if taken is Taken.HELD:
                return True
            if taken is Taken.SUPERSEDED:
                self._stop.ask(StopReason.SUPERSEDED)
            elif taken is Taken.STOPPING:
                self._stop.ask(StopReason.SLOT_STOPPING)
            elif time.monotonic() >= self._timing.end_at:
                self._stop.ask(StopReason.END_OF_LIFE)
            else:
                await self._stop.wait_asked(self._timing.tick)
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
        delivery = Delivery(
            transport,
            self._parts.held,
            stop=self._stop,
            owns=lease.valid,
            backlog=backlog,
            concurrency=settings.delivery_concurrency,
            thing_retry_seconds=settings.thing_retry_seconds,
            counters=self._counters,
        )
        queue = SlotQueue(self._parts.sqs, queue_url, visibility=settings.visibility_seconds, stop=self._stop)
        drain = Drain(
            queue,
            delivery,
            stop=self._stop,
            poll_seconds=lambda: 1 if self._state is State.LEAVING else self._timing.poll,
            counters=self._counters,
        )
        tasks = [asyncio.ensure_future(self._keep_lease()), asyncio.ensure_future(self._hand_over())]
        if self._parts.assigned is not None:
            tasks.append(asyncio.ensure_future(self._parts.assigned.keep()))
        try:
            await backlog.load()
            tasks.append(asyncio.ensure_future(delivery.catch_up()))
            await drain.run()
        finally:
            # Also when receiving failed for good: nothing may be left at work behind the lease.
            self._enter(State.SETTLING)
            await drain.settled(self._timing.settle, self._timing.grace)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # where it broke, the connector has failed

    async def _keep_lease(self) -> None:
        """Renew, and notice every reason to stop."""
        lease = self._parts.lease
        while True:
            await asyncio.sleep(self._until_next_look())
            try:
                slot = await self._tried(lease.renew)
            except LeaseLost:
                self._stop.ask(StopReason.LEASE_LOST)
                return
            if not lease.valid():
                self._stop.ask(StopReason.LEASE_LOST)
                return
            if slot is not None:
                self._look_at(slot)
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
            self._stop.ask(StopReason.SUCCESSOR_READY)

    async def _hand_over(self) -> None:
        """Call for a successor in time; again until that is known to have worked.

        Beside the lease's keeper: Step Functions may let this wait for longer than a lease lasts.
        """
        await asyncio.sleep(self._timing.handover_at - time.monotonic())
        while not self._stop.asked and not await self._announced():
            await self._stop.wait_asked(self._timing.tick)

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
        if token.answered or reason is None or reason is StopReason.TOKEN_CLOSED:
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


def _bind_again(transport: Transport, thing: str) -> None:
    """Have a Thing bound now that was refused, where Things are bound."""
    if isinstance(transport, Binds):
        transport.retry_parked([thing])
