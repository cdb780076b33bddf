"""Reports of topic rules become the records that the rules meant, or a sentence that says why not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.router.envelope import Presence, RejectedRecord, Telemetry, read_record
from ops.returning import UnreadableError
from ops.rule_errors import RuleError, is_expression, read_rule_error, record_of
from tests.unit.router.kinesis import record

TIME = 1_767_268_800_000
PRESENCE = "$aws/events/presence/connected/pump-1"


def report(payload: bytes = b'{"temp": 1}', **changes: Any) -> dict[str, Any]:
    """As AWS IoT documents it."""
    return {
        "ruleName": "demo_telemetry_0a1b2c3d",
        "topic": "dt/pump-1/data",
        "cloudwatchTraceId": "7e146a2c-95b5-6caf-98b9-50e3969734c7",
        "clientId": "gateway-1",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [
            {
                "failedAction": "KinesisAction",
                "failedResource": "demo-ingest",
                "errorMessage": "Rate exceeded for shard shardId-000000000000 in stream demo-ingest",
            }
        ],
    } | changes


def read(**changes: Any) -> RuleError:
    return read_rule_error(json.dumps(report(**changes)))


def test_the_record_is_the_one_that_the_rule_would_have_written() -> None:
    key, data = record_of(read(payload=b"\xff\x00"), "topic(2)", TIME)
    assert key == "pump-1"
    assert json.loads(data) == {
        "d": "/wA=",
        "n": "pump-1",
        "c": "gateway-1",
        "t": TIME,
        "s": "dt/pump-1/data",
    }


def test_a_client_names_the_thing_where_the_rule_says_so() -> None:
    key, data = record_of(read(), "clientid()", TIME)
    assert (key, json.loads(data)["n"]) == ("gateway-1", "gateway-1")


def test_a_message_over_https_has_the_client_that_the_rules_sql_gives_it() -> None:
    key, data = record_of(read(clientId="N/A"), "clientid()", TIME)
    assert (key, json.loads(data)["c"]) == ("n/a", "n/a")


def test_the_levels_of_a_topic_are_counted_after_what_basic_ingest_puts_before_it() -> None:
    error = read(topic="$aws/rules/demo_telemetry_0a1b2c3d/dt/pump-1/data")
    key, data = record_of(error, "topic(2)", TIME)
    assert (key, json.loads(data)["s"]) == ("pump-1", "dt/pump-1/data")


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"topic": "dt/pump-1"}, "topic(3)"),
        ({"topic": "/sample"}, "topic(1)"),
        ({"topic": "dt//data"}, "topic(2)"),
        ({"clientId": ""}, "clientid()"),
    ],
)
def test_a_message_without_a_name_where_the_rule_looks_for_it_is_for_the_router_to_hold(
    changes: dict[str, Any], expression: str
) -> None:
    error = read(**changes)
    key, data = record_of(error, expression, TIME)
    assert key == "n/a"
    found = read_record(record(data, key=key))
    assert isinstance(found, RejectedRecord)
    assert (found.reason, found.thing, found.time, found.topic) == ("no_thing", "", TIME, error.topic)
    assert "there is no name" in found.detail
    assert found.payload == b'{"temp": 1}'


def test_a_name_longer_than_the_stream_takes_is_for_the_router_to_hold_too() -> None:
    key, data = record_of(read(clientId="x" * 257), "clientid()", TIME)
    assert key == "x" * 256
    assert json.loads(data)["n"] == "x" * 257
    found = read_record(record(data, key=key))
    assert isinstance(found, RejectedRecord)
    assert (found.reason, found.payload) == ("bad_envelope", data)


def test_what_names_things_otherwise_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"names Things by payload\.name"):
        record_of(read(), "payload.name", TIME)


def test_a_lifecycle_event_is_its_own_record() -> None:
    event = {"clientId": "pump-1", "timestamp": TIME, "eventType": "connected", "versionNumber": 3}
    error = read(payload=json.dumps(event).encode(), topic=PRESENCE, clientId="N/A")
    assert error.is_lifecycle
    key, data = record_of(error, "", TIME + 5)
    assert key == "pump-1"
    found = read_record(record(data))
    assert isinstance(found, Presence)
    assert (found.client, found.connected, found.time, found.version) == ("pump-1", True, TIME, 3)


@pytest.mark.parametrize(
    ("payload", "told"), [(b"{", "not JSON"), (b"[]", "without a clientId"), (b"{}", "without a clientId")]
)
def test_a_lifecycle_event_of_nobody_is_told(payload: bytes, told: str) -> None:
    with pytest.raises(UnreadableError, match=told):
        record_of(read(payload=payload, topic=PRESENCE), "", TIME)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "not JSON"),
        ("[1]", "no JSON object"),
        ("{}", "no text ruleName"),
        (json.dumps(report(topic=None)), "no text topic"),
        (json.dumps(report(ruleName="")), "can't be a topic rule's"),
        (json.dumps(report(ruleName="a-b")), "can't be a topic rule's"),
        (json.dumps(report(base64OriginalPayload="a b=")), "not base64"),
        (json.dumps(report(base64OriginalPayload="ä")), "not base64"),
    ],
)
def test_what_is_no_report_is_told(body: str, told: str) -> None:
    with pytest.raises(UnreadableError, match=told):
        read_rule_error(body)


@given(
    payload=st.binary(max_size=200),
    client=st.text(min_size=1, max_size=40).filter(lambda name: name not in ("N/A", "n/a")),
    levels=st.lists(
        st.text(min_size=1, max_size=20).filter(lambda level: "/" not in level), min_size=2, max_size=6
    ),
    time=st.integers(0, 9_999_999_999_999),
    expression=st.sampled_from(["topic(2)", "clientid()"]),
)
def test_whatever_was_published_the_router_reads_it_as_it_was(
    payload: bytes, client: str, levels: list[str], time: int, expression: str
) -> None:
    topic = "/".join(levels)
    if topic.startswith("$aws/"):
        return
    error = read_rule_error(json.dumps(report(payload, topic=topic, clientId=client)))
    key, data = record_of(error, expression, time)
    thing = levels[1] if expression == "topic(2)" else client
    if thing in ("n/a", "-"):
        return
    found = read_record(record(data, key=key))
    assert isinstance(found, Telemetry)
    assert key == thing
    assert found[:5] == (thing, client, time, topic, payload)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(
    body=st.text(max_size=200)
    | _JSON.map(json.dumps)
    | st.dictionaries(st.sampled_from(sorted(report())), _JSON).map(lambda some: json.dumps(report() | some)),
    expression=st.sampled_from(["clientid()", "topic(1)", "topic(99)", "n", ""]),
)
def test_whatever_lies_in_the_queue_is_a_record_or_a_sentence(body: str, expression: str) -> None:
    try:
        key, data = record_of(read_rule_error(body), expression, TIME)
    except UnreadableError:
        return
    assert 1 <= len(key) <= 256
    assert json.loads(data)


def test_what_may_name_a_thing() -> None:
    assert all(map(is_expression, ("clientid()", "topic(1)", "topic(12)")))
    assert not any(map(is_expression, ("topic(0)", "topic(2) ", "n", "")))
