"""A clock that a test moves on: the functions' time follows it, the machine's own goes on beneath."""

from __future__ import annotations

import sys
import time
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

__all__ = ["SimulatedClock"]


class SimulatedClock:
    """Time of day and running time, both ahead of the machine's by what was added.

    Between two moves it runs as fast as the machine's, so that whatever waits for an answer still does.
    Where functions of `lambdas` pause by a `sleep` that they were given, the clock is moved instead. What
    reads the time below Python, such as the emulated queues' visibility, keeps to the machine's.

    Args:
        patch: undoes it all at the end of the test.
        start: first moment, seconds since 1970 UTC.
    """

    def __init__(self, patch: pytest.MonkeyPatch, start: float) -> None:
        self._time, self._monotonic = time.time, time.monotonic
        self._ahead = start - time.time()
        self._run = 0.0
        own = {time.time: self.time, time.monotonic: self.monotonic, time.sleep: self.sleep}
        for function in _functions("lambdas."):
            defaults = tuple(own.get(value, value) for value in function.__defaults__ or ())
            patch.setattr(function, "__defaults__", defaults or None)
            named = {name: own.get(value, value) for name, value in (function.__kwdefaults__ or {}).items()}
            patch.setattr(function, "__kwdefaults__", named or None)
        patch.setattr(time, "time", self.time)
        patch.setattr(time, "time_ns", lambda: int(self.time() * 1e9))
        patch.setattr(time, "monotonic", self.monotonic)

    def time(self) -> float:
        """Seconds since 1970 UTC."""
        return self._time() + self._ahead

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._monotonic() + self._run

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self._ahead += seconds
        self._run += seconds

    def move_to(self, moment: float) -> None:
        """Move on to a moment, seconds since 1970 UTC; one that is past already changes nothing."""
        self.sleep(max(0.0, moment - self.time()))

    @property
    def ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return int(self.time() * 1000)


def _functions(package: str) -> Iterator[FunctionType]:
    """Functions and methods of the package's modules that have defaults."""
    for name, module in list(sys.modules.items()):
        if name.startswith(package):
            for found in list(vars(module).values()):
                if getattr(found, "__module__", None) == name:
                    yield from _of(found)


def _of(found: Any) -> Iterator[FunctionType]:
    members = list(vars(found).values()) if isinstance(found, type) else [found]
    for member in members:
        if isinstance(member, FunctionType) and (member.__defaults__ or member.__kwdefaults__):
            yield member
