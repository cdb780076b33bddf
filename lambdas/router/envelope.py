"""The envelope the IoT topic rules put around a payload, as it comes out of a Kinesis record.

`{"d": base64 payload, "n": Thing, "c": client id, "t": broker time, "s": topic}` is telemetry; a record with
`eventType` instead of `d` is a presence event of AWS IoT (docs/reference/data-formats.md).
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.held_store import NAMELESS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BAD_PRESENCE",
    "NO_CLIENT",
    "OtherEvent",
    "Presence",
    "RejectedRecord",
    "Telemetry",
    "read_record",
    "rejected_record",
]

#: Reason of a record that is a lifecycle event but lacks what one has.
BAD_PRESENCE = "bad_presence"


#: What AWS IoT's clientid() and so the Thing is for messages published over HTTPS.
NO_CLIENT = "n/a"
#: Why a message comes without a Thing, by what stands for its name.
_NO_NAME = {
    "": "there is no name where the topic rule takes the Thing from",
    NAMELESS: f"a Thing named {NAMELESS} can't be served: what has no name is held under that one",
    NO_CLIENT: "published without a client id (HTTPS): the topic rule must take the Thing from the topic",
}
#: Longer than any client id (128 bytes) or topic (256 bytes): such a name comes from no device.
_NAME_CHARACTERS = 256
#: The last millisecond that 13 digits can write, in the year 2286.
_LAST_TIME = 9_999_999_999_999
_LAST_VERSION = 2**53
_PRESENCE = {"connected": True, "disconnected": False}


class Telemetry(NamedTuple):
    """One payload of a Thing.

    Attributes:
        thing: Thing name, never empty nor `-`.
        client: MQTT client id that published it, `n/a` over HTTPS.
        time: the broker's, milliseconds since 1970, UTC.
        topic: MQTT topic.
        payload: as published.
        shard: shard number, for example `0`.
        sequence: Kinesis sequence number, unique in its shard.
    """

    thing: str
    client: str
    time: int
    topic: str
    payload: bytes
    shard: str
    sequence: str

    @property
    def id(self) -> str:
        """Id of its reading: `{shard number}:{sequence number}:{index in the record}`."""
        return f"{self.shard}:{self.sequence}:0"


class Presence(NamedTuple):
    """A client connected or disconnected.

    Attributes:
        client: MQTT client id, never empty.
        connected: false when it disconnected.
        time: the event's `timestamp`, milliseconds since 1970, UTC.
        version: the event's `versionNumber`.
        id: as a reading's.
    """

    client: str
    connected: bool
    time: int
    version: int
    id: str


class OtherEvent(NamedTuple):
    """A lifecycle event that changes nobody's presence, for example of a client that could not connect.

    Attributes:
        type: its `eventType`.
    """

    type: str


class RejectedRecord(NamedTuple):
    """A record that no reading can be made of.

    Attributes:
        id: as a reading's.
        thing: empty when there is none.
        time: the broker's, else that of its arrival in the stream; milliseconds since 1970, UTC.
        topic: empty when unknown.
        reason: `no_thing`, `bad_envelope`, `bad_presence` or `internal`.
        detail: a sentence for a person.
        payload: the payload, or the whole record where it can't be told apart.
    """

    id: str
    thing: str
    time: int
    topic: str
    reason: str
    detail: str
    payload: bytes


class _BadEnvelope(Exception):  # noqa: N818 - never leaves this module
    """The record's data isn't what the topic rules write."""


def read_record(record: Mapping[str, Any]) -> Telemetry | Presence | OtherEvent | RejectedRecord:
    """What a record of a Lambda Kinesis event carries.

    Args:
        record: one of `Records`, with `eventID` and `kinesis`.
    """
    try:
        envelope = orjson.loads(a2b_base64(record["kinesis"]["data"]))
        if type(envelope) is dict and "d" in envelope:
            return _telemetry(record, envelope)
        if type(envelope) is dict and "eventType" in envelope:
            return _presence(record, envelope)
        return rejected_record(record, "bad_envelope", "neither d nor eventType is in the record")
    except orjson.JSONDecodeError as error:
        return rejected_record(record, "bad_envelope", f"the record is not JSON: {error}")
    except (_BadEnvelope, ValueError) as error:  # of base64: a text that is none, or not even ASCII
        return rejected_record(record, "bad_envelope", f"the record is no envelope: {error}")


def rejected_record(record: Mapping[str, Any], reason: str, detail: str) -> RejectedRecord:
    """A record to reject as a whole, with all its bytes."""
    kinesis = record["kinesis"]
    data = kinesis["data"]
    try:
        payload = a2b_base64(data)
    except ValueError:
        payload = str(data).encode(errors="replace")
    arrived = round(float(kinesis.get("approximateArrivalTimestamp", 0)) * 1000)
    return RejectedRecord(_id(record), "", arrived, "", reason, detail, payload)


def _presence(record: Mapping[str, Any], event: Mapping[str, Any]) -> Presence | OtherEvent | RejectedRecord:
    kind, client = event["eventType"], event.get("clientId")
    time, version = event.get("timestamp"), event.get("versionNumber")
    if type(kind) is str and kind not in _PRESENCE:
        return OtherEvent(kind)
    if type(kind) is not str:
        fault = "eventType must be text"
    elif type(client) is not str or not 0 < len(client) <= _NAME_CHARACTERS:
        fault = f"clientId must be text of 1 to {_NAME_CHARACTERS} characters"
    elif type(time) is not int or not 0 <= time <= _LAST_TIME:
        fault = "timestamp must be milliseconds since 1970"
    elif type(version) is not int or not 0 <= version <= _LAST_VERSION:
        fault = "versionNumber must be a whole number from 0"
    else:
        return Presence(client, _PRESENCE[kind], time, version, _id(record))
    return rejected_record(record, BAD_PRESENCE, f"the lifecycle event can't be read: {fault}")


def _telemetry(record: Mapping[str, Any], envelope: Mapping[str, Any]) -> Telemetry | RejectedRecord:
    encoded, thing, time = envelope["d"], envelope.get("n", ""), envelope.get("t")
    client, topic = envelope.get("c", ""), envelope.get("s", "")
    if not type(encoded) is type(thing) is type(client) is type(topic) is str:
        raise _BadEnvelope("d, n, c and s must be texts")
    if type(time) is not int or not 0 <= time <= _LAST_TIME:
        raise _BadEnvelope("t must be milliseconds since 1970")
    if len(thing) > _NAME_CHARACTERS:
        raise _BadEnvelope(f"n has more than {_NAME_CHARACTERS} characters")
    payload = a2b_base64(encoded, strict_mode=True)
    sequence = record["kinesis"]["sequenceNumber"]
    telemetry = Telemetry(thing, client, time, topic, payload, _shard(record), sequence)
    if thing not in _NO_NAME:
        return telemetry
    return RejectedRecord(telemetry.id, "", time, topic, "no_thing", _NO_NAME[thing], payload)


def _id(record: Mapping[str, Any]) -> str:
    return f"{_shard(record)}:{record['kinesis']['sequenceNumber']}:0"


def _shard(record: Mapping[str, Any]) -> str:
    """`0` of the eventID `shardId-000000000000:{sequence number}`."""
    shard_id, _, _ = record["eventID"].partition(":")
    return shard_id.rpartition("-")[2].lstrip("0") or "0"
