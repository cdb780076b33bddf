"""An edge for tests without a protocol: it keeps what it's sent."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.thingworx.platform import EdgeWrite

__all__ = ["QueuedEdge"]


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

    def take(self) -> list[EdgeWrite]:
        """All writes since the last time."""
        taken = []
        while self._writes:
            taken.append(self._writes.popleft())
        return taken
