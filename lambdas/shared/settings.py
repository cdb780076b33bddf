"""Typed settings of the functions, read from the environment once, at start.

A missing or malformed variable stops the function with a `SettingError` that names the variable and
the form it must have. docs/reference/data-formats.md lists them all.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from lambdas.shared.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "AssignerSettings",
    "ConnectorSettings",
    "FetcherSettings",
    "RouterSettings",
    "ScalerSettings",
    "WatchSettings",
]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError
    return value


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError
        return value

    return parse


def _tag(value: str) -> str:
    if not re.fullmatch(r"[^:;]+:[^:;]+", value):
        raise ValueError
    return value


def _arn(value: str) -> str:
    if not re.fullmatch(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", value):
        raise ValueError
    return value


def _shadow_name(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9:_-]{1,64}", value):
        raise ValueError
    return value


def _thingworx_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("rediss", "redis", "unix") or parts.password:
        raise ValueError
    return value


def _time_paths(value: str) -> tuple[tuple[str, str], ...]:
    paths = json.loads(value)
    if not isinstance(paths, dict):
        raise ValueError  # noqa: TRY004 - as every other parser here
    for path in paths.values():
        if not isinstance(path, str) or not all(path.split(".")):
            raise ValueError
    return tuple(paths.items())


def _setting(form: str, parse: Callable[[str], Any], default: Any = MISSING) -> Any:
    """One environment variable: the form told to a person, its parser, its default."""
    metadata = {"form": form, "parse": parse}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What every function has."""

    stack: str = _setting("the stack's name prefix", _text)
    log_level: str = _setting(f"one of {', '.join(_LEVELS)}", _one_of(*_LEVELS), "ERROR")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Settings from variables named like the fields in upper case.

        Raises:
            SettingError: a variable is missing or malformed; all of them are named at once.
        """
        values: dict[str, Any] = {}
        faults: list[str] = []
        for entry in fields(cls):
            name = entry.name.upper()
            text = environ.get(name, "")
            if not text and entry.default is not MISSING:
                continue
            if not text:
                faults.append(f"{name} is not set; it must be {entry.metadata['form']}")
                continue
            try:
                values[entry.name] = entry.metadata["parse"](text)
            except ValueError:
                faults.append(f"{name} is {text!r}; it must be {entry.metadata['form']}")
        if faults:
            raise SettingError("; ".join(faults))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class _ThingworxSettings(_Settings):
    thingworx_url: str = _setting("https://host[:port]/Thingworx", _thingworx_url)
    thingworx_app_key_secret_arn: str = _setting("the ARN of the secret with the application key", _arn)
    thingworx_ca_secret_arn: str | None = _setting("the ARN of the secret with the authorities", _arn, None)
    thingworx_client_certificate_secret_arn: str | None = _setting(
        "the ARN of the secret with the client certificate and its key", _arn, None
    )
    thingworx_tls_strict: str = _setting("true or false", _one_of("true", "false"), "true")
    thingworx_connect_timeout_seconds: float = _setting("seconds above 0", _seconds, 5.0)
    thingworx_read_timeout_seconds: float = _setting("seconds above 0", _seconds, 30.0)


@dataclass(frozen=True, kw_only=True)
class _RegistrySettings(_Settings):
    redis_url: str = _setting("rediss://host:port/0, without a password", _redis_url)
    redis_auth_secret_arn: str | None = _setting("the ARN of the secret with the password", _arn, None)


@dataclass(frozen=True, kw_only=True)
class _HeldSettings(_Settings):
    held_table: str = _setting("a DynamoDB table name", _text)
    held_days: int = _setting("whole days, 1 to 365", _whole(1, 365), 14)
    held_per_thing_per_day: int = _setting("a whole number from 1", _whole(1, 10**9), 1000)
    held_per_day: int = _setting("a whole number from 1", _whole(1, 10**12), 1_000_000)


@dataclass(frozen=True, kw_only=True)
class FetcherSettings(_ThingworxSettings):
    """Settings of the fetcher."""

    control_table: str = _setting("a DynamoDB table name", _text)
    staging_bucket: str = _setting("an S3 bucket name", _text)
    thing_tag: str = _setting("vocabulary:term", _tag)
    property_category: str = _setting("a property category", _text)
    fetch_concurrency: int = _setting("a whole number from 1 to 100", _whole(1, 100), 16)
    fetch_per_second: int = _setting("a whole number from 0 to 100000", _whole(0, 100_000), 1000)
    run_lease_seconds: int = _setting("a whole number from 1", _whole(1, 86_400), 960)


@dataclass(frozen=True, kw_only=True)
class AssignerSettings(_RegistrySettings, _HeldSettings):
    """Settings of the assigner."""

    control_table: str = _setting("a DynamoDB table name", _text)
    staging_bucket: str = _setting("an S3 bucket name", _text)
    things_per_slot: int = _setting("a whole number from 1", _whole(1, 100_000), 1000)
    lanes_per_slot: int = _setting("a whole number from 1 to 100", _whole(1, 100), 8)
    removal_limit_percent: int = _setting("a whole number from 0 to 100", _whole(0, 100), 50)
    run_lease_seconds: int = _setting("a whole number from 1", _whole(1, 86_400), 960)


@dataclass(frozen=True, kw_only=True)
class ScalerSettings(_Settings):
    """Settings of the scaler."""

    control_table: str = _setting("a DynamoDB table name", _text)
    queue_name_prefix: str = _setting("the start of the slot queues' names", _text)
    connector_state_machine_arn: str = _setting("the ARN of the connector state machine", _arn)
    visibility_seconds: int = _setting("whole seconds from 1 to 43200", _whole(1, 43_200), 60)
    run_lease_seconds: int = _setting("a whole number from 1", _whole(1, 86_400), 960)


@dataclass(frozen=True, kw_only=True)
class WatchSettings(_Settings):
    """Settings of the watch function."""

    control_table: str = _setting("a DynamoDB table name", _text)
    discovery_state_machine_arn: str = _setting("the ARN of the discovery state machine", _arn)
    connector_state_machine_arn: str = _setting("the ARN of the connector state machine", _arn)
    retire_after_seconds: int = _setting("whole seconds from 0", _whole(0, 10**8), 7200)
    retire_drain_seconds: int = _setting("whole seconds from 0", _whole(0, 10**6), 900)
    retire_pause_seconds: int = _setting("whole seconds from 0", _whole(0, 10**6), 55)
    restart_after_seconds: int = _setting("whole seconds from 1", _whole(1, 10**6), 120)
    ingest_errors_queue_url: str = _setting("the URL of an SQS queue", _text)
    failures_bucket: str = _setting("an S3 bucket name", _text)


@dataclass(frozen=True, kw_only=True)
class RouterSettings(_RegistrySettings, _HeldSettings):
    """Settings of the router."""

    control_table: str = _setting("a DynamoDB table name", _text)
    unregistered: str = _setting("hold or drop", _one_of("hold", "drop"), "hold")
    registry_cache_seconds: int = _setting("seconds, at most 60", _whole(0, 60), 60)
    telemetry_time_paths: tuple[tuple[str, str], ...] = _setting(
        "a JSON object of dot paths by topic filter", _time_paths, ()
    )
    max_clock_ahead_seconds: int = _setting("whole seconds, 0 to 86400", _whole(0, 86_400), 60)


@dataclass(frozen=True, kw_only=True)
class ConnectorSettings(_ThingworxSettings, _HeldSettings):
    """Settings of the connector."""

    delivery: str = _setting("alwayson or rest", _one_of("alwayson", "rest"), "alwayson")
    honour_push_type: str = _setting("true or false", _one_of("true", "false"), "true")
    bind: str = _setting("presence or always", _one_of("presence", "always"), "presence")
    unbind_delay_seconds: float = _setting("seconds above 0", _seconds, 5.0)
    presence_silence_seconds: int = _setting("whole seconds from 0", _whole(0, 10**7), 0)
    presence_property: str | None = _setting("a property name", _text, None)
    alwayson_timeouts: str = _setting("a JSON object of seconds by name", _text, "{}")
    control_table: str = _setting("a DynamoDB table name", _text)
    discovery_state_machine_arn: str | None = _setting("the ARN of the discovery state machine", _arn, None)
    iot_data_endpoint: str | None = _setting("a host name", _text, None)
    shadow_name: str | None = _setting("a shadow name of up to 64 letters, digits, : _ -", _shadow_name, None)
    shadow_section: str = _setting("desired or reported", _one_of("desired", "reported"), "desired")
    echo_writes: str = _setting("true or false", _one_of("true", "false"), "true")
    write_deadline_ms: int = _setting("whole milliseconds from 500 to 60000", _whole(500, 60_000), 5000)
    handover_before_end_seconds: float = _setting("seconds above 0", _seconds, 180.0)
    handover_jitter_seconds: int = _setting("whole seconds from 0", _whole(0, 600), 60)
    beat_seconds: float = _setting("seconds above 0", _seconds, 10.0)
    lease_seconds: float = _setting("seconds above 0", _seconds, 30.0)
    visibility_seconds: int = _setting("whole seconds from 1 to 43200", _whole(1, 43_200), 60)
    stall_seconds: float = _setting("seconds above 0", _seconds, 300.0)
    max_writes_per_second: int = _setting("a whole number from 0", _whole(0, 10**9), 0)
    thing_retry_seconds: float = _setting("seconds above 0", _seconds, 60.0)
    delivery_concurrency: int = _setting("a whole number from 1 to 256", _whole(1, 256), 64)
