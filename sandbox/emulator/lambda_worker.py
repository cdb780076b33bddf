"""One execution environment of a Python function: a process, its folder, its log stream.

Restored behaviour:
- the exception's class, message and stack trace reach the caller; a function error leaves the
  environment warm, only a crash or a time-out ends it;
- log lines appear while the function runs, print() included (see lambda_logs.py);
- between invocations the environment is frozen (SIGSTOP).
Extends lambda_runtime.Worker.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import io
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ministack.core.lambda_runtime as runtime

from . import lambda_environment, lambda_logs, managed_runtime
from .lambda_bootstrap import END_OF_LOG

BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")
INIT_SECONDS = 10
MAXIMUM_RESPONSE_BYTES = 6 * 1024 * 1024 + 100


class PythonWorker(runtime.Worker):
    """One execution environment: a process, its folder, its log stream."""

    def __init__(self, func_name: str, config: dict, code_zip: bytes) -> None:
        super().__init__(func_name, config, code_zip)
        self._log: lambda_logs.LogStream | None = None
        self._requests: Any = None
        self._answers: Any = None
        self._end_of_log = threading.Event()
        self._reader: threading.Thread | None = None

    def invoke(self, event: Any, request_id: str, *, trace_id: str | None = None, **_: Any) -> dict[str, Any]:
        """Run one invocation: {"result": text} or {"error": document}, and "log", its tail."""
        with self._lock:
            failed = self._ready()
            if self._log is None:
                raise RuntimeError("an environment without log stream")
            timeout = float(self.config.get("Timeout", 3))
            started = time.time()
            self._log.start(request_id)
            if failed is None:
                call = {
                    "event": event,
                    "request_id": request_id,
                    "arn": self.config.get("FunctionArn", ""),
                    "deadline_ms": (started + timeout) * 1000,
                    "trace_id": trace_id,
                }
                answer = self._call(call, timeout)
                failed = self._failure(answer, request_id, timeout)
            else:
                answer = None
            self._log.end(request_id, time.time() - started)
            outcome = {"error": failed} if failed is not None else {"result": answer["result"]}
            self._freeze()
            return {**outcome, "log": self._log.tail()}

    def _failure(
        self, answer: dict[str, Any] | None, request_id: str, timeout: float
    ) -> dict[str, Any] | None:
        if answer is None:
            return self._crash(request_id, timeout)
        if "error" in answer:
            return {**answer["error"], "requestId": request_id}
        if len(answer["result"].encode()) > MAXIMUM_RESPONSE_BYTES:
            return {
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": f"Response payload size exceeded maximum allowed payload size "
                f"({MAXIMUM_RESPONSE_BYTES} bytes).",
            }
        return None

    def _crash(self, request_id: str, timeout: float) -> dict[str, Any]:
        """No answer came: the process has ended, or its time is over. What AWS reports then."""
        process, self._proc = self._proc, None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)  # an exiting process closes its pipes a moment before it is gone
        status = process.returncode
        _end(process)
        self._reader.join(timeout=1)
        if status is None:
            kind, text = "Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds"
        elif status < 0:
            kind, text = (
                "Runtime.ExitError",
                f"Runtime exited with error: signal: {signal.strsignal(-status)}",
            )
        elif status > 0:
            kind, text = "Runtime.ExitError", f"Runtime exited with error: exit status {status}"
        else:
            kind, text = "Runtime.ExitError", "Runtime exited without providing a reason"
        message = f"RequestId: {request_id} Error: {text}"
        self._log.write(message)
        return {"errorType": kind, "errorMessage": message}

    def _ready(self) -> dict[str, Any] | None:
        """Thaw or start the process. Returns the error document if its initialisation fails."""
        if self._proc is not None and self._proc.poll() is None:
            self._proc.send_signal(signal.SIGCONT)
            return None
        self._spawn()
        self._cold = False
        answer = self._receive(INIT_SECONDS + float(self.config.get("Timeout", 3)))
        if answer is not None and "error" not in answer:
            return None
        process, self._proc = self._proc, None
        _end(process)
        self._reader.join(timeout=1)
        if answer is None:
            return {"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited during initialization"}
        return answer["error"]

    def _spawn(self) -> None:
        self._discard_tmpdir()
        self._tmpdir = tempfile.mkdtemp(prefix=f"lambda-{self.func_name}-")
        self._log = lambda_logs.LogStream(self.config)
        code = lambda_environment.unpacked(self.code_zip)
        to_child, self._requests = _pipe_to_child()
        self._answers, from_child = _pipe_from_child()
        self._proc = subprocess.Popen(
            [managed_runtime.interpreter(), "-I", "-S", str(BOOTSTRAP), str(to_child), str(from_child)],
            cwd=code,
            env=lambda_environment.variables(self.config, code, Path(self._tmpdir), self._log),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(to_child, from_child),
        )
        os.close(to_child)
        os.close(from_child)
        self._end_of_log = threading.Event()
        context = contextvars.copy_context()
        self._reader = threading.Thread(
            target=context.run,
            args=(self._read_log, self._proc.stdout, self._log, self._end_of_log),
            daemon=True,
        )
        self._reader.start()
        self._send(
            {
                "handler": self.config.get("Handler", ""),
                "code_path": [str(code), *lambda_environment.layer_paths(self.config)],
                "sdk": str(managed_runtime.sdk_directory()),
            }
        )

    def _read_log(self, pipe: Any, stream: lambda_logs.LogStream, end: threading.Event) -> None:
        for raw in io.TextIOWrapper(pipe, encoding="utf-8", errors="replace", newline="\n"):
            line, mark, _ = raw.rstrip("\n").partition(END_OF_LOG)
            if line:
                stream.write(line)
            if mark:
                end.set()

    def _call(self, call: dict[str, Any], timeout: float) -> dict[str, Any] | None:
        try:
            self._send(call)
        except BrokenPipeError:
            return None
        return self._receive(timeout)

    def _send(self, document: dict[str, Any]) -> None:
        self._end_of_log.clear()
        self._requests.write(json.dumps(document) + "\n")
        self._requests.flush()

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        """The next answer with everything logged before it; None if the process ends or is late."""
        box: collections.deque[str] = collections.deque()
        reader = threading.Thread(
            target=lambda pipe: box.append(pipe.readline()), args=(self._answers,), daemon=True
        )
        reader.start()
        reader.join(timeout)
        if not box or not box[0]:
            return None
        self._end_of_log.wait(1)
        return json.loads(box[0])

    def _freeze(self) -> None:
        if self._proc is not None:
            self._proc.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End the environment."""
        process, self._proc = self._proc, None
        if process is not None:
            _end(process)
        self._discard_tmpdir()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _pipe_to_child() -> tuple[int, Any]:
    read, write = os.pipe()
    return read, os.fdopen(write, "w", encoding="utf-8")


def _pipe_from_child() -> tuple[Any, int]:
    read, write = os.pipe()
    return os.fdopen(read, "r", encoding="utf-8"), write
