"""Faults of AWS calls: which calls fail, how, and for how long; chosen by a seeded generator."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["AwsFault", "AwsFaults", "FaultKind"]

#: `throttle` and `error` refuse before anything happens; `lost` does the work and closes the connection
#: without an answer; `partial` does some entries of a batch; `slow` waits first.
FaultKind = Literal["throttle", "error", "lost", "partial", "slow"]


@dataclass(frozen=True)
class AwsFault:
    """A rule: calls of `service`.`operation` by `caller` (patterns) fail with a probability."""

    service: str
    operation: str
    kind: FaultKind
    probability: float
    caller: str = "*"
    seconds: float = 0.0


class AwsFaults:
    """The rules in force; usable from any thread."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._rules: list[AwsFault] = []
        self._lock = threading.Lock()
        self.hits = 0

    def add(self, fault: AwsFault) -> None:
        """Put a rule in force."""
        with self._lock:
            self._rules.append(fault)

    def remove(self, fault: AwsFault) -> None:
        """Lift a rule; one that is lifted already is no error."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule is not fault]

    def clear(self) -> None:
        """Lift all rules."""
        with self._lock:
            self._rules = []

    def take(self, service: str, operation: str, caller: str) -> AwsFault | None:
        """The rule that strikes this call, if one does."""
        with self._lock:
            for rule in self._rules:
                if (
                    fnmatchcase(service, rule.service)
                    and fnmatchcase(operation, rule.operation)
                    and fnmatchcase(caller, rule.caller)
                    and self._random.random() < rule.probability
                ):
                    self.hits += 1
                    return rule
        return None

    def choose(self, entries: list[str]) -> set[str]:
        """The entries of a batch that a `partial` fault lets fail: at least one."""
        with self._lock:
            return set(self._random.sample(entries, self._random.randint(1, len(entries))))
