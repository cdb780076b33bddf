"""Edges: one for tests without a protocol, and waiting for what edges answer."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from sandbox.thingworx.errors import EdgeUnavailableError, PlatformError, PropertyNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.thingworx.platform import EdgeWrite

__all__ = ["QueuedEdge", "edge_answers"]


class QueuedEdge:
    """Accepts every write at once, or refuses all with `refusal`; `take` hands them out in order."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self._writes: deque[EdgeWrite] = deque()

    def write(self, write: EdgeWrite) -> Future[None]:
        """Keep a write; its future is done when this returns."""
        answer: Future[None] = Future()
        if self.refusal is not None:
            answer.set_exception(self.refusal)
        else:
            self._writes.append(write)
            answer.set_result(None)
        return answer

    def read(self, edge_name: str) -> Future[Any]:
        """Refuse: it has no values."""
        answer: Future[Any] = Future()
        answer.set_exception(PropertyNotFoundError(edge_name, "edge"))
        return answer

    def model_changed(self) -> None:
        """Nothing to do: it asks for no subscriptions."""

    def take(self) -> list[EdgeWrite]:
        """All writes since the last time."""
        taken = []
        while self._writes:
            taken.append(self._writes.popleft())
        return taken


async def edge_answers(answers: Iterable[Future[Any]], thing: str, seconds: float) -> list[Any]:
    """What edges answered, once all of them did.

    Raises:
        EdgeUnavailableError: One didn't within `seconds`.
        PlatformError: One refused; its text is the edge's.
    """
    waiting = [asyncio.wrap_future(future) for future in answers]
    try:
        return await asyncio.wait_for(asyncio.gather(*waiting), seconds)
    except TimeoutError as error:
        raise EdgeUnavailableError(thing, "did not answer in time") from error
    except PlatformError:
        raise
    except Exception as error:
        # Whatever an edge refuses with is the client's answer, not a failure of this server.
        raise PlatformError(str(error) or type(error).__name__) from error
