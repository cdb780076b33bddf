"""What a Kinesis record is taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambdas.router.envelope import OtherEvent, Presence, RejectedRecord, Telemetry, read_record
from tests.unit.router.kinesis import FIRST_SEQUENCE, NOW, envelope, lifecycle, record, telemetry

EVENTS = Path(__file__).parents[2] / "events"


def rejected(entry: dict[str, Any]) -> RejectedRecord:
    result = read_record(entry)
    assert isinstance(result, RejectedRecord)
    return result


def test_telemetry_is_taken_apart() -> None:
    entry = record(json.dumps(envelope(b"\x00\xff", "pump-1", c="gateway")).encode(), number=5, shard=12)
    assert read_record(entry) == Telemetry(
        thing="pump-1",
        client="gateway",
        time=NOW,
        topic="dt/pump-1",
        payload=b"\x00\xff",
        shard="12",
        sequence=str(FIRST_SEQUENCE + 5),
    )


@pytest.mark.parametrize(("shard", "number"), [(0, "0"), (7, "7"), (10, "10"), (100, "100")])
def test_a_reading_id_holds_shard_number_sequence_number_and_index(shard: int, number: str) -> None:
    result = read_record(record(json.dumps(envelope(b"{}")).encode(), shard=shard))
    assert isinstance(result, Telemetry)
    assert result.id == f"{number}:{FIRST_SEQUENCE}:0"


def test_presence_events_are_told_from_telemetry() -> None:
    connected = read_record(lifecycle("pump-1", "connected", 2, versionNumber=3))
    assert connected == Presence(
        "pump-1", connected=True, time=NOW + 2, version=3, id=f"0:{FIRST_SEQUENCE + 2}:0"
    )
    disconnected = read_record(lifecycle("pump-1", "disconnected", 4))
    assert disconnected == Presence(
        "pump-1", connected=False, time=NOW + 4, version=0, id=f"0:{FIRST_SEQUENCE + 4}:0"
    )


def test_other_lifecycle_events_change_nothing() -> None:
    assert read_record(lifecycle("pump-1", "connect_failed", versionNumber=None)) == OtherEvent(
        "connect_failed"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"clientId": None},
        {"clientId": ""},
        {"clientId": 5},
        {"clientId": "x" * 257},
        {"timestamp": None},
        {"timestamp": "now"},
        {"timestamp": -1},
        {"timestamp": True},
        {"timestamp": 10**13},
        {"versionNumber": None},
        {"versionNumber": "1"},
        {"versionNumber": -1},
        {"versionNumber": 1.5},
        {"versionNumber": 2**60},
        {"eventType": 5},
        {"eventType": None},
    ],
)
def test_a_broken_lifecycle_event_is_rejected_with_all_its_bytes(changes: dict[str, Any]) -> None:
    entry = lifecycle(number=3, **changes)
    result = rejected(entry)
    assert result.reason == "bad_presence"
    assert json.loads(result.payload)["sessionIdentifier"]
    assert (result.thing, result.id) == ("", f"0:{FIRST_SEQUENCE + 3}:0")
    assert "must be" in result.detail


def test_a_payload_can_forge_no_field() -> None:
    result = read_record(telemetry({"n": "other", "eventType": "connected", "d": ""}))
    assert isinstance(result, Telemetry)
    assert result.thing == "pump-1"


@pytest.mark.parametrize(("thing", "why"), [("", "there is no name"), ("-", "named -"), ("n/a", "HTTPS")])
def test_a_message_without_a_thing_is_rejected_with_its_own_payload(thing: str, why: str) -> None:
    result = rejected(telemetry({"temp": 1}, thing, number=3))
    assert why in result.detail
    assert (result.reason, result.thing, result.topic) == ("no_thing", "", f"dt/{thing}")
    assert result.payload == b'{"temp": 1}'
    assert result.time == NOW + 3


def test_a_missing_name_is_no_thing_either() -> None:
    fields = envelope(b"{}")
    del fields["n"]
    assert rejected(record(json.dumps(fields).encode())).reason == "no_thing"


BROKEN = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b"{}",
    b'{"n": "pump-1"}',
    b"\xff\xfe",
    b"[" * 5000,
    json.dumps(envelope(b"{}", d=5)).encode(),
    json.dumps(envelope(b"{}", d="%%%")).encode(),
    json.dumps(envelope(b"{}", d="YQ")).encode(),
    json.dumps(envelope(b"{}", n=5)).encode(),
    json.dumps(envelope(b"{}", n=["pump-1"])).encode(),
    json.dumps(envelope(b"{}", c=None)).encode(),
    json.dumps(envelope(b"{}", s=1)).encode(),
    json.dumps(envelope(b"{}", t="now")).encode(),
    json.dumps(envelope(b"{}", t=True)).encode(),
    json.dumps(envelope(b"{}", t=-1)).encode(),
    json.dumps(envelope(b"{}", t=10**13)).encode(),
    json.dumps(envelope(b"{}", n="x" * 257)).encode(),
]


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_envelope_is_rejected_with_all_its_bytes(data: bytes) -> None:
    result = rejected(record(data, number=4))
    assert result.reason == "bad_envelope"
    assert result.payload == data
    assert (result.id, result.time) == (f"0:{FIRST_SEQUENCE + 4}:0", NOW + 4)


@given(st.binary())
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert rejected(record(data)).payload == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@example({"t": 0, "d": "\x80"})
@given(st.dictionaries(st.sampled_from(["d", "n", "c", "t", "s", "eventType"]), json_values))
def test_no_fields_make_it_raise(fields: dict[str, Any]) -> None:
    result = read_record(record(json.dumps(fields).encode()))
    about_presence = isinstance(result, (Presence, OtherEvent)) or (
        isinstance(result, RejectedRecord) and result.reason == "bad_presence"
    )
    assert about_presence == ("eventType" in fields and "d" not in fields)


@given(
    st.fixed_dictionaries(
        {"eventType": st.sampled_from(["connected", "disconnected"]) | json_values},
        optional={
            "clientId": st.text() | json_values,
            "timestamp": st.integers(0, 10**14) | json_values,
            "versionNumber": st.integers(0) | json_values,
        },
    )
)
def test_any_lifecycle_event_is_read_passed_over_or_rejected(fields: dict[str, Any]) -> None:
    result = read_record(record(json.dumps(fields).encode()))
    if isinstance(result, Presence):
        assert result.client == fields["clientId"]
        assert (result.time, result.version) == (fields["timestamp"], fields["versionNumber"])
        assert fields["eventType"] == ("connected" if result.connected else "disconnected")
    elif isinstance(result, OtherEvent):
        assert result.type not in ("connected", "disconnected")
    else:
        assert isinstance(result, RejectedRecord)
        assert result.reason == "bad_presence"


@given(st.binary(), st.text(min_size=1, max_size=256).filter(lambda name: name not in ("n/a", "-")))
def test_every_payload_and_name_come_back_as_they_went_in(payload: bytes, thing: str) -> None:
    result = read_record(telemetry(payload, thing))
    assert isinstance(result, Telemetry)
    assert (result.payload, result.thing) == (payload, thing)


@pytest.mark.parametrize("path", sorted(EVENTS.glob("kinesis_*.json")), ids=lambda path: path.stem)
def test_recorded_events_are_what_their_names_say(path: Path) -> None:
    kinds = {"telemetry": Telemetry, "presence": Presence, "rejected": RejectedRecord}
    expected = kinds[path.stem.split("_")[1]]
    for entry in json.loads(path.read_text())["Records"]:
        assert isinstance(read_record(entry), expected)


def test_data_that_is_no_base64_is_kept_as_it_came() -> None:
    entry = record(b"")
    entry["kinesis"]["data"] = "a"
    assert rejected(entry).payload == b"a"


def test_there_are_recorded_events_of_every_kind() -> None:
    assert {path.stem for path in EVENTS.glob("kinesis_*.json")} >= {
        "kinesis_telemetry",
        "kinesis_telemetry_binary",
        "kinesis_presence",
        "kinesis_rejected",
    }
