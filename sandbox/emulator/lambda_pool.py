"""Which environment serves an invocation of a Python function, and when environments end.

Restored behaviour: any Python label and any architecture run on the host's Python; new code or
configuration ends idle environments, an invocation that runs finishes on the old code.
Replaces lambda_runtime._worker_class_for, invalidate_worker and kill_workers,
lambda_svc._execute_function_warm (for Python functions) and _emit_lambda_logs; uses _workers, _lock,
acquire_worker, release_worker, _xray_trace_id_for_invocation, _ensure_reaper_thread.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
from typing import Any

import ministack.core.lambda_runtime as runtime
import ministack.services.lambda_svc as service

from . import lambda_environment, lambda_logs, lambda_worker, managed_runtime, patching

_doomed: set[Any] = set()


def install() -> None:
    """Put this part of the overlay on."""
    lambda_environment.check()
    lambda_logs.check()
    managed_runtime.sdk_directory()
    patching.require(
        runtime, "Worker", "ProvidedWorker", "_workers", "_lock", "acquire_worker", "release_worker"
    )
    patching.require(service, "_xray_trace_id_for_invocation", "_ensure_reaper_thread", "invalidate_worker")
    patching.replace(runtime, "_worker_class_for", lambda _: _worker_class_for)
    patching.replace(runtime, "invalidate_worker", lambda _: invalidate_worker)
    patching.replace(runtime, "kill_workers", lambda _: kill_workers)
    service.invalidate_worker = invalidate_worker
    patching.replace(service, "_execute_function_warm", _execute_for)
    patching.replace(service, "_emit_lambda_logs", _emit_logs_for)


def kill_workers(workers: list[Any]) -> None:
    """End environments at once: a frozen process wouldn't see a request to end."""
    for worker in workers:
        worker.kill()


def _worker_class_for(config: dict) -> type:
    if str(config.get("Runtime", "")).startswith("python"):
        return lambda_worker.PythonWorker
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
            wanted = (func_name, qualifier, account, region)
            its = (its_name, its_qualifier, its_account, its_region)
            if any(value not in {None, own} for value, own in zip(wanted, its, strict=True)):
                continue
            for worker in runtime._workers.pop(key):
                if worker.in_use:
                    _doomed.add(worker)
                else:
                    idle.append(worker)
    for worker in idle:
        worker.kill()
