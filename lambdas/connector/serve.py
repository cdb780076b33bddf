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
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.handover import HandsOver
from lambdas.connector.lease import Taken
from lambdas.connector.life import Life, Parts, State
from lambdas.connector.stop import StopReason
from lambdas.connector.successor import Successor
from lambdas.connector.tenure import Tenure
from lambdas.connector.timing import plan
from lambdas.connector.token import TokenClosed
from lambdas.shared.errors import ConnectorError
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.connector.timing import Timing
    from lambdas.shared.settings import ConnectorSettings

__all__ = ["Connector", "Parts", "State"]

_THREADS = 24
#: How long a successor that was noticed looks often for the offer.
_QUICK_SECONDS = 20.0
#: The token is closed, or somebody else's to answer.
_OF_NO_ANSWER = frozenset({StopReason.TOKEN_CLOSED, StopReason.TWIN})


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
        self._life = Life(
            slot,
            settings,
            parts,
            timing or plan(settings, seconds_left, time.monotonic()),
            Counter() if counters is None else counters,
        )

    @property
    def state(self) -> State:
        """Where this connector is in its life."""
        return self._life.state

    async def run(self) -> None:
        """Serve until there is a reason to stop, then answer the token if it is still open.

        Raises:
            Exception: what made serving impossible; the token has been answered with it.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        try:
            # The first call: an event that comes late or twice finds its token closed, and ends here.
            await self._life.controlled(self._life.parts.token.beat)
            await self._live()
        except TokenClosed:
            logger.info("nobody waits for this connector", slot=self._life.slot)
        except Exception as error:
            await self._answer(partial(self._life.parts.token.fail, error))
            raise
        finally:
            self._life.report()  # the function may be killed while it closes
            await self._life.parts.transport.close()
            await self._life.close()
            self._life.report()
            self._life.enter(State.ENDED)

    async def _live(self) -> None:
        beating = asyncio.get_running_loop().create_task(self._beat())
        try:
            await self._own_the_slot()
            await self._answer_at_the_end()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        token = self._life.parts.token
        while not token.answered:
            await asyncio.sleep(self._life.settings.beat_seconds)
            try:
                await self._life.controlled(token.beat)
            except TokenClosed:
                self._life.stop.ask(StopReason.TOKEN_CLOSED)
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the next beat may pass
                logger.warning("heartbeat failed", slot=self._life.slot, reason=str(error))

    async def _own_the_slot(self) -> None:
        life = self._life
        if not await self._wanted():
            return
        await life.parts.transport.open()
        life.enter(State.WAITING)
        if not await self._acquired():
            return
        try:
            queue_url = (await life.controlled(life.parts.lease.view)).queue_url
            if queue_url is None:
                raise ConnectorError(f"slot {life.slot} has no queue yet; a discovery run creates it")
            life.enter(State.SERVING)
            logger.warning("serving", slot=life.slot, limits=life.parts.transport.limits)
            await Tenure(life).serve(queue_url)
        finally:
            if life.stop.reason is StopReason.SUCCESSOR_READY and not life.handed:
                life.counters["handover_transitions"] += 2 * self._bound_here()
            life.report()
            # Before the lease: by default the platform refuses a Thing to the successor while it is bound
            # here.
            await life.parts.transport.close()
            # When this fails, the lease runs out by itself.
            await life.tried(life.parts.lease.release)

    async def _wanted(self) -> bool:
        """Whether the slot is still this connector's to serve.

        Asked before ThingWorx is: while that can't be reached, a state machine that was superseded, or whose
        slot stops, would otherwise start connectors for ever.
        """
        life = self._life
        slot = await life.controlled(life.parts.lease.view)
        if slot.epoch > life.parts.lease.epoch:
            life.stop.ask(StopReason.SUPERSEDED)
        elif slot.state in ("stopping", "gone"):
            life.stop.ask(StopReason.SLOT_STOPPING)
        return not life.stop.asked

    async def _acquired(self) -> bool:
        """Wait for the lease; false when there is a reason not to serve."""
        life = self._life
        parts, stop, timing = life.parts, life.stop, life.timing
        quick_until = 0.0
        successor = Successor(
            parts.lease,
            parts.transport,
            parts.assigned,
            life.controlled,
            counters=life.counters,
            patience=life.patience,
        )
        while not stop.asked:
            # Nothing is held yet: a failure is best left to the state machine, which backs off.
            taken = await life.controlled(parts.lease.acquire)
            if taken is Taken.HELD or (taken is Taken.OFFERED and await successor.take()):
                return True
            if taken is Taken.SUPERSEDED:
                stop.ask(StopReason.SUPERSEDED)
            elif taken is Taken.STOPPING:
                stop.ask(StopReason.SLOT_STOPPING)
            elif taken is Taken.TWIN:
                stop.ask(StopReason.TWIN)
            elif (now := time.monotonic()) >= timing.end_at:
                stop.ask(StopReason.END_OF_LIFE)
            elif taken is Taken.BUSY:
                await stop.wait_asked(timing.tick)
            else:
                await successor.prepare()
                quick_until = quick_until or now + _QUICK_SECONDS
                await stop.wait_asked(timing.quick if now < quick_until else timing.tick)
        return False

    async def _answer_at_the_end(self) -> None:
        token, reason = self._life.parts.token, self._life.stop.reason
        if token.answered or reason is None or reason in _OF_NO_ANSWER:
            return
        follow_up = "stop" if reason.ends_the_chain else "again"
        await self._answer(partial(token.answer, follow_up, reason.value))

    async def _answer(self, call: Callable[[], None]) -> None:
        if self._life.parts.token.answered:
            return
        try:
            await self._life.controlled(call)
        except TokenClosed:
            logger.info("nobody waits for the answer", slot=self._life.slot)
        except (ClientError, BotoCoreError) as error:
            # The missing heartbeat will tell the state machine.
            logger.warning("answer could not be sent", slot=self._life.slot, reason=str(error))

    def _bound_here(self) -> int:
        transport = self._life.parts.transport
        return len(transport.bound_things()) if isinstance(transport, HandsOver) else 0
