"""Lambda in small: warm environments are reused, an environment that dies is replaced by the next call."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from tests.chaos.functions import Changes, Environment, Function, Result

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["LambdaService"]


class LambdaService:
    """Environments of all functions; usable from any thread.

    Args:
        functions: by name.
        folder: takes the environments' output.
        changes: what is changed of the code in every environment.

    Attributes:
        environments: all that there ever were.
        results: of every invocation that has ended: environment, event, result.
    """

    def __init__(self, functions: Mapping[str, Function], folder: Path, changes: Changes) -> None:
        self._functions = functions
        self._folder = folder
        self._changes = changes
        self._idle: dict[str, list[Environment]] = {name: [] for name in functions}
        self._busy: dict[str, list[Environment]] = {name: [] for name in functions}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.environments: list[Environment] = []
        self.results: list[tuple[str, Any, Result]] = []

    def invoke(self, function: str, event: Any, seconds: float) -> Result:
        """Run a function and wait for it."""
        environment = self._take(function)
        result = environment.invoke(event, str(uuid.uuid4()), seconds)
        with self._lock:
            self.results.append((environment.name, event, result))
            self._busy[function].remove(environment)
            if environment.alive and not environment.killed:
                self._idle[function].append(environment)
        return result

    def invoke_event(
        self, function: str, event: Any, seconds: float, failed: Callable[[Result], None] | None = None
    ) -> None:
        """Run a function and wait for nothing; `failed` is told of an error."""

        def run() -> None:
            result = self.invoke(function, event, seconds)
            if result.error and failed is not None:
                failed(result)

        thread = threading.Thread(target=run, name=f"event-{function}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def deploy(self, function: str) -> None:
        """Let no environment of today serve another invocation."""
        with self._lock:
            old, self._idle[function] = self._idle[function], []
        for environment in old:
            environment.close()

    def busy(self, function: str) -> list[Environment]:
        """Environments at work, in order of their names."""
        with self._lock:
            return list(self._busy[function])

    def pick(self, function: str, choice: random.Random) -> Environment | None:
        """One that is at work, or None."""
        working = self.busy(function)
        return choice.choice(working) if working else None

    def thaw(self) -> None:
        """Let every stopped process go on."""
        for environment in self.environments:
            environment.thaw()

    def wait_idle(self, function: str, seconds: float) -> bool:
        """Wait until no invocation of a function runs; whether that came."""
        for thread in self._threads:
            if thread.name == f"event-{function}":
                thread.join(seconds)
        return not self.busy(function)

    def close(self) -> None:
        """End all environments."""
        for environment in self.environments:
            if environment in self._idle[environment.name.rpartition("-")[0]]:
                environment.close()
            else:
                environment.kill()
        for thread in self._threads:
            thread.join(5)

    def _take(self, function: str) -> Environment:
        with self._lock:
            idle = self._idle[function]
            environment = idle.pop() if idle else None
        if environment is None or not environment.alive:
            environment = Environment(self._functions[function], self._folder, self._changes)
            with self._lock:
                self.environments.append(environment)
        with self._lock:
            self._busy[function].append(environment)
        return environment
