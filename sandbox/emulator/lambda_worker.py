"""Run Python functions as AWS documents it.

Restored behaviour:
- the exception's class, message and stack trace reach the caller; a function error leaves the
  environment warm, only a crash or a time-out ends it;
- log lines appear while the function runs, print() included (see lambda_logs.py);
- the documented environment variables and nothing of the emulator's own environment; the managed
  runtime's modules only (see managed_runtime.py); any Python label and any architecture run on the host;
- between invocations the environment is frozen (SIGSTOP);
- new code or configuration ends idle environments; an invocation that runs finishes on the old code.
Replaces lambda_runtime._worker_class_for, invalidate_worker and kill_workers,
lambda_svc._execute_function_warm (for Python functions) and _emit_lambda_logs; uses Worker, _workers,
_lock, acquire_worker, release_worker, execution_credentials, _account_region_from_function_config,
_RESERVED_RUNTIME_ENV_VARS, _resolve_layer_zip, _xray_trace_id_for_invocation, _ensure_reaper_thread,
_request_account_id, _request_region.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import collections
import contextlib
import contextvars
import hashlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import ministack.core.lambda_runtime as runtime
import ministack.services.lambda_svc as service

from . import lambda_logs, managed_runtime, patching, settings
from .lambda_bootstrap import END_OF_LOG

log = logging.getLogger("sandbox.lambda")

BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")
INIT_SECONDS = 10
MAXIMUM_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
_extracting = threading.Lock()
_doomed: set[Any] = set()


def install() -> None:
    """Put this part of the overlay on."""
    lambda_logs.check()
    patching.require(
        runtime,
        *("Worker", "_workers", "_lock", "acquire_worker", "release_worker"),
        *("execution_credentials", "_account_region_from_function_config", "_RESERVED_RUNTIME_ENV_VARS"),
    )
    patching.require(
        service,
        *("_resolve_layer_zip", "_xray_trace_id_for_invocation", "_ensure_reaper_thread"),
        *("_request_account_id", "_request_region", "invalidate_worker"),
    )
    patching.replace(runtime, "_worker_class_for", lambda _: _worker_class_for)
    patching.replace(runtime, "invalidate_worker", lambda _: invalidate_worker)
    patching.replace(runtime, "kill_workers", lambda _: kill_workers)
    service.invalidate_worker = invalidate_worker
    patching.replace(service, "_execute_function_warm", _execute_for)
    patching.replace(service, "_emit_lambda_logs", _emit_logs_for)


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
        code = _unpacked(self.code_zip)
        layers = [
            _unpacked(data)
            for layer in self.config.get("Layers") or []
            if (data := service._resolve_layer_zip(layer))
        ]
        sdk = managed_runtime.make_sdk_directory(Path(tempfile.gettempdir()))
        to_child, self._requests = _pipe_to_child()
        self._answers, from_child = _pipe_from_child()
        self._proc = subprocess.Popen(
            [managed_runtime.interpreter(), "-I", "-S", str(BOOTSTRAP), str(to_child), str(from_child)],
            cwd=code,
            env=self._environment(code, sdk),
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
        # The order that AWS documents: the function's code, its layers, the runtime.
        layer_paths = [path for layer in reversed(layers) for path in _layer_paths(layer)]
        start = {
            "handler": self.config.get("Handler", ""),
            "code_path": [str(code), *layer_paths],
            "sdk": str(sdk),
        }
        self._send(start)

    def _environment(self, code: Path, sdk: Path) -> dict[str, str]:
        """The variables that AWS documents for every function, under the function's own ones."""
        config = self.config
        _, region = runtime._account_region_from_function_config(config)
        logging_config = config.get("LoggingConfig") or {}
        own = {
            name: value
            for name, value in ((config.get("Environment") or {}).get("Variables") or {}).items()
            if name not in runtime._RESERVED_RUNTIME_ENV_VARS
        }
        defaults = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}",
            "HOME": str(self._tmpdir),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._tmpdir),
            "TZ": ":UTC",
        }
        if settings.CA_BUNDLE:
            defaults["SSL_CERT_FILE"] = settings.CA_BUNDLE
        if (level := logging_config.get("ApplicationLogLevel")) and logging_config.get("LogFormat") == "JSON":
            defaults["AWS_LAMBDA_LOG_LEVEL"] = level
        fixed = {
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', 'python')}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.get("MemorySize", 128)),
            "AWS_LAMBDA_FUNCTION_NAME": config.get("FunctionName", ""),
            "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_FORMAT": logging_config.get("LogFormat", "Text"),
            "AWS_LAMBDA_LOG_GROUP_NAME": self._log.group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log.name,
            "AWS_REGION": region,
            "LAMBDA_RUNTIME_DIR": str(sdk),
            "LAMBDA_TASK_ROOT": str(code),
            "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "_HANDLER": config.get("Handler", ""),
        }
        credentials = {name: value for name, value in runtime.execution_credentials(config).items() if value}
        return {**defaults, **own, **fixed, **credentials}

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


def kill_workers(workers: list[Any]) -> None:
    """End environments at once: a frozen process wouldn't see a request to end."""
    for worker in workers:
        worker.kill()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _pipe_to_child() -> tuple[int, Any]:
    read, write = os.pipe()
    return read, os.fdopen(write, "w", encoding="utf-8")


def _pipe_from_child() -> tuple[Any, int]:
    read, write = os.pipe()
    return os.fdopen(read, "r", encoding="utf-8"), write


def _layer_paths(layer: Path) -> list[str]:
    """The folders of a layer that AWS puts on the path of a Python function."""
    python = layer / "python"
    return [
        str(path) for path in [*sorted(python.glob("lib/python3*/site-packages")), python] if path.is_dir()
    ]


def _unpacked(package: bytes) -> Path:
    """The folder with a package's files; equal packages share one, as they are read-only on AWS."""
    parent = Path(tempfile.gettempdir()) / "lambda-packages"
    folder = parent / hashlib.sha256(package).hexdigest()[:32]
    with _extracting:
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                archive.extractall(partial)
            partial.rename(folder)
    return folder


def _worker_class_for(config: dict) -> type:
    if str(config.get("Runtime", "")).startswith("python"):
        return PythonWorker
    return runtime.ProvidedWorker if str(config.get("Runtime", "")).startswith("provided") else runtime.Worker


def _execute_for(original: Any) -> Any:
    def execute(func: dict, event: Any, request_id: str) -> dict[str, Any]:
        config = func.get("config") or func
        if not str(config.get("Runtime", "")).startswith("python"):
            return original(func, event, request_id)
        service._ensure_reaper_thread()
        worker, _ = runtime.acquire_worker(
            config["FunctionName"], config, func["code_zip"], qualifier=config.get("Version", "$LATEST")
        )
        try:
            outcome = worker.invoke(event, request_id, trace_id=service._xray_trace_id_for_invocation(config))
        finally:
            runtime.release_worker(worker)
            if worker in _doomed:
                _doomed.discard(worker)
                worker.kill()
        answer = {"log": outcome["log"], "log_source": "streamed"}
        if "error" in outcome:
            return {**answer, "body": outcome["error"], "error": True, "function_error": "Unhandled"}
        return {**answer, "body": json.loads(outcome["result"])}

    return execute


def _emit_logs_for(original: Any) -> Any:
    def emit(*arguments: Any, log_source: str | None = None, **named: Any) -> None:
        if log_source != "streamed":
            original(*arguments, log_source=log_source, **named)

    return emit


def invalidate_worker(
    func_name: str, qualifier: str | None = None, account: str | None = None, region: str | None = None
) -> None:
    """End a function's idle environments; those that run an invocation end after it."""
    idle = []
    with runtime._lock:
        for key in list(runtime._workers):
            its_account, its_region, its_name, its_qualifier = key.split(":")
            wanted = zip(
                (func_name, qualifier, account, region), (its_name, its_qualifier, its_account, its_region)
            )
            if any(value not in {None, its} for value, its in wanted):
                continue
            for worker in runtime._workers.pop(key):
                if worker.in_use:
                    _doomed.add(worker)
                else:
                    idle.append(worker)
    for worker in idle:
        worker.kill()
