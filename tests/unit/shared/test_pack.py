"""Packing loses nothing, keeps each lane's order, and never makes a message too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdas.shared.pack import Packed, Routed, pack
from lambdas.shared.parcel import MAX_BYTES, PresenceChange, Reading, decode, lane_of
from lambdas.shared.shape import Property, Shape, shape_id

if TYPE_CHECKING:
    import random

SHAPE: Shape = {"temp": Property("NUMBER", "temp"), "note": Property("STRING", "edge note")}
SHAPE_ID = shape_id(SHAPE)
SHAPES = {SHAPE_ID: SHAPE}


def routed(position: int, thing: str = "pump-1", slot: str = "1", **values: Any) -> Routed:
    reading = Reading(thing, 1000 + position, f"0:{position}:0", SHAPE_ID, values or {"temp": 1.0})
    return Routed(position, reading, slot, lane_of(thing, 8))


def readings_of(packed: Packed) -> dict[tuple[str, int], list[Reading]]:
    lanes: dict[tuple[str, int], list[Reading]] = {}
    for chunk in packed.chunks:
        lanes.setdefault((chunk.slot, chunk.lane), []).extend(decode(chunk.body).readings)
    return lanes


def test_readings_of_one_lane_share_a_message() -> None:
    packed = pack([routed(position) for position in range(3, 200)], SHAPES)
    (chunk,) = packed.chunks
    assert (chunk.slot, chunk.lane, chunk.first) == ("1", lane_of("pump-1", 8), 3)
    assert [reading.id for reading in decode(chunk.body).readings] == [f"0:{p}:0" for p in range(3, 200)]


def test_lanes_and_slots_are_kept_apart() -> None:
    things = [f"pump-{number}" for number in range(50)]
    packed = pack([routed(p, thing, slot=str(p % 2)) for p, thing in enumerate(things)], SHAPES)
    for (slot, lane), readings in readings_of(packed).items():
        for reading in readings:
            assert lane_of(reading.thing, 8) == lane
            assert str(things.index(reading.thing) % 2) == slot


def test_a_lane_beyond_one_message_is_cut_into_well_filled_ones() -> None:
    packed = pack([routed(position, note="x" * 1000) for position in range(1000)], SHAPES)
    assert [chunk.first for chunk in packed.chunks] == sorted(chunk.first for chunk in packed.chunks)
    assert all(len(chunk.body) <= MAX_BYTES for chunk in packed.chunks)
    total = sum(len(chunk.body) for chunk in packed.chunks)
    assert len(packed.chunks) <= total // MAX_BYTES + 2


def test_a_reading_larger_than_a_message_is_unpackable_and_its_neighbours_are_not() -> None:
    huge = routed(1, note="x" * MAX_BYTES)
    packed = pack([routed(0), huge, routed(2)], SHAPES)
    (fault,) = packed.unpackable
    assert (fault.position, fault.reason) == (1, "too_large")
    assert str(MAX_BYTES) in fault.detail
    assert [r.id for r in readings_of(packed)["1", lane_of("pump-1", 8)]] == ["0:0:0", "0:2:0"]


def test_a_reading_that_fills_a_message_to_the_byte_is_sent() -> None:
    spare = MAX_BYTES - len(pack([routed(0, note="")], SHAPES).chunks[0].body)
    full = pack([routed(0, note="x" * spare)], SHAPES)
    assert [len(chunk.body) for chunk in full.chunks] == [MAX_BYTES]
    assert pack([routed(0, note="x" * (spare + 1))], SHAPES).unpackable[0].reason == "too_large"


def test_a_reading_that_cannot_be_encoded_is_unpackable_and_its_neighbours_are_not() -> None:
    packed = pack([routed(0), routed(1, note=object()), routed(2)], SHAPES)
    assert [(fault.position, fault.reason) for fault in packed.unpackable] == [(1, "internal")]
    assert sorted(r.id for lane in readings_of(packed).values() for r in lane) == ["0:0:0", "0:2:0"]


@pytest.mark.parametrize(
    "text", ["\uffff", "\ufffe", "a\uffffb\ufffec", "\U0001ffff", "\x00\x1f\x7f", "é€😀"]
)
def test_a_message_holds_only_characters_that_sqs_takes(text: str) -> None:
    packed = pack([routed(0, thing=f"pump{text}", note=text)], SHAPES)
    (chunk,) = packed.chunks
    for character in chunk.body.decode():
        point = ord(character)
        assert (
            point in (0x9, 0xA, 0xD) or 0x20 <= point <= 0xD7FF or 0xE000 <= point <= 0xFFFD or point > 0xFFFF
        )
    (reading,) = decode(chunk.body).readings
    assert (reading.thing, reading.values) == (f"pump{text}", {"note": text})


entries = st.lists(
    st.tuples(
        st.sampled_from([f"pump-{number}" for number in range(12)]),
        st.sampled_from(["1", "2"]),
        st.sampled_from([0, 10, 3_000, 100_000, 150_000, MAX_BYTES]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(entries)
def test_nothing_is_lost_nothing_overtakes_and_the_same_batch_gives_the_same_bytes(
    drawn: list[tuple[str, str, int]],
) -> None:
    batch = [routed(p, thing, slot, note="x" * size) for p, (thing, slot, size) in enumerate(drawn)]
    packed = pack(batch, SHAPES)
    assert pack(batch, dict(SHAPES)) == packed
    assert all(len(chunk.body) <= MAX_BYTES for chunk in packed.chunks)
    faults = {fault.position for fault in packed.unpackable}
    assert faults == {p for p, (_, _, size) in enumerate(drawn) if size == MAX_BYTES}
    expected: dict[tuple[str, int], list[Reading]] = {}
    for entry in batch:
        if entry.position not in faults:
            assert isinstance(entry.item, Reading)
            expected.setdefault((entry.slot, entry.lane), []).append(entry.item)
    assert readings_of(packed) == expected
    for chunk in packed.chunks:
        assert f"0:{chunk.first}:0" == orjson.loads(chunk.body)["readings"][0][2]


def change(position: int, thing: str = "pump-1", slot: str = "1") -> Routed:
    item = PresenceChange(thing, position % 2 == 0, 1000 + position, position, thing, f"0:{position}:0")
    return Routed(position, item, slot, lane_of(thing, 8))


def test_presence_alone_makes_a_message_without_readings_or_shapes() -> None:
    (chunk,) = pack([change(4), change(5)], {}).chunks
    assert (chunk.slot, chunk.lane, chunk.first) == ("1", lane_of("pump-1", 8), 4)
    parcel = decode(chunk.body)
    assert (parcel.readings, parcel.shapes) == ([], {})
    assert parcel.presence == (change(4).item, change(5).item)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(entries, st.randoms(use_true_random=False))
def test_presence_and_readings_keep_their_order_in_the_lane_whatever_their_size(
    drawn: list[tuple[str, str, int]], dice: random.Random
) -> None:
    batch = [
        change(p, thing, slot) if dice.random() < 0.5 else routed(p, thing, slot, note="x" * size)
        for p, (thing, slot, size) in enumerate(drawn)
    ]
    packed = pack(batch, SHAPES)
    assert pack(batch, SHAPES) == packed
    assert all(len(chunk.body) <= MAX_BYTES for chunk in packed.chunks)
    faults = {fault.position for fault in packed.unpackable}
    for kind in (Reading, PresenceChange):
        expected: dict[tuple[str, int], list[Any]] = {}
        for entry in batch:
            if isinstance(entry.item, kind) and entry.position not in faults:
                expected.setdefault((entry.slot, entry.lane), []).append(entry.item)
        found: dict[tuple[str, int], list[Any]] = {}
        for chunk in packed.chunks:
            parcel = decode(chunk.body)
            items: Any = parcel.readings if kind is Reading else parcel.presence
            if items:
                found.setdefault((chunk.slot, chunk.lane), []).extend(items)
        assert found == expected
    for chunk in packed.chunks:
        parcel = decode(chunk.body)
        ids = [*(reading.id for reading in parcel.readings), *(event.id for event in parcel.presence)]
        assert chunk.first == min(int(id_.split(":")[1]) for id_ in ids)


def test_an_empty_batch_makes_no_message() -> None:
    assert pack([], {}) == Packed([], [])
