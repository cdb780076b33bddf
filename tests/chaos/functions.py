"""Execution environments: processes that run the real handlers, one invocation at a time.

They are forked from a server that has imported everything, so that a new one costs milliseconds. What a
function prints goes to a file of its environment. Waits that production sets in seconds and that are no
settings are shortened here, in the process, before a handler runs.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection as Pipe
    from pathlib import Path

__all__ = ["Changes", "Environment", "Function", "Result"]

#: Waits that are constants of the code: module, name, value at pace 1.
_WAITS: tuple[tuple[str, str, float], ...] = (
    ("lambdas.connector.gate", "_FIRST_SECONDS", 0.05),
    ("lambdas.connector.gate", "_MOST_SECONDS", 0.4),
    ("lambdas.connector.assigned", "_LOOK_SECONDS", 0.4),
    ("lambdas.shared.connectors", "MIN_AGE", 1000),
)
#: Parcels of a few readings, so that a batch has several of one lane.
_PARCEL_BYTES = 700
_PRELOAD = ["tests.chaos.preload"]
_START_SECONDS = 60.0
_names = itertools.count(1)


class Context(NamedTuple):
    """What Lambda tells an invocation."""

    aws_request_id: str
    end: float
    function_name: str = "chaos"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:chaos"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the environment is killed."""
        return int((self.end - time.monotonic()) * 1000)


class Result(NamedTuple):
    """How an invocation ended: `error` is the exception's name, `Killed` when its environment died."""

    answer: Any
    error: str = ""
    detail: str = ""


class Changes(NamedTuple):
    """What is changed of the code where it runs.

    Attributes:
        planted: name of a bug to plant, empty for none.
        pace: by what all times are stretched, for a machine that has other things to do.
    """

    planted: str = ""
    pace: float = 1.0


class Function(NamedTuple):
    """A function: its name, the module of its handler, its environment variables."""

    name: str
    module: str
    variables: Mapping[str, str]


def _serve(pipe: Pipe, function: Function, name: str, log: str, changes: Changes) -> None:
    os.environ.update(function.variables)
    os.environ |= {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "none"}
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a kill must not take lines along
    for module, attribute, value in _WAITS:
        _shorten(module, attribute, value * changes.pace)
    _shorten("lambdas.shared.pack", "MAX_BYTES", _PARCEL_BYTES)
    if changes.planted:
        from tests.chaos.planted import BUGS  # noqa: PLC0415 - imports what it breaks

        BUGS[changes.planted].plant()
    handle: Callable[[Any, Any], Any] = importlib.import_module(function.module).handle
    pipe.send(None)  # ready: what came before is no part of an invocation's time
    while True:
        try:
            event, request_id, seconds = pipe.recv()
        except EOFError:
            return
        try:
            result = Result(handle(event, Context(request_id, time.monotonic() + seconds)))
        except BaseException as error:  # noqa: BLE001 - Lambda tells the caller of whatever it was
            traceback.print_exc()
            result = Result(None, type(error).__name__, str(error))
        pipe.send(result)


def _shorten(module: str, attribute: str, value: float) -> None:
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        raise AttributeError(f"{module}.{attribute} is gone: name it anew in {__name__}")
    setattr(found, attribute, type(getattr(found, attribute))(value))


class Environment:
    """One execution environment of a function.

    Args:
        function: what it runs.
        folder: takes its output as `{name}.log`.
        changes: what is changed of the code.

    Attributes:
        name: its name, which is its access key too.
        killed: when it was killed, seconds since 1970; 0 while it wasn't.
        frozen: spans in which it was stopped, in seconds since 1970; an open one ends at infinity.
    """

    def __init__(self, function: Function, folder: Path, changes: Changes) -> None:
        self.name = f"{function.name}-{next(_names)}"
        self.log = folder / f"{self.name}.log"
        self.killed = 0.0
        self.frozen: list[tuple[float, float]] = []
        self._lock = threading.Lock()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        self._pipe, far = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far, function, self.name, str(self.log), changes), daemon=True
        )
        self._process.start()
        far.close()
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether the process runs or is stopped."""
        return self._process.is_alive()

    def invoke(self, event: Any, request_id: str, seconds: float) -> Result:
        """Run the handler once and wait for it; after `seconds` the environment is killed."""
        try:
            if not self._ready:
                if not self._pipe.poll(_START_SECONDS):
                    self.kill()
                    return Result(None, "Killed", "the environment did not start")
                self._pipe.recv()
                self._ready = True
            self._pipe.send((event, request_id, seconds))
            if self._pipe.poll(seconds):
                result: Result = self._pipe.recv()
                return result
        except (EOFError, OSError):
            self.kill()
            return Result(None, "Killed", "the environment died")
        self.kill()
        return Result(None, "Killed", "the time of the invocation was over")

    def freeze(self) -> None:
        """Stop the process, as an environment is that gets no processor."""
        self._signal(signal.SIGSTOP)
        self.frozen.append((time.time(), float("inf")))

    def thaw(self) -> None:
        """Let it go on."""
        if self.frozen and self.frozen[-1][1] == float("inf"):
            self.frozen[-1] = (self.frozen[-1][0], time.time())
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once."""
        with self._lock:
            if not self.killed:
                self.killed = time.time()
                self._process.kill()
        self._process.join()

    def close(self) -> None:
        """End an idle process by the end of its pipe; one at work is killed."""
        self._pipe.close()
        self._process.join(0.5)
        if self._process.is_alive():
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._process.is_alive() and self._process.pid is not None:
                os.kill(self._process.pid, number)
