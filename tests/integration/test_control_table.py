"""The control table on DynamoDB's semantics: what a condition refuses, nobody can do twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.shared.control_table import ASSIGNED, REMOVED, ControlTable, Slot, ThingChange, ThingRecord
from lambdas.shared.dynamo import to_item
from lambdas.shared.errors import Conflict
from lambdas.shared.shape import Property, shape_id
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

NOW = 1_700_000_000_000
SHAPE = {"temp": Property("NUMBER", "temp")}


@pytest.fixture
def client() -> Iterator[DynamoDBClient]:
    with aws():
        yield create_control_table()


@pytest.fixture
def control(client: DynamoDBClient) -> ControlTable:
    return ControlTable(CONTROL_TABLE, client, threads=1)  # the store in memory isn't thread-safe


def lease(client: DynamoDBClient, slot: str, until: int) -> None:
    client.update_item(
        TableName=CONTROL_TABLE,
        Key=to_item({"pk": "slots", "sk": slot}),
        UpdateExpression="SET #owner = :owner, #until = :until",
        ExpressionAttributeNames={"#owner": "owner", "#until": "until"},
        ExpressionAttributeValues=to_item({":owner": "1-1-0", ":until": until}),
    )


def record(name: str, slot: str = "1", shape: str = "aa", state: str = ASSIGNED) -> ThingRecord:
    return ThingRecord(name, slot, shape, state, NOW)


def add(control: ControlTable, *records: ThingRecord) -> None:
    control.assign([ThingChange(None, entry) for entry in records])


def test_a_new_slot_has_no_queue_no_lease_and_epoch_zero(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    assert control.slot("1") == Slot("1", "active", 8)


def test_slots_come_in_the_order_of_their_numbers(control: ControlTable) -> None:
    control.create_slots([str(number) for number in range(1, 13)], lanes=8)
    assert [slot.id for slot in control.slots()] == [str(number) for number in range(1, 13)]


def test_a_slot_that_exists_is_not_created_again(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    with pytest.raises(Conflict, match="create slot 1"):
        control.create_slots(["1"], lanes=4)
    assert control.slots() == [Slot("1", "active", 8)]


def test_an_unknown_slot_is_none(control: ControlTable) -> None:
    assert control.slot("7") is None


def test_slot_ids_are_never_given_twice(control: ControlTable) -> None:
    assert control.next_slot_id() == 1
    assert control.allot_slot_ids(2, 1) == ["1", "2"]
    assert control.allot_slot_ids(1, control.next_slot_id()) == ["3"]
    for stale in (1, 3):
        with pytest.raises(Conflict):
            control.allot_slot_ids(1, stale)
    assert control.next_slot_id() == 4


def test_a_slot_keeps_its_first_queue(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    control.set_queue_url("1", "https://queue/1")
    control.set_queue_url("1", "https://queue/1")
    with pytest.raises(Conflict):
        control.set_queue_url("1", "https://queue/other")
    with pytest.raises(Conflict):
        control.set_queue_url("2", "https://queue/2")
    assert [slot.queue_url for slot in control.slots()] == ["https://queue/1"]


def test_a_slot_starts_once_however_many_ask(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    assert control.next_epoch("1", 0, NOW) == 1
    with pytest.raises(Conflict):
        control.next_epoch("1", 0, NOW)
    slot = control.slot("1")
    assert slot is not None
    assert (slot.epoch, slot.last_start) == (1, NOW)


def test_a_slot_started_lately_is_left_alone(control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    control.next_epoch("1", 0, NOW)
    with pytest.raises(Conflict):
        control.next_epoch("1", 1, NOW + 120_000)
    assert control.next_epoch("1", 1, NOW + 120_001) == 2


def test_a_slot_with_a_live_lease_is_not_started(client: DynamoDBClient, control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    lease(client, "1", NOW + 1)
    with pytest.raises(Conflict):
        control.next_epoch("1", 0, NOW)
    lease(client, "1", NOW - 1)
    assert control.next_epoch("1", 0, NOW) == 1


@pytest.mark.parametrize("state", ["active", "draining"])
def test_a_slot_that_is_served_may_be_started(
    client: DynamoDBClient, control: ControlTable, state: str
) -> None:
    control.create_slots(["1"], lanes=8)
    set_state(client, state)
    assert control.next_epoch("1", 0, NOW) == 1


def test_a_slot_that_stops_is_not_started(client: DynamoDBClient, control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    set_state(client, "stopping")
    with pytest.raises(Conflict):
        control.next_epoch("1", 0, NOW)


def set_state(client: DynamoDBClient, state: str) -> None:
    client.update_item(
        TableName=CONTROL_TABLE,
        Key=to_item({"pk": "slots", "sk": "1"}),
        UpdateExpression="SET #state = :state",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues=to_item({":state": state}),
    )


def test_the_lease_of_a_slot_is_read_with_it(client: DynamoDBClient, control: ControlTable) -> None:
    control.create_slots(["1"], lanes=8)
    lease(client, "1", NOW)
    assert control.slot("1") == Slot("1", "active", 8, owner="1-1-0", until=NOW)


def test_more_things_than_a_transaction_or_a_page_holds_are_all_there(control: ControlTable) -> None:
    records = [record(f"Thing {number:04}", slot=str(number % 3)) for number in range(450)]
    add(control, *records)
    assert sorted(control.things()) == records
    assert control.things_of("1") == [entry for entry in records if entry.slot == "1"]


def test_things_of_a_slot_are_those_it_serves(control: ControlTable) -> None:
    add(control, record("a"), record("b", state=REMOVED), record("c", slot="2"))
    assert [entry.name for entry in control.things_of("1")] == ["a"]
    assert {entry.name for entry in control.things()} == {"a", "b", "c"}


def test_a_thing_is_changed_only_as_it_was_read(control: ControlTable) -> None:
    old, new = record("a"), record("a", shape="bb")
    add(control, old)
    control.assign([ThingChange(old, new)])
    with pytest.raises(Conflict, match="assign a"):
        control.assign([ThingChange(old, record("a", slot="9"))])
    assert control.thing("a") == new


def test_a_thing_known_already_is_not_added_again(control: ControlTable) -> None:
    add(control, record("a"))
    with pytest.raises(Conflict, match="assign a"):
        add(control, record("a", slot="2"))


def test_one_lost_condition_leaves_its_whole_transaction_undone(control: ControlTable) -> None:
    add(control, record("b"))
    with pytest.raises(Conflict, match="assign b"):
        add(control, record("a"), record("b", slot="2"))
    assert control.things() == [record("b")]


def test_a_thing_is_forgotten_only_as_it_was_read(control: ControlTable) -> None:
    gone = record("a", state=REMOVED)
    add(control, gone)
    with pytest.raises(Conflict):
        control.assign([ThingChange(record("a"), None)])
    control.assign([ThingChange(gone, None)])
    assert control.thing("a") is None


def test_shapes_are_stored_once_and_read_by_id(control: ControlTable) -> None:
    shapes = {f"{number:016x}": SHAPE for number in range(150)}
    assert control.put_shapes(shapes) == 150
    assert control.put_shapes(shapes) == 0
    assert control.shapes([*shapes, "unknown"]) == shapes


def test_a_shape_without_properties_can_be_stored(control: ControlTable) -> None:
    control.put_shapes({shape_id({}): {}})
    assert control.shapes([shape_id({})]) == {shape_id({}): {}}


def test_slots_that_are_active_or_served_share_the_write_budget(
    client: DynamoDBClient, control: ControlTable
) -> None:
    assert control.slots_sharing(NOW) == 0
    control.create_slots(["1", "2", "3"], lanes=8)
    assert control.slots_sharing(NOW) == 3
    set_state(client, "draining")
    assert control.slots_sharing(NOW) == 2
    lease(client, "1", NOW)
    assert control.slots_sharing(NOW) == 3
    assert control.slots_sharing(NOW + 1) == 2
