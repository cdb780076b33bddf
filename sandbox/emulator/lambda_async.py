"""Asynchronous invocations (`InvocationType` Event) as AWS documents them.

A function error is retried up to MaximumRetryAttempts of the qualifier's own event invoke config; a
throttle counts as no attempt and is retried until MaximumEventAgeInSeconds; then the event goes to the
failure destination, or nowhere. Replaces lambda_svc.invoke_async_with_retry; uses _execute_function,
_route_async_failure, _run_with_function_config_scope, _event_invoke_config, _functions and the
emulator's settings LAMBDA_ASYNC_RETRY_BASE_SECONDS (AWS: a minute) and LAMBDA_ASYNC_RETRY_MAX_SECONDS.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import threading
import time
from typing import Any

import ministack.services.lambda_svc as service

from . import patching

DEFAULT_RETRIES = 2
DEFAULT_AGE_SECONDS = 21600
FIRST_THROTTLE_PAUSE_SECONDS = 0.2


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(
        service,
        *("_execute_function", "_route_async_failure", "_run_with_function_config_scope"),
        *(
            "_event_invoke_config",
            "_functions",
            "_LAMBDA_ASYNC_RETRY_BASE_SECONDS",
            "_LAMBDA_ASYNC_RETRY_MAX_SECONDS",
        ),
    )
    patching.replace(service, "invoke_async_with_retry", lambda _: invoke_async)


def invoke_async(func: dict, event: Any) -> None:
    """Accept an event and return at once."""
    threading.Thread(
        target=service._run_with_function_config_scope, args=(func, _deliver, func, event), daemon=True
    ).start()


def _deliver(func: dict, event: Any) -> None:
    config = func.get("config") or func
    qualifier = config["FunctionArn"].split(":")[7:]
    rules = service._event_invoke_config(func, qualifier[0] if qualifier else None) or {}
    retries = rules.get("MaximumRetryAttempts")
    retries = DEFAULT_RETRIES if retries is None else retries
    expires = time.monotonic() + (rules.get("MaximumEventAgeInSeconds") or DEFAULT_AGE_SECONDS)
    failures = throttles = 0
    while True:
        if (latest := service._functions.get(config["FunctionName"])) is None:
            return
        # The limit is the one in force at each attempt, not the one when the event came.
        result = service._execute_function({**func, "concurrency": latest.get("concurrency")}, event)
        if not result.get("error"):
            return
        if result.get("throttle"):
            throttles += 1
            pause = FIRST_THROTTLE_PAUSE_SECONDS * 2 ** min(throttles - 1, 8)
        else:
            failures += 1
            if failures > retries:
                break
            pause = min(
                service._LAMBDA_ASYNC_RETRY_BASE_SECONDS * 2 ** (failures - 1),
                service._LAMBDA_ASYNC_RETRY_MAX_SECONDS,
            )
        if time.monotonic() + pause > expires:
            break
        time.sleep(pause)
    destination = ((rules.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
    target = destination or (config.get("DeadLetterConfig") or {}).get("TargetArn")
    if target:
        service._route_async_failure(target, config["FunctionName"], event, result)
