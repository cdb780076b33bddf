"""The runtime inside a function's process; run as `python -I -S -u lambda_bootstrap.py FD_IN FD_OUT`.

One JSON line in an invocation, one JSON line out, over two pipes of their own: standard output and
standard error stay the function's, every line of them a log event. Restores what AWS documents for the
Python runtimes: exception class, message and stack trace of a failed invocation, the names of initial
errors (Runtime.ImportModuleError, Runtime.HandlerNotFound, ...), the context object, and the log
formats text and JSON of the `logging` module.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# Follows the last byte that an invocation logged, so that its reader needs no waiting time.
END_OF_LOG = "\x00end\x00"


class LambdaContext:
    """The object that AWS documents as the handler's second argument."""

    def __init__(self, call: dict[str, Any]) -> None:
        self.aws_request_id = call["request_id"]
        self.invoked_function_arn = call["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None
        self._deadline_ms = call["deadline_ms"]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is killed."""
        return max(0, int(self._deadline_ms - time.time() * 1000))


class LogHandler(logging.Handler):
    """The handler that the managed runtime puts on the root logger."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.request_id = ""
        self.setFormatter(
            logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(message)s", "%Y-%m-%dT%H:%M:%S")
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line (JSON) or in the runtime's text format."""
        if not self.as_json:
            head, _, message = self.format(record).rpartition("Z\t")
            sys.stdout.write(f"{head}Z\t{self.request_id}\t{message}\n")
            return
        entry = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": self.request_id,
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["errorType"] = record.exc_info[0].__name__
            entry["errorMessage"] = str(record.exc_info[1])
            entry["stackTrace"] = traceback.format_tb(record.exc_info[2])
        sys.stdout.write(json.dumps(entry, default=str) + "\n")


def main() -> None:
    """Read how to find the handler, then serve invocations until the pipe closes."""
    incoming, outgoing = (int(argument) for argument in sys.argv[1:3])
    for descriptor in (incoming, outgoing):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - its signature
    requests = os.fdopen(incoming, "r", encoding="utf-8")
    answers = os.fdopen(outgoing, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")

    def answer(document: dict[str, Any]) -> None:
        flush_log()
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    start = json.loads(requests.readline())
    sys.path[:] = [*start["code_path"], *sys.path, start["sdk"]]
    log_handler = LogHandler(as_json=os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON")
    logging.Formatter.converter = time.gmtime
    logging.getLogger().addHandler(log_handler)
    if level := os.environ.get("AWS_LAMBDA_LOG_LEVEL"):
        logging.getLogger().setLevel(
            "CRITICAL" if level == "FATAL" else "DEBUG" if level == "TRACE" else level
        )
    try:
        handler = load_handler(start["handler"])
    except BaseException as error:  # noqa: BLE001 - whatever a module raises is an initial error
        answer({"error": describe(error, skip=0)})
        return
    answer({"ready": True})
    for line in requests:
        call = json.loads(line)
        log_handler.request_id = call["request_id"]
        set_or_clear("_X_AMZN_TRACE_ID", call.get("trace_id"))
        answer(invoke(handler, call))


def set_or_clear(name: str, value: str | None) -> None:
    """Set an environment variable that changes with each invocation."""
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


def load_handler(name: str) -> Any:
    """Import `package.module.function` (slashes allowed) or raise the runtime's own errors."""
    module_name, _, function = name.replace("/", ".").rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        traceback.print_exc()
        raise RuntimeInitError(
            "ImportModuleError", f"Unable to import module '{module_name}': {error}"
        ) from None
    except SyntaxError as error:
        raise RuntimeInitError(
            "UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}"
        ) from None
    if not hasattr(module, function):
        raise RuntimeInitError("HandlerNotFound", f"Handler '{function}' missing on module '{module_name}'")
    return getattr(module, function)


class RuntimeInitError(Exception):
    """An initial error whose name the runtime chooses: `Runtime.<kind>`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = f"Runtime.{kind}"


def invoke(handler: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Run the handler; its result, or what AWS reports of its exception."""
    try:
        result = handler(call["event"], LambdaContext(call))
    except Exception as error:  # noqa: BLE001 - every exception is a function error
        return {"error": describe(error, skip=1)}
    try:
        return {"result": json.dumps(result)}
    except (TypeError, ValueError) as error:
        return {
            "error": {
                "errorType": "Runtime.MarshalError",
                "errorMessage": f"Unable to marshal response: {error}",
            }
        }


def describe(error: BaseException, *, skip: int) -> dict[str, Any]:
    """Error type, message and stack trace as AWS reports them, and log them."""
    kind = error.kind if isinstance(error, RuntimeInitError) else type(error).__name__
    frames = [] if isinstance(error, RuntimeInitError) else traceback.extract_tb(error.__traceback__)[skip:]
    trace = traceback.format_list(frames)
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = {"timestamp": now, "log_level": "ERROR", "errorType": kind, "errorMessage": str(error)}
        sys.stdout.write(json.dumps({**entry, "stackTrace": trace}) + "\n")
    else:
        tail = f"\nTraceback (most recent call last):\n{''.join(trace)}" if trace else ""
        sys.stdout.write(f"[ERROR] {kind}: {error}{tail}\n")
    return {"errorType": kind, "errorMessage": str(error), "stackTrace": trace}


def flush_log() -> None:
    """Push everything logged so far into the pipe, then the mark that it ends here."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, f"{END_OF_LOG}\n".encode())


if __name__ == "__main__":
    # The runtime isn't part of the function's import path; its own folder must not be either.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]
    main()
