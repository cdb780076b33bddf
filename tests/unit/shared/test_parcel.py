"""A parcel says the same to who reads it as to who wrote it, and always in the same bytes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.errors import MalformedParcel
from lambdas.shared.parcel import NewerParcel, Parcel, PresenceChange, Reading, decode, encode, lane_of
from lambdas.shared.shape import Property, Shape, shape_id

if TYPE_CHECKING:
    from collections.abc import Mapping

PUMP: Shape = {"temp": Property("NUMBER", "temp"), "serial": Property("STRING", "SerialNo")}
PUMP_ID = shape_id(PUMP)
READING = Reading("pump-1", 1_767_268_800_000, "0:49590338:0", PUMP_ID, {"temp": 10.0})

names = st.text(min_size=1, max_size=10)
shapes = st.dictionaries(
    names,
    st.builds(Property, st.sampled_from(["NUMBER", "INTEGER", "STRING", "BOOLEAN"]), names),
    min_size=1,
    max_size=5,
)
values = (
    st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)


@st.composite
def parcels(draw: st.DrawFn) -> tuple[list[Reading], dict[str, Shape]]:
    known: dict[str, Shape] = {
        shape_id(shape): shape for shape in draw(st.lists(shapes, min_size=1, max_size=3))
    }
    readings = []
    for number in range(draw(st.integers(0, 6))):
        shape = draw(st.sampled_from(sorted(known)))
        used = draw(st.lists(st.sampled_from(sorted(known[shape])), min_size=1, unique=True))
        content = {name: draw(values) for name in used}
        time = draw(st.integers(0, 9_999_999_999_999))
        broker_time = draw(st.none() | st.integers(0, 9_999_999_999_999))
        readings.append(Reading(draw(names), time, f"0:{number}:0", shape, content, broker_time))
    return readings, known


@given(parcels())
def test_what_is_read_is_what_was_written(parcel: tuple[list[Reading], dict[str, Shape]]) -> None:
    readings, known = parcel
    decoded = decode(encode(readings, known))
    assert decoded.readings == readings
    for reading in decoded.readings:
        for name in reading.values:
            assert decoded.shapes[reading.shape][name] == known[reading.shape][name]


@given(
    parcels(),
    st.lists(
        st.builds(
            PresenceChange,
            names,
            st.booleans(),
            st.integers(0, 9_999_999_999_999),
            st.integers(0, 2**31),
            names,
            names,
        ),
        max_size=3,
    ),
    st.text(max_size=5),
)
def test_presence_and_the_replays_name_come_through(
    parcel: tuple[list[Reading], dict[str, Shape]], presence: list[PresenceChange], replay: str
) -> None:
    readings, known = parcel
    decoded = decode(encode(readings, known, presence, replay))
    assert decoded.presence == tuple(presence)
    assert decoded.replay == replay
    assert decoded.readings == readings


@pytest.mark.parametrize(
    "extra",
    [
        {"presence": [["pump-1", 1, 0, 0, "pump-1", "0:1:0"]]},
        {"presence": [["pump-1", True, 0, 0, "pump-1"]]},
        {"presence": 3},
        {"replay": 3},
        {"broker_times": 3},
        {"broker_times": ["noon"]},
        {"broker_times": [1, 2]},
    ],
)
def test_what_is_there_at_times_makes_it_no_parcel_in_another_form(extra: dict[str, Any]) -> None:
    document = orjson.loads(encode([READING], {PUMP_ID: PUMP}))
    with pytest.raises(MalformedParcel):
        decode(orjson.dumps(document | extra))


def test_without_a_devices_own_time_a_parcel_is_what_earlier_releases_read() -> None:
    document = orjson.loads(encode([READING], {PUMP_ID: PUMP}))
    assert sorted(document) == ["readings", "shapes", "v"]
    assert document["readings"] == [[*READING[:4], {"temp": 10.0}]]


def test_keys_of_a_later_release_are_left_alone() -> None:
    document = orjson.loads(encode([READING], {PUMP_ID: PUMP}))
    assert decode(orjson.dumps(document | {"later": 1})).readings == [READING]


@given(parcels())
def test_the_same_readings_are_the_same_bytes(parcel: tuple[list[Reading], dict[str, Shape]]) -> None:
    readings, known = parcel
    other_way_round: dict[str, Shape] = turned({name: turned(shape) for name, shape in known.items()})
    rewritten = [reading._replace(values=turned(reading.values)) for reading in readings]
    assert encode(rewritten, other_way_round) == encode(readings, known)


def turned(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping, made in the opposite order."""
    return dict(reversed(list(mapping.items())))


@given(parcels())
def test_only_used_properties_are_sent(parcel: tuple[list[Reading], dict[str, Shape]]) -> None:
    readings, known = parcel
    used: dict[str, set[str]] = {}
    for reading in readings:
        used.setdefault(reading.shape, set()).update(reading.values)
    assert {name: set(shape) for name, shape in decode(encode(readings, known)).shapes.items()} == used


def test_the_form_is_the_documented_one() -> None:
    assert orjson.loads(encode([READING], {PUMP_ID: PUMP})) == {
        "v": 1,
        "shapes": {PUMP_ID: {"temp": ["NUMBER", "temp"]}},
        "readings": [["pump-1", 1_767_268_800_000, "0:49590338:0", PUMP_ID, {"temp": 10.0}]],
    }


def test_text_and_bytes_are_read_alike() -> None:
    body = encode([READING], {PUMP_ID: PUMP})
    assert decode(body) == decode(body.decode()) == Parcel([READING], {PUMP_ID: {"temp": PUMP["temp"]}})


def broken(**changes: Any) -> bytes:
    document = orjson.loads(encode([READING], {PUMP_ID: PUMP}))
    return orjson.dumps({key: value for key, value in (document | changes).items() if value is not None})


ROW = list(READING)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"1",
        b"{}",
        b"\xff",
        b"[" * 5000,
        broken(v=None),
        broken(v=0),
        broken(v="1"),
        broken(readings=None),
        broken(readings=5),
        broken(readings={"a": 1}),
        broken(readings=[5]),
        broken(readings=["abcde"]),
        broken(readings=[ROW[:4]]),
        broken(readings=[[*ROW, 1]]),
        broken(readings=[[1, *ROW[1:]]]),
        broken(readings=[["pump-1", "now", *ROW[2:]]]),
        broken(readings=[[*ROW[:4], ["temp"]]]),
        broken(readings=[[*ROW[:3], "0000000000000000", {"temp": 1}]]),
        broken(readings=[[*ROW[:4], {"colour": "red"}]]),
        broken(shapes=None),
        broken(shapes=[]),
        broken(shapes={PUMP_ID: []}),
        broken(shapes={PUMP_ID: {"temp": ["NUMBER"]}}),
        broken(shapes={PUMP_ID: {"temp": 5}}),
    ],
)
def test_what_is_no_parcel_is_told_so(body: bytes) -> None:
    with pytest.raises(MalformedParcel):
        decode(body)


@given(st.binary() | st.text())
def test_no_message_raises_anything_else(body: bytes | str) -> None:
    with pytest.raises(MalformedParcel):
        decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, json_values)
def test_no_document_raises_anything_else(readings: Any, known: Any) -> None:
    try:
        parcel = decode(orjson.dumps({"v": 1, "readings": readings, "shapes": known}))
    except MalformedParcel:
        return
    assert len(parcel.readings) == len(readings)


def test_every_cut_of_a_parcel_is_told_so() -> None:
    body = encode([READING], {PUMP_ID: PUMP})
    for end in range(len(body)):
        with pytest.raises(MalformedParcel):
            decode(body[:end])


@given(names, st.integers(1, 100))
def test_a_thing_always_has_the_same_lane(thing: str, lanes: int) -> None:
    assert lane_of(thing, lanes) == zlib.crc32(thing.encode()) % lanes
    assert 0 <= lane_of(thing, lanes) < lanes


def test_the_lane_of_a_thing_never_changes_from_release_to_release() -> None:
    assert [lane_of(thing, 8) for thing in ("pump-1", "pump-2", "Pumpe-ü")] == [6, 4, 0]


def test_a_parcel_of_a_later_release_is_told_from_a_broken_one() -> None:
    with pytest.raises(NewerParcel, match="parcel of version 2; this release reads version 1"):
        decode(broken(v=2, readings="in a form of its own"))
