"""Connector function: serves one slot until a successor takes over or its time ends.

Event: `{"v": 1, "slot", "epoch", "token", "execution", "turn"}` from the connector state machine.
Nothing that belongs to a slot lives at module level: a warm environment may serve another slot next.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.assembly import assigned_things
from lambdas.connector.backlog_store import BacklogStore
from lambdas.connector.breaker_store import ControlTableBreaker
from lambdas.connector.handed_on import HandedOn, TimesOnly
from lambdas.connector.kept_values import KeptValues, ValuesTable
from lambdas.connector.lease import Lease
from lambdas.connector.model_changes import ModelChanges, TellsChanges
from lambdas.connector.push_times import PushTimes
from lambdas.connector.serve import Connector, Parts
from lambdas.connector.token import TaskToken, TokenClosed
from lambdas.connector.trials import Trials
from lambdas.shared.control_table import ControlTable
from lambdas.shared.errors import ConnectorError
from lambdas.shared.held_store import HeldStore
from lambdas.shared.observability import logger
from lambdas.shared.secrets import Secret
from lambdas.shared.settings import ConnectorSettings
from lambdas.shared.wanted import WantedRuns
from lambdas.thingworx.breaker import Breaker
from lambdas.thingworx.certificates import read_certificates

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iot_data import IoTDataPlaneClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.connector.asked import Requests
    from lambdas.thingworx.alwayson_transport import AlwaysOnTransport
    from lambdas.thingworx.transport import Transport

__all__ = ["handle"]

_VERSION = 1
_FIELDS = {"slot": str, "epoch": int, "token": str, "execution": str, "turn": int}


class _Clients(NamedTuple):
    dynamodb: DynamoDBClient
    secrets: SecretsManagerClient
    sqs: SQSClient
    stepfunctions: SFNClient
    iot_data: IoTDataPlaneClient


@cache
def _clients() -> _Clients:
    # Two tries of a call that hangs must fit between two beats, and well inside the lease.
    config = Config(
        connect_timeout=3,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=32,
    )
    receiving = config.merge(Config(read_timeout=15))  # longer than the longest poll
    # Its callers try again themselves: a try that nobody sees could begin after the lease is lost.
    once = config.merge(Config(read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1}))
    return _Clients(
        boto3.client("dynamodb", config=config),
        boto3.client("secretsmanager", config=config),
        boto3.client("sqs", config=receiving),
        boto3.client("stepfunctions", config=config),
        boto3.client("iot-data", config=once, endpoint_url=_iot_data_url()),
    )


def _iot_data_url() -> str | None:
    """The account's own endpoint; one that stands for all services, as in an emulator, goes before it."""
    host = os.environ.get("IOT_DATA_ENDPOINT")
    return f"https://{host}" if host and not os.environ.get("AWS_ENDPOINT_URL") else None


@cache
def _settings() -> ConnectorSettings:
    return ConnectorSettings.from_env(os.environ)


def handle(event: dict[str, Any], context: LambdaContext) -> None:
    """Serve the slot that the event names.

    Raises:
        SettingError: a setting is missing or malformed.
        ConnectorError: the event is not one of the connector state machine, or serving is impossible.
    """
    _check(event)
    token = TaskToken(_clients().stepfunctions, event["token"])
    try:
        connector = _connector(event, context, token)
    except ConnectorError as error:
        _tell(partial(token.fail, error))  # or the state machine would wait for a heartbeat in vain
        raise
    asyncio.run(connector.run())


def _tell(call: Callable[[], None]) -> None:
    try:
        call()
    except (TokenClosed, ClientError, BotoCoreError) as error:
        logger.warning("the state machine could not be told", reason=str(error))


def _connector(event: dict[str, Any], context: LambdaContext, token: TaskToken) -> Connector:
    settings, clients = _settings(), _clients()
    lease = Lease(
        clients.dynamodb,
        settings.control_table,
        slot=event["slot"],
        epoch=event["epoch"],
        # An event that comes twice has one request id; two invocations must never share a lease.
        owner=f"{event['execution']}/{event['turn']}/{context.aws_request_id}/{uuid.uuid4().hex[:8]}",
        seconds=settings.lease_seconds,
    )
    held = HeldStore(
        settings.held_table,
        clients.dynamodb,
        days=settings.held_days,
        per_thing_per_day=settings.held_per_thing_per_day,
        per_day=settings.held_per_day,
    )
    table = ControlTable(settings.control_table, clients.dynamodb)
    counters: Counter[str] = Counter()
    transport = _transport(settings, clients, counters)
    times = PushTimes()
    parts = Parts(
        token=token,
        lease=lease,
        transport=transport,
        held=held,
        sqs=clients.sqs,
        backlog=BacklogStore(
            clients.dynamodb,
            control_table=settings.control_table,
            held_table=settings.held_table,
            slot=event["slot"],
            owner=uuid.uuid4().hex,
        ),
        assigned=assigned_things(
            event["slot"],
            transport,
            settings,
            clients.dynamodb,
            clients.iot_data,
            owns=lease.valid,
            counters=counters,
        ),
        slots=lambda: table.slots_sharing(time.time_ns() // 1_000_000),
        times=times,
        requests=_requests(event["slot"], transport, settings, clients, lease, times, counters),
        models=_models(transport, settings, clients, counters),
        notes=Trials(clients.dynamodb, settings.held_table, event["slot"]),
    )
    seconds_left = context.get_remaining_time_in_millis() / 1000
    return Connector(event["slot"], settings, parts, seconds_left, counters)


def _requests(  # noqa: PLR0917 - all of them made by `_connector`, its only caller
    slot: str,
    transport: Transport,
    settings: ConnectorSettings,
    clients: _Clients,
    lease: Lease,
    times: PushTimes,
    counters: Counter[str],
) -> Requests:
    """What answers ThingWorx's requests, with a transport that they come over."""
    if settings.delivery == "rest":
        kept = KeptValues(ValuesTable(clients.dynamodb, settings.control_table, slot))
        return TimesOnly(HandedOn(kept, times, owns=lease.valid))
    from lambdas.connector.requests import platform_requests  # noqa: PLC0415 - loads AlwaysOn

    return platform_requests(
        slot,
        cast("AlwaysOnTransport", transport),
        settings,
        clients.dynamodb,
        clients.iot_data,
        owns=lease.valid,
        times=times,
        counters=counters,
    )


def _models(
    transport: Transport, settings: ConnectorSettings, clients: _Clients, counters: Counter[str]
) -> ModelChanges | None:
    """What has changed Things read again, with a transport that is told of them."""
    if not isinstance(transport, TellsChanges):
        return None
    changes = ModelChanges(
        WantedRuns(settings.control_table, clients.dynamodb),
        clients.stepfunctions,
        settings.discovery_state_machine_arn,
        counters,
    )
    transport.tell_changes(changes.noticed)
    return changes


def _transport(settings: ConnectorSettings, clients: _Clients, counters: Counter[str]) -> Transport:
    """The way to ThingWorx that the settings choose; only its libraries are loaded."""
    app_key = Secret(clients.secrets, settings.thingworx_app_key_secret_arn)
    ca_file, client_certificate = read_certificates(
        clients.secrets,
        settings.thingworx_ca_secret_arn,
        settings.thingworx_client_certificate_secret_arn,
    )
    connect, request = settings.thingworx_connect_timeout_seconds, settings.thingworx_read_timeout_seconds
    if settings.delivery == "rest":
        from lambdas.thingworx.rest import RestClient  # noqa: PLC0415 - see above
        from lambdas.thingworx.rest_transport import RestTransport  # noqa: PLC0415 - see above

        concurrency = settings.delivery_concurrency
        client = RestClient(
            settings.thingworx_url,
            app_key,
            timeouts=(connect, request),
            connections=concurrency,
            ca_file=ca_file,
            client_certificate=client_certificate,
            tls_strict=settings.thingworx_tls_strict == "true",
        )
        return RestTransport(client, concurrency=concurrency)
    from lambdas.thingworx.alwayson.timeouts import timeouts_from  # noqa: PLC0415 - see above
    from lambdas.thingworx.alwayson_transport import alwayson_transport  # noqa: PLC0415 - see above

    return alwayson_transport(
        settings.thingworx_url,
        app_key,
        timeouts=timeouts_from(settings.alwayson_timeouts, connect=connect, request=request),
        breaker=Breaker(ControlTableBreaker(clients.dynamodb, settings.control_table)),
        honour_push_type=settings.honour_push_type == "true",
        counters=counters,
        ca_file=ca_file,
        client_certificate=client_certificate,
        tls_strict=settings.thingworx_tls_strict == "true",
    )


def _check(event: dict[str, Any]) -> None:
    if event.get("v") != _VERSION:
        raise ConnectorError(f"event of version {event.get('v')!r}; this release reads version {_VERSION}")
    for name, kind in _FIELDS.items():
        if not isinstance(event.get(name), kind):
            raise ConnectorError(
                f"the event has no {name} of type {kind.__name__}; "
                "the connector is started by its state machine"
            )
