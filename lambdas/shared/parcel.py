"""The parcel: one SQS message carrying many readings of one lane (docs/reference/data-formats.md).

Encoding is deterministic (sorted keys, no clock, no random), so that a router batch tried twice
sends the same bytes and SQS drops the second copy by its content.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.errors import ConnectorError, MalformedParcel
from lambdas.shared.shape import Shape, shape_from_pairs, to_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MAX_BYTES", "NewerParcel", "Parcel", "PresenceChange", "Reading", "decode", "encode", "lane_of"]

#: Bytes of one message, and of all messages of one SendMessageBatch call: the queues are created
#: with this limit, and SQS bills FIFO requests in steps of 64 KiB.
MAX_BYTES = 262_144

_VERSION = 1
#: Of a reading, in its row of the body.
_READING_FIELDS = 5
_U_FFFE, _U_FFFF = "\ufffe".encode(), "\uffff".encode()


class NewerParcel(ConnectorError):  # noqa: N818 - names the thing that is in the way
    """A parcel of a later release: not for this one to set aside, its successor reads it."""


class Reading(NamedTuple):
    """One Thing's values at one time, already converted to their base types.

    Attributes:
        thing: Thing name.
        time: milliseconds since 1970, UTC.
        id: `{shard number}:{sequence number}:{index}`, unique in the stack.
        shape: id of the shape that explains `values`.
        values: property name -> value; never empty.
        broker_time: when the broker had it; None: at `time`, for the device gave none of its own.
    """

    thing: str
    time: int
    id: str
    shape: str
    values: Mapping[str, Any]
    broker_time: int | None = None


class PresenceChange(NamedTuple):
    """AWS IoT said that the client which speaks for a Thing connected or disconnected.

    Attributes:
        thing: Thing name.
        connected: false when it disconnected.
        time: the event's `timestamp`, milliseconds since 1970, UTC.
        version: the event's `versionNumber`; it grows with each connection of the client, and begins
            again at 0 after the client was away for long.
        client: MQTT client id; another than the Thing's name when a gateway speaks for it.
        id: id of the record, as a reading's.
    """

    thing: str
    connected: bool
    time: int
    version: int
    client: str
    id: str


class Parcel(NamedTuple):
    """What `decode` found in a message.

    Attributes:
        readings: in the order in which they must be delivered.
        shapes: shape id -> the properties used in this parcel.
        presence: in the order in which they came.
        replay: name of the replay that sent this parcel again; empty for a parcel of the router.
    """

    readings: list[Reading]
    shapes: dict[str, Shape]
    presence: tuple[PresenceChange, ...] = ()
    replay: str = ""


def lane_of(thing: str, lanes: int) -> int:
    """Lane of a Thing in a slot with `lanes` lanes; the same for ever, in every process."""
    return zlib.crc32(thing.encode()) % lanes


def encode(
    readings: Sequence[Reading],
    shapes: Mapping[str, Shape],
    presence: Sequence[PresenceChange] = (),
    replay: str = "",
) -> bytes:
    """Body of the message for readings and presence, which must all be of one lane.

    Args:
        readings: in the order in which they must be delivered.
        shapes: at least the shapes that `readings` name; only their used properties are sent.
        presence: in the order in which they came.
        replay: name of the replay that sends readings again: it makes the body another one than the
            first time, so that SQS takes it.
    """
    used: dict[str, set[str]] = {}
    for reading in readings:
        used.setdefault(reading.shape, set()).update(reading.values)
    body: dict[str, Any] = {
        "v": _VERSION,
        "shapes": {
            shape: to_pairs({name: shapes[shape][name] for name in names}) for shape, names in used.items()
        },
        "readings": [reading[:_READING_FIELDS] for reading in readings],
    }
    broker_times = [reading.broker_time for reading in readings]
    if any(time is not None for time in broker_times):
        body["broker_times"] = broker_times
    if presence:
        body["presence"] = [list(change) for change in presence]
    if replay:
        body["replay"] = replay
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    # JSON may hold these two characters as they are; SQS refuses a message that does.
    return text.replace(_U_FFFE, b"\\ufffe").replace(_U_FFFF, b"\\uffff")


def decode(body: str | bytes) -> Parcel:
    """Readings and shapes of a message.

    Keys that this release doesn't know are left alone: a later one may add some without a new version.

    Raises:
        NewerParcel: the message is a parcel of a later release.
        MalformedParcel: the message is no parcel of a known version.
    """
    try:
        document = orjson.loads(body)
        version = document["v"]
        if isinstance(version, int) and version > _VERSION:
            raise NewerParcel(f"parcel of version {version}; this release reads version {_VERSION}")
        if version != _VERSION:
            raise MalformedParcel(f"parcel of version {version!r}; this release reads version {_VERSION}")
        rows = document["readings"]
        broker_times = document.get("broker_times") or [None] * len(rows)
        readings = [_reading(row, time) for row, time in zip(rows, broker_times, strict=True)]
        shapes: dict[str, Shape] = {
            name: shape_from_pairs(pairs) for name, pairs in document["shapes"].items()
        }
        _check_explained(readings, shapes)
        presence = tuple(_presence(entry) for entry in document.get("presence", ()))
        replay = _name(document.get("replay", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedParcel(f"not a parcel: {type(error).__name__}: {error}") from error
    return Parcel(readings, shapes, presence, replay)


def _reading(entry: Any, broker_time: Any) -> Reading:
    thing, time, reading_id, shape, values = entry
    well_formed = (
        isinstance(thing, str)
        and isinstance(time, int)
        and isinstance(reading_id, str)
        and isinstance(shape, str)
        and isinstance(values, dict)
        and (broker_time is None or isinstance(broker_time, int))
    )
    if not well_formed:
        raise TypeError("a reading is [thing, time, id, shape, values], and a broker's time is a number")
    return Reading(thing, time, reading_id, shape, values, broker_time)


def _presence(entry: Any) -> PresenceChange:
    thing, connected, time, version, client, record = entry
    well_formed = (
        isinstance(thing, str)
        and isinstance(connected, bool)
        and isinstance(time, int)
        and isinstance(version, int)
        and isinstance(client, str)
        and isinstance(record, str)
    )
    if not well_formed:
        raise TypeError("a presence change is [thing, connected, time, version, client, id]")
    return PresenceChange(thing, connected, time, version, client, record)


def _name(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a name is text")
    return text


def _check_explained(readings: Iterable[Reading], shapes: Mapping[str, Shape]) -> None:
    for reading in readings:
        shape = shapes[reading.shape]
        for name in reading.values:
            if name not in shape:
                raise KeyError(f"property {name} of {reading.thing} is in no shape")
