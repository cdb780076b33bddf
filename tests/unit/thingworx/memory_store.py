"""The breaker's record in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambdas.thingworx.breaker import Tripped


class MemoryStore:
    """A record that is written only by who has seen it as it is."""

    def __init__(self) -> None:
        self.record: Tripped | None = None

    def read(self) -> Tripped | None:
        """The record."""
        return self.record

    def replace(self, before: Tripped | None, after: Tripped | None) -> bool:
        """Write it, unless somebody else did."""
        if self.record != before:
            return False
        self.record = after
        return True
