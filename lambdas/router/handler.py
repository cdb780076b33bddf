"""The router function: Kinesis batches in, parcels out; at most one failure reported a batch."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.router.asks import DiscoveryAsks
from lambdas.router.router import Outcome, Router
from lambdas.router.routes import Routes
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.held_store import HeldStore
from lambdas.shared.observability import count, logger
from lambdas.shared.own_time import OwnTimes
from lambdas.shared.send import Sender
from lambdas.shared.settings import RouterSettings
from lambdas.shared.wanted import WantedRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

__all__ = ["handle", "service"]

_SLOTS_AT_ONCE = 8
#: A write to the control table takes less than this at its worst, two tries; the answer must still go out.
_ASK_MILLISECONDS = 15_000


class _Service(NamedTuple):
    stack: str
    router: Router
    asks: DiscoveryAsks


@functools.cache
def service() -> _Service:
    """What an execution environment keeps between batches.

    Raises:
        SettingError: a setting is missing or malformed.
        RegistryUnavailable: Redis can't be reached; nothing is kept then, the next batch tries again.
    """
    import boto3  # noqa: PLC0415 - as redis below, slow to import and needed only by a batch
    from botocore.config import Config  # noqa: PLC0415

    from lambdas.shared.clients import Clients  # noqa: PLC0415
    from lambdas.shared.registry import Registry, connect  # noqa: PLC0415

    settings = RouterSettings.from_env(os.environ)
    # Short, so that a stuck connection leaves time to report what is unsettled.
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_SLOTS_AT_ONCE,
    )
    dynamodb = boto3.client("dynamodb", config=config)
    held = HeldStore(
        settings.held_table,
        dynamodb,
        days=settings.held_days,
        per_thing_per_day=settings.held_per_thing_per_day,
        per_day=settings.held_per_day,
    )
    redis = connect(settings)
    registry = Registry(redis, settings.stack)
    router = Router(
        Routes(registry, settings.registry_cache_seconds),
        Sender(boto3.client("sqs", config=config), _SLOTS_AT_ONCE),
        held,
        Clients(redis, settings.stack),
        own_times=OwnTimes(dict(settings.telemetry_time_paths), settings.max_clock_ahead_seconds),
        hold_unregistered=settings.unregistered == "hold",
    )
    return _Service(settings.stack, router, DiscoveryAsks(WantedRuns(settings.control_table, dynamodb)))


def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer of ReportBatchItemFailures: the sequence number to begin again at, if any.

    Args:
        event: Lambda Kinesis event.
        context: its remaining time bounds the work.
    """
    records = event["Records"]
    outcome = _route(records, context)
    if outcome.unsettled is None:
        logger.info("batch settled", extra=outcome.counters)
        return {"batchItemFailures": []}
    logger.error("batch cut", extra=outcome.counters | {"cause": outcome.cause})
    sequence = records[outcome.unsettled]["kinesis"]["sequenceNumber"]
    return {"batchItemFailures": [{"itemIdentifier": sequence}]}


def _route(records: list[dict[str, Any]], context: LambdaContext) -> Outcome:
    try:
        stack, router, asks = service()
    except RegistryUnavailable as error:
        counters = {"registry_unavailable": 1}
        count(os.environ["STACK"], "router", counters)
        return Outcome(0, counters, str(error))
    reserve = min(_ASK_MILLISECONDS, context.get_remaining_time_in_millis() / 2)
    outcome = router.route(records, lambda: context.get_remaining_time_in_millis() / 1000)
    count(stack, "router", outcome.counters)
    if outcome.registry_lost and context.get_remaining_time_in_millis() >= reserve:
        asks.repair()
    if outcome.unknown and context.get_remaining_time_in_millis() >= reserve:
        asks.unknown(outcome.unknown)
    return outcome
