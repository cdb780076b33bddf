"""The fetcher: reads from ThingWorx which Things there are and what they take.

Events and answers: docs/reference/data-formats.md.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from lambdas.fetcher.definitions import fetch_definitions
from lambdas.fetcher.listing import list_things, packets_of
from lambdas.shared.observability import count, logger
from lambdas.shared.run_lock import RunLock
from lambdas.shared.secrets import Secret
from lambdas.shared.settings import FetcherSettings
from lambdas.shared.staging import Staging
from lambdas.thingworx.certificates import read_certificates
from lambdas.thingworx.rest import RestClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["handle"]

_NAMES_LOGGED = 20


class _Parts(NamedTuple):
    settings: FetcherSettings
    lock: RunLock
    s3: S3Client
    platform: RestClient


@cache
def _parts() -> _Parts:
    settings = FetcherSettings.from_env(os.environ)
    secrets = boto3.client("secretsmanager")
    ca_file, client_certificate = read_certificates(
        secrets, settings.thingworx_ca_secret_arn, settings.thingworx_client_certificate_secret_arn
    )
    platform = RestClient(
        settings.thingworx_url,
        Secret(secrets, settings.thingworx_app_key_secret_arn),
        timeouts=(settings.thingworx_connect_timeout_seconds, settings.thingworx_read_timeout_seconds),
        connections=settings.fetch_concurrency,
        ca_file=ca_file,
        client_certificate=client_certificate,
    )
    lock = RunLock(settings.control_table, boto3.client("dynamodb"))
    return _Parts(settings, lock, boto3.client("s3"), platform)


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """List the Things, or fetch the definitions of one packet of them.

    Raises:
        ValueError: the action is unknown.
        Conflict: the run has lost its lock.
        ThingworxUnavailable: the platform doesn't answer now.
        ThingworxRefused: the platform refuses us; a person must look.
        StagingFault: the packet isn't there.
    """
    parts, run = _parts(), event["run"]
    action = _ACTIONS.get(event["action"])
    if action is None:
        raise ValueError(f"action is {event['action']!r}; it must be one of {', '.join(_ACTIONS)}")
    parts.lock.renew(run, parts.settings.run_lease_seconds * 1000, time.time_ns() // 1_000_000)
    return action(parts, Staging(parts.s3, parts.settings.staging_bucket, run), event)


def _list(parts: _Parts, staging: Staging, _event: dict[str, Any]) -> dict[str, Any]:
    names = list_things(parts.platform, parts.settings.thing_tag)
    packets = packets_of(names)
    for number, packet in enumerate(packets):
        staging.put(f"list-{number}", {"things": packet})
    count(parts.settings.stack, "fetcher", {"things_listed": len(names)})
    return {"things": len(names), "packets": list(range(len(packets)))}


def _fetch(parts: _Parts, staging: Staging, event: dict[str, Any]) -> dict[str, Any]:
    settings, packet = parts.settings, event["packet"]
    names = staging.get(f"list-{packet}")["things"]
    found = fetch_definitions(
        parts.platform, names, settings.property_category, concurrency=settings.fetch_concurrency
    )
    staging.put(f"definitions-{packet}", found.to_document())
    if found.failed:
        first = dict(sorted(found.failed.items())[:_NAMES_LOGGED])
        logger.warning("some Things can't be read", extra={"failed": len(found.failed), "first": first})
    count(
        settings.stack,
        "fetcher",
        {
            "things_read": len(found.things),
            "things_failed": len(found.failed),
            "properties_unsupported": sum(map(len, found.unsupported.values())),
        },
    )
    return {"read": len(found.things), "failed": len(found.failed)}


_ACTIONS = {"list": _list, "fetch": _fetch}
