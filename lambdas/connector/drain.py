"""Slot queue to delivery: lanes side by side, each lane one unit.

While messages of a lane are hidden, FIFO hands out no more of that lane; so a lane's messages are
settled together, kept hidden together, and deleted only when all their readings are settled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lambdas.connector.slot_queue import Message, SlotQueue, VisibilityLost
from lambdas.connector.stop import Stop, Stopped
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from lambdas.connector.deliver import Delivery

__all__ = ["Drain"]

#: Messages held at once: bounds memory at 256 KiB each while ThingWorx is slow.
_MOST_MESSAGES = 60
_LONG_POLL_SECONDS = 10
_SHORT_POLL_SECONDS = 1


class Drain:
    """Receives while it may, and settles what it received.

    Args:
        queue: the slot's queue.
        delivery: settles readings.
        stop: ends receiving, then waiting.
        leaving: whether a successor may come any moment: polls are short then.
        counters: what happened, by name.
    """

    def __init__(
        self,
        queue: SlotQueue,
        delivery: Delivery,
        *,
        stop: Stop,
        leaving: Callable[[], bool],
        counters: Counter[str],
    ) -> None:
        self._queue = queue
        self._delivery = delivery
        self._stop = stop
        self._leaving = leaving
        self._counters = counters
        self._lanes: set[asyncio.Task[None]] = set()
        self._held_messages = 0

    async def run(self) -> None:
        """Receive until told to stop; lanes may still be at work when this returns.

        Raises:
            ClientError: the queue does not exist.
        """
        while not self._stop.asked:
            if self._delivery.gate.closed or self._held_messages >= _MOST_MESSAGES:
                await self._stop.wait_asked(0.1)
                continue
            messages = await self._queue.receive(
                _SHORT_POLL_SECONDS if self._leaving() else _LONG_POLL_SECONDS
            )
            for lane_messages in _by_lane(messages):
                self._start_lane(lane_messages)

    async def settled(self, seconds: float) -> None:
        """Wait at most `seconds` for lanes at work, then make them give up, and wait for that."""
        if self._lanes:
            await asyncio.wait(self._lanes, timeout=seconds)
        self._stop.abandon()
        if self._lanes:
            await asyncio.wait(self._lanes)

    def _start_lane(self, messages: list[Message]) -> None:
        self._held_messages += len(messages)
        task = asyncio.get_running_loop().create_task(self._serve_lane(messages))
        self._lanes.add(task)
        task.add_done_callback(self._lanes.discard)

    async def _serve_lane(self, messages: list[Message]) -> None:
        lane = messages[0].lane
        try:
            async with asyncio.TaskGroup() as tasks:
                hiding = tasks.create_task(self._keep_hidden(messages))
                await self._delivery.settle(messages)
                not_deleted = await self._queue.delete(messages)
                hiding.cancel()
            self._counters["messages_deleted"] += len(messages) - not_deleted
        except* Stopped:
            # Only an owner gives messages back early: after a lost lease, pushes may still be landing.
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
