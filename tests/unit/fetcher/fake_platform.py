"""A platform in a dictionary, for what the simulator can't be made to do at a chosen call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from lambdas.thingworx.infotable import InfoTable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakePlatform", "rows_of"]


def rows_of(*names: str, **more: Any) -> InfoTable:
    """A table with one row a name."""
    return InfoTable({"name": "STRING"}, [{"name": name, **more} for name in names])


class FakePlatform:
    """Answers each service with a function of its parameters and the entity; counts the calls.

    Args:
        answers: service name -> function of (entity, parameters).
    """

    def __init__(self, **answers: Callable[[str, dict[str, Any]], InfoTable | None]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str, str, dict[str, Any]]] = []

    def service(
        self, collection: str, entity: str, service: str, parameters: dict[str, Any] | None = None
    ) -> InfoTable | None:
        """Answer, or raise what the function raises."""
        with self._lock:
            self.calls.append((collection, entity, service, parameters or {}))
        return self._answers[service](entity, parameters or {})

    def called(self, service: str) -> int:
        """How often a service was called."""
        return sum(1 for call in self.calls if call[2] == service)
