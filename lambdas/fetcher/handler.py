"""The fetcher: reads from ThingWorx which Things there are and what they take.

Events and answers: docs/reference/data-formats.md.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3

from lambdas.fetcher.bindings import Bindings
from lambdas.fetcher.definitions import fetch_definitions
from lambdas.fetcher.pace import Pace, Paced
from lambdas.fetcher.survey import Subject, asks_of, survey, survey_of
from lambdas.shared.observability import count, logger
from lambdas.shared.run_lock import RunLock
from lambdas.shared.secrets import Secret
from lambdas.shared.seen import last_seen
from lambdas.shared.settings import FetcherSettings
from lambdas.shared.staging import Staging
from lambdas.thingworx.certificates import read_certificates
from lambdas.thingworx.rest import RestClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_s3 import S3Client

__all__ = ["handle"]

_NAMES_LOGGED = 20
#: Fetchers that the state machine has under way at once; they share what is allowed per second.
_FETCHERS = 8
_PUTS_AT_ONCE = 8
#: Seconds kept for the calls under way, when the function's time comes to its end.
_RESERVE = 150.0


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
        tls_strict=settings.thingworx_tls_strict == "true",
    )
    lock = RunLock(settings.control_table, boto3.client("dynamodb"))
    return _Parts(settings, lock, boto3.client("s3"), platform)


def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
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
    parts.lock.renew(run, parts.settings.run_lease_seconds * 1000, _now())
    return action(parts, Staging(parts.s3, parts.settings.staging_bucket, run), event, context)


def _list(parts: _Parts, staging: Staging, event: dict[str, Any], _context: object) -> dict[str, Any]:
    settings, began = parts.settings, _now()
    services = Paced(parts.platform, Pace(settings.fetch_per_second, settings.fetch_concurrency))
    subject = Subject(settings.thing_tag, settings.property_category, settings.thingworx_url)
    if event.get("things"):
        found = survey_of(services, subject, event["things"])
    else:
        seen = last_seen(parts.s3, settings.staging_bucket)
        found = survey(services, subject, seen, now=began, full=bool(event.get("full")))
    with ThreadPoolExecutor(_PUTS_AT_ONCE) as pool:
        for _ in pool.map(lambda entry: staging.put(f"list-{entry[0]}", entry[1]), enumerate(found.packets)):
            pass
    staging.put("listing", found.to_document() | {"began": began, "ended": _now()})
    listed = len(found.draft.things)
    count(settings.stack, "fetcher", {"things_listed": listed})
    return {"things": listed, "to_read": len(found.read), "packets": list(range(len(found.packets)))}


def _fetch(parts: _Parts, staging: Staging, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    settings, began = parts.settings, _now()
    packet = staging.get(f"list-{event['packet']}")
    share = settings.fetch_per_second / min(_FETCHERS, packet.get("packets", _FETCHERS))
    services = Paced(parts.platform, Pace(share, settings.fetch_concurrency))
    found = fetch_definitions(
        services,
        asks_of(packet),
        settings.property_category,
        bindings=Bindings(services, each=packet.get("each", True)),
        concurrency=settings.fetch_concurrency,
        in_time=_time_left(context),
    )
    document = found.to_document() | {"began": began, "ended": _now()}
    staging.put(f"definitions-{event['packet']}", document)
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


def _time_left(context: LambdaContext) -> Callable[[], bool]:
    """Whether there is time to read one more Thing, with all the tries that may take."""
    left = context.get_remaining_time_in_millis() / 1000
    end = time.monotonic() + left - min(_RESERVE, left / 3)
    return lambda: time.monotonic() < end


def _now() -> int:
    return time.time_ns() // 1_000_000
