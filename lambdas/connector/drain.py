"""Slot queue to delivery: lanes side by side, each lane one unit.

While messages of a lane are hidden, FIFO hands out no more of that lane; so a lane's messages are
settled together, kept hidden together, and deleted only when all their readings are settled.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from lambdas.connector.slot_queue import BATCH, Message, SlotQueue, VisibilityLost
from lambdas.connector.stop import Stop, Stopped, StopReason
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from lambdas.connector.deliver import Delivery

__all__ = ["MOST_MESSAGES", "Drain"]

#: Messages held at once: bounds memory at 256 KiB each while ThingWorx is slow. While it seems to serve
#: nobody, messages are received up to here all the same: whether one Thing fails or the platform does is
#: only told by the others.
MOST_MESSAGES = 60
#: How long the next receive call waits for lanes at work. A call that begins while lanes are taken may
#: not see them become free, so it is worth waiting for quick ones, and not worth polling long. A full
#: call is followed at once: SQS fills it from one lane as far as it can, and other lanes have more.
_LANES_SECONDS = 0.2
_SHORT_POLL_SECONDS = 1
#: How soon receiving begins again after a rest.
_REST_SECONDS = 0.02
#: Pause after an empty answer where calls are not to wait for messages.
_SHORT_PAUSE_SECONDS = 0.1


class Drain:
    """Receives while it may, and settles what it received.

    Args:
        queue: the slot's queue.
        delivery: settles readings.
        stop: ends receiving, then waiting.
        poll_seconds: how long the next receive call may wait for messages; 0 makes short calls, ten a second.
        counters: what happened, by name.
        most_messages: how many are held at once, about.
    """

    def __init__(
        self,
        queue: SlotQueue,
        delivery: Delivery,
        *,
        stop: Stop,
        poll_seconds: Callable[[], int],
        counters: Counter[str],
        most_messages: Callable[[], int] = lambda: MOST_MESSAGES,
    ) -> None:
        self._queue = queue
        self._delivery = delivery
        self._stop = stop
        self._poll_seconds = poll_seconds
        self._most_messages = most_messages
        self._counters = counters
        self._units: set[asyncio.Task[None]] = set()
        self._last_unit: dict[str, asyncio.Task[None]] = {}
        self._held_messages = 0
        self._resting = False
        self._at_rest = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether messages are held."""
        return self._held_messages > 0

    async def rest(self, seconds: float) -> bool:
        """Stop receiving until `go_on`, and wait at most `seconds` until nothing is at work.

        Returns:
            Whether nothing is.
        """
        self._at_rest.clear()
        self._resting = True
        try:
            async with asyncio.timeout(seconds):
                await self._at_rest.wait()
                while self._units:
                    await asyncio.wait(self._units)
                await self._delivery.rest()
        except TimeoutError:
            return False
        return True

    def go_on(self) -> None:
        """Receive again."""
        self._resting = False
        self._delivery.go_on()

    async def run(self) -> None:
        """Receive until told to stop; lanes may still be at work when this returns.

        Raises:
            ClientError: the queue does not exist.
        """
        full = False
        while not self._stop.asked:
            if self._resting:
                self._at_rest.set()
                await self._stop.wait_asked(_REST_SECONDS)
                continue
            if self._held_messages >= self._most_messages():
                await self._stop.wait_asked(0.1)
                continue
            if self._units and not full:
                await asyncio.wait(self._units, timeout=_LANES_SECONDS)
            poll = self._poll_seconds()
            if self._units:
                poll = 0 if full else min(poll, _SHORT_POLL_SECONDS)
            messages = await self._queue.receive(poll)
            full = len(messages) == BATCH
            if not messages and self._poll_seconds() == 0:
                await self._stop.wait_asked(_SHORT_PAUSE_SECONDS)
            if not self._delivery.owns():
                self._stop.ask(StopReason.LEASE_LOST)
                if messages:  # nothing of them has been sent on, so the owner may have them at once
                    await self._queue.release(messages)
                return
            for unit in _by_lane(messages):
                self._start(unit)

    async def settled(self, seconds: float, grace: float) -> None:
        """Wait at most `seconds` for lanes at work, then make them give up.

        Calls on their way to the platform may end within `grace` seconds more. Lanes that take longer
        are left behind: their messages are neither deleted nor given back, so that nobody gets them
        before their visibility timeout.
        """
        if self._units:
            await asyncio.wait(self._units, timeout=seconds)
        self._stop.abandon()
        if self._units:
            _, late = await asyncio.wait(self._units, timeout=grace)
            for unit in late:
                unit.cancel()
            self._counters["lanes_left_behind"] += len(late)

    def _start(self, messages: list[Message]) -> None:
        lane = messages[0].lane
        self._held_messages += len(messages)
        unit = asyncio.get_running_loop().create_task(self._serve(messages, self._last_unit.get(lane)))
        self._units.add(unit)
        self._last_unit[lane] = unit
        unit.add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: str, unit: asyncio.Task[None]) -> None:
        self._units.discard(unit)
        if self._last_unit.get(lane) is unit:
            del self._last_unit[lane]

    async def _serve(self, messages: list[Message], earlier: asyncio.Task[None] | None) -> None:
        lane = messages[0].lane
        try:
            async with asyncio.TaskGroup() as tasks:
                hiding = tasks.create_task(self._keep_hidden(messages))
                if earlier is not None:
                    # Its messages came again while a call of theirs was still on its way.
                    await asyncio.wait([earlier])
                await self._delivery.settle(messages)
                hiding.cancel()
            if not self._delivery.owns():
                return  # what was held after the lease had ended, its new owner knows nothing of
            not_deleted = await self._queue.delete(messages)
            self._counters["messages_deleted"] += len(messages) - not_deleted
        except* Stopped:
            # Only an owner gives messages back early: after a lost lease, they may be another's already.
            if self._delivery.owns():
                await self._queue.release(messages)
        except* VisibilityLost as group:
            self._counters["lanes_dropped"] += 1
            logger.warning(
                "lane dropped, its messages come again", lane=lane, reason=str(group.exceptions[0])
            )
        except* Exception as group:  # noqa: BLE001 - one lane's fault never stops the others
            self._counters["lanes_failed"] += 1
            logger.exception("lane failed, its messages come again", lane=lane, reason=repr(group.exceptions))
        finally:
            self._held_messages -= len(messages)

    async def _keep_hidden(self, messages: list[Message]) -> None:
        while True:
            await asyncio.sleep(self._queue.visibility / 2)
            await self._queue.extend(messages)


def _by_lane(messages: list[Message]) -> list[list[Message]]:
    lanes: dict[str, list[Message]] = {}
    for message in messages:
        lanes.setdefault(message.lane, []).append(message)
    return list(lanes.values())
