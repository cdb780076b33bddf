"""IoT topic rules: SQL, Kinesis and error actions, presence, over the broker and over HTTPS."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from botocore.exceptions import ClientError
from paho.mqtt.enums import CallbackAPIVersion

from tests.sandbox.aws import ROLE, Aws, eventually, unique

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVELOPE = (
    "SELECT encode(*, 'base64') AS d, {thing} AS n, clientid() AS c, timestamp() AS t, "
    "topic() AS s FROM '{filter}'"
)


class Device:
    """An MQTT client over TLS that knows when it is connected."""

    def __init__(self, aws: Aws, client_id: str, *, clean_session: bool = True) -> None:
        self._connected = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean_session)
        self._client.tls_set_context(aws.emulator.mqtt_tls_context())
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.connect(*aws.emulator.mqtt_endpoint)
        self._client.loop_start()
        assert self._connected.wait(10)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def drop(self) -> None:
        """Leave without a word, as a device that lost its line."""
        self._client.loop_stop()
        socket = self._client.socket()
        assert socket is not None
        socket.close()

    def disconnect(self) -> None:
        """Leave in order."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def device(aws: Aws) -> Iterator[Device]:
    client = Device(aws, "device-1")
    yield client
    client.disconnect()


def rule(aws: Aws, sql: str, *, stream: str, key: str, errors: str | None = None) -> str:
    name = unique("rule").replace("-", "_")
    payload: dict[str, Any] = {
        "sql": sql,
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{"kinesis": {"roleArn": ROLE, "streamName": stream, "partitionKey": key}}],
    }
    if errors:
        payload["errorAction"] = {"sqs": {"roleArn": ROLE, "queueUrl": errors, "useBase64": False}}
    aws("iot").create_topic_rule(ruleName=name, topicRulePayload=payload)
    return name


def envelope(topic_filter: str, thing: str = "clientid()") -> str:
    return ENVELOPE.format(thing=thing, filter=topic_filter)


def everything(topic_filter: str) -> str:
    return f"SELECT * FROM '{topic_filter}'"  # noqa: S608 - a topic rule, no database


@pytest.mark.parametrize("payload", [b'{"t": 1}', b"\x00\xff\x80 binary", b'{"broken', b"", "grün".encode()])
def test_any_payload_arrives_whole_through_a_select_of_functions(
    aws: Aws, device: Device, payload: bytes
) -> None:
    stream, _ = aws.stream()
    root = unique("t")
    rule(aws, envelope(f"{root}/+/data", "topic(2)"), stream=stream, key="${topic(2)}")
    device.publish(f"{root}/pump/data", payload)
    (record,) = eventually(lambda: aws.records(stream))
    reading = json.loads(record["Data"])
    assert base64.b64decode(reading["d"]) == payload
    assert (reading["n"], reading["c"], reading["s"]) == ("pump", "device-1", f"{root}/pump/data")
    assert isinstance(reading["t"], int)
    assert record["PartitionKey"] == "pump"


def test_select_star_gives_the_raw_bytes_of_a_payload_that_is_no_json(aws: Aws, device: Device) -> None:
    stream, _ = aws.stream()
    root = unique("t")
    rule(aws, everything(f"{root}/#"), stream=stream, key="${clientid()}")
    device.publish(f"{root}/a/b", b"\x00\xff")
    (record,) = eventually(lambda: aws.records(stream))
    assert record["Data"] == b"\x00\xff"
    assert record["PartitionKey"] == "device-1"


def test_a_client_over_https_has_the_client_id_n_a(aws: Aws) -> None:
    stream, _ = aws.stream()
    root = unique("t")
    rule(aws, envelope(f"{root}/#"), stream=stream, key="${clientid()}")
    aws("iot-data").publish(topic=f"{root}/x", qos=1, payload=b"{}")
    (record,) = eventually(lambda: aws.records(stream))
    assert json.loads(record["Data"])["n"] == "n/a"
    assert record["PartitionKey"] == "n/a"


def test_templates_see_fields_of_the_original_message(aws: Aws, device: Device) -> None:
    stream, _ = aws.stream()
    root = unique("t")
    rule(aws, everything(root).replace("*", "v"), stream=stream, key="${sensor.id}")
    device.publish(root, b'{"v": 1, "sensor": {"id": "s-9"}}')
    (record,) = eventually(lambda: aws.records(stream))
    assert record["PartitionKey"] == "s-9"
    assert json.loads(record["Data"]) == {"v": 1}


def test_a_template_that_names_an_alias_fails_the_action(aws: Aws, device: Device) -> None:
    url, _ = aws.queue()
    stream, _ = aws.stream()
    root = unique("t")
    name = rule(aws, envelope(root), stream=stream, key="${n}", errors=url)
    device.publish(root, b"{}")
    (report,) = eventually(lambda: aws.messages(url))
    assert report["ruleName"] == name
    assert aws.records(stream) == []


@pytest.mark.parametrize(("stream", "key"), [("missing", "k"), (None, "k" * 257)])
def test_a_failing_action_runs_the_error_action_with_the_documented_report(
    aws: Aws, device: Device, stream: str | None, key: str
) -> None:
    url, _ = aws.queue()
    root = unique("t")
    target = stream or aws.stream()[0]
    name = rule(aws, envelope(root), stream=target, key=key, errors=url)
    device.publish(root, b"\xffraw")
    (report,) = eventually(lambda: aws.messages(url))
    assert (report["ruleName"], report["topic"], report["clientId"]) == (name, root, "device-1")
    assert base64.b64decode(report["base64OriginalPayload"]) == b"\xffraw"
    assert report["cloudwatchTraceId"]
    (failure,) = report["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("KinesisAction", target)
    assert failure["errorMessage"]


def test_overlapping_rules_both_fire(aws: Aws, device: Device) -> None:
    (one, _), (two, _) = aws.stream(), aws.stream()
    root = unique("t")
    rule(aws, envelope(f"{root}/#"), stream=one, key="k")
    rule(aws, envelope(f"{root}/+"), stream=two, key="k")
    device.publish(f"{root}/x", b"1")
    assert eventually(lambda: aws.records(one))
    assert eventually(lambda: aws.records(two))


def test_presence_events_name_the_client_and_are_no_telemetry(aws: Aws) -> None:
    (presence, _), (telemetry, _) = aws.stream(), aws.stream()
    rule(aws, everything("$aws/events/presence/#"), stream=presence, key="${clientId}")
    rule(aws, envelope("#"), stream=telemetry, key="k")
    name = unique("device")
    Device(aws, name).disconnect()

    def of_this_device() -> list[dict[str, Any]] | None:
        found = [
            json.loads(record["Data"]) for record in aws.records(presence) if record["PartitionKey"] == name
        ]
        return found if len(found) == 2 else None

    connected, disconnected = eventually(of_this_device)
    assert [connected["eventType"], disconnected["eventType"]] == ["connected", "disconnected"]
    assert {"clientId", "timestamp", "sessionIdentifier", "versionNumber"} <= set(connected)
    assert not [
        record for record in aws.records(telemetry) if json.loads(record["Data"])["s"].startswith("$aws/")
    ]


def presence_of(aws: Aws, stream: str, client: str, number: int) -> list[dict[str, Any]]:
    """So many lifecycle events of a client, in the order of their shard."""

    def found() -> list[dict[str, Any]] | None:
        records = [record for record in aws.records(stream) if record["PartitionKey"] == client]
        return [json.loads(record["Data"]) for record in records] if len(records) >= number else None

    return eventually(found)


def test_lifecycle_events_have_the_documented_fields(aws: Aws) -> None:
    stream, _ = aws.stream()
    rule(aws, everything("$aws/events/presence/#"), stream=stream, key="${clientId}")
    name = unique("device")
    Device(aws, name).disconnect()
    connected, disconnected = presence_of(aws, stream, name, 2)
    shared = {
        "clientId",
        "eventType",
        "timestamp",
        "sessionIdentifier",
        "principalIdentifier",
        "versionNumber",
    }
    assert set(connected) == shared | {"ipAddress"}
    assert set(disconnected) == shared | {"clientInitiatedDisconnect", "disconnectReason"}
    assert (disconnected["clientInitiatedDisconnect"], disconnected["disconnectReason"]) == (
        True,
        "CLIENT_INITIATED_DISCONNECT",
    )
    assert isinstance(connected["timestamp"], int)
    assert isinstance(connected["versionNumber"], int)


def test_the_version_number_grows_with_each_connection_and_is_one_for_connect_and_disconnect(
    aws: Aws,
) -> None:
    stream, _ = aws.stream()
    rule(aws, everything("$aws/events/presence/#"), stream=stream, key="${clientId}")
    name = unique("device")
    for turn in range(3):
        Device(aws, name).disconnect()
        presence_of(aws, stream, name, 2 * turn + 2)
    events = presence_of(aws, stream, name, 6)
    assert [event["eventType"] for event in events] == ["connected", "disconnected"] * 3
    versions = [event["versionNumber"] for event in events]
    assert versions[::2] == versions[1::2]
    assert versions[0] < versions[2] < versions[4]
    sessions = [event["sessionIdentifier"] for event in events]
    assert sessions[::2] == sessions[1::2]
    assert len(set(sessions)) == 3


def test_a_client_that_is_replaced_by_one_of_its_name_leaves_with_the_older_version(aws: Aws) -> None:
    stream, _ = aws.stream()
    rule(aws, everything("$aws/events/presence/#"), stream=stream, key="${clientId}")
    name = unique("device")
    first = Device(aws, name)
    presence_of(aws, stream, name, 1)
    first._client.loop_stop()  # or it would connect again and take its name back
    second = Device(aws, name)
    events = sorted(
        presence_of(aws, stream, name, 3), key=lambda event: (event["versionNumber"], event["eventType"])
    )
    assert [event["eventType"] for event in events] == ["connected", "disconnected", "connected"]
    assert events[1]["disconnectReason"] == "DUPLICATE_CLIENTID"
    assert aws("iot-data").get_connection(clientId=name)["connected"] is True
    second.disconnect()


def test_a_connection_is_told_while_it_lives_and_after_it_was_lost(aws: Aws) -> None:
    stream, _ = aws.stream()
    rule(aws, everything("$aws/events/presence/#"), stream=stream, key="${clientId}")
    name = unique("device") + "/line 1"
    device = Device(aws, name)
    (connected,) = presence_of(aws, stream, name, 1)
    answer = aws("iot-data").get_connection(clientId=name)
    assert (answer["clientId"], answer["connected"], answer["cleanSession"]) == (name, True, True)
    assert abs(answer["connectedSince"] - connected["timestamp"]) < 10_000
    assert "disconnectedSince" not in answer
    device.drop()
    _, disconnected = presence_of(aws, stream, name, 2)
    answer = aws("iot-data").get_connection(clientId=name)
    assert (answer["connected"], answer["disconnectReason"]) == (False, "CONNECTION_LOST")
    assert abs(answer["disconnectedSince"] - disconnected["timestamp"]) < 10_000
    assert "connectedSince" not in answer


def test_a_connection_tells_whether_its_session_outlives_it(aws: Aws) -> None:
    name = unique("device")
    device = Device(aws, name, clean_session=False)
    assert aws("iot-data").get_connection(clientId=name)["cleanSession"] is False
    device.disconnect()
    answer = eventually(
        lambda: (found := aws("iot-data").get_connection(clientId=name))["connected"] is False and found
    )
    assert (answer["cleanSession"], answer["sessionExpiry"]) == (False, 3600)


@pytest.mark.parametrize(
    ("client", "error"),
    [("never-seen", "ResourceNotFoundException"), ("x" * 129, "InvalidRequestException")],
)
def test_a_client_that_nobody_knows_has_no_connection(aws: Aws, client: str, error: str) -> None:
    with pytest.raises(ClientError) as caught:
        aws("iot-data").get_connection(clientId=client)
    assert caught.value.response["Error"]["Code"] == error


def test_an_unknown_sql_function_is_a_sql_parse_exception(aws: Aws) -> None:
    with pytest.raises(ClientError) as caught:
        rule(aws, "SELECT transform(*) AS x FROM 'a'", stream="s", key="k")
    assert caught.value.response["Error"]["Code"] == "SqlParseException"
