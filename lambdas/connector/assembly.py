"""Puts together what decides which Things of a slot are bound, from the settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lambdas.connector.assigned import AssignedThings, Binds
from lambdas.connector.connections import Connections
from lambdas.connector.presence import Presence
from lambdas.connector.presence_property import PresenceProperty
from lambdas.connector.presence_store import PresenceStore
from lambdas.connector.present_things import PresentThings
from lambdas.shared.control_table import ControlTable
from lambdas.shared.refusals import Refusals
from lambdas.shared.run_lock import RunLock

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iot_data import IoTDataPlaneClient

    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.transport import Transport

__all__ = ["assigned_things"]


def assigned_things(
    slot: str,
    transport: Transport,
    settings: ConnectorSettings,
    dynamodb: DynamoDBClient,
    iot_data: IoTDataPlaneClient,
    *,
    owns: Callable[[], bool],
    counters: Counter[str],
) -> AssignedThings | None:
    """What keeps a slot's Things bound; None with a transport that binds nothing.

    Args:
        slot: slot id.
        transport: way to ThingWorx.
        settings: of the connector.
        dynamodb: boto3 DynamoDB client.
        iot_data: boto3 client of the IoT data plane.
        owns: whether the slot is ours.
        counters: what happened, by name.
    """
    if not isinstance(transport, Binds):
        return None
    table = ControlTable(settings.control_table, dynamodb)
    last_run = RunLock(settings.control_table, dynamodb).last_ended
    tell_refused = partial(Refusals(settings.control_table, dynamodb).tell, slot)
    if settings.bind == "always":
        return AssignedThings(
            slot,
            transport,
            lambda: [thing.name for thing in table.things_of(slot)],
            last_run,
            tell_refused=tell_refused,
        )
    told = None
    if settings.presence_property:
        told = PresenceProperty(settings.presence_property, table.shapes)

    def names() -> list[str]:
        things = table.things_of(slot)
        if told is not None:
            told.learn(things)
        return [thing.name for thing in things]

    presence = Presence(
        unbind_delay=int(settings.unbind_delay_seconds * 1000),
        silence=settings.presence_silence_seconds * 1000,
        tells=told is not None,
        counters=counters,
    )
    present = PresentThings(
        slot,
        transport,
        presence,
        PresenceStore(dynamodb, settings.control_table, slot, owns),
        connections=Connections(iot_data),
        told=told,
        counters=counters,
    )
    return AssignedThings(slot, transport, names, last_run, present, tell_refused=tell_refused)
