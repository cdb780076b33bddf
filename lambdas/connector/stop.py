"""Why a connector stops, and how its parts learn of it."""

from __future__ import annotations

import asyncio
from enum import Enum

__all__ = ["Stop", "StopReason", "Stopped"]


class StopReason(Enum):
    """Why a connector ends; the value is the sentence given to the state machine."""

    SUCCESSOR_READY = "the successor is ready"
    END_OF_LIFE = "the end of the function's time is near and no successor came"
    SLOT_STOPPING = "the slot is stopping"
    SUPERSEDED = "a newer epoch of the slot exists"
    TOKEN_CLOSED = "nobody waits for this connector any more"  # noqa: S105 - a sentence, no secret
    LEASE_LOST = "the lease is lost"
    STALLED = "nothing is settled any more though messages are held and ThingWorx answers"
    BROKEN = "a part of the connector broke"
    TWIN = "another invocation of the same event serves the slot"

    @property
    def ends_the_chain(self) -> bool:
        """Whether no connector is to follow in this execution."""
        return self in (StopReason.SLOT_STOPPING, StopReason.SUPERSEDED)


class Stopped(Exception):  # noqa: N818 - unwinds a task on purpose, no error
    """Work is given up here: what is not settled stays in its queue."""


class Stop:
    """Two steps: first nothing new is begun, then what waits is given up."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._asked = asyncio.Event()
        self._abandoned = asyncio.Event()

    def ask(self, reason: StopReason) -> None:
        """Begin nothing new. The first reason counts."""
        self.reason = self.reason or reason
        self._asked.set()
        if reason is StopReason.LEASE_LOST:
            self.abandon()

    @property
    def asked(self) -> bool:
        """Whether to begin nothing new."""
        return self._asked.is_set()

    def abandon(self) -> None:
        """Give up everything that waits."""
        self._abandoned.set()

    async def wait_asked(self, seconds: float) -> bool:
        """Wait at most `seconds` for `ask`; whether it came."""
        return await _came(self._asked, seconds)

    async def pause(self, seconds: float) -> None:
        """Sleep that ends early by `Stopped` when the work is abandoned.

        Raises:
            Stopped: the work is abandoned.
        """
        if await _came(self._abandoned, seconds):
            raise Stopped

    def check(self) -> None:
        """Raise `Stopped` when the work is abandoned."""
        if self._abandoned.is_set():
            raise Stopped


async def _came(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
