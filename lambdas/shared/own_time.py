"""The time that a device itself gives a reading, where its payload has one.

A topic filter may name the place in the payload. What stands there is a number or text: seconds or
milliseconds since 1970, or ISO 8601. A clock that isn't set, or too far ahead of the broker's, isn't
believed: a value from the future would keep the later ones of its property from becoming current.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.times import iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OwnTime", "OwnTimes", "milliseconds"]

#: Numbers below are seconds: as milliseconds they would be before March 1973, as seconds up to the year 5138.
_SECONDS_BELOW = 100_000_000_000
#: 2000-01-01: a clock before it was never set.
_FIRST_TIME = 946_684_800_000
#: The last millisecond that 13 digits can write, in the year 2286.
_LAST_TIME = 9_999_999_999_999
#: Topics whose path is remembered; far more than a fleet has at a time in one process.
_MOST_TOPICS = 100_000


class OwnTime(NamedTuple):
    """A reading's time.

    Attributes:
        time: milliseconds since 1970, UTC.
        clamped: the device's clock was too far ahead, so this is the broker's.
        unreadable: no time was found in the payload, so this is the broker's.
    """

    time: int
    clamped: bool = False
    unreadable: bool = False


class OwnTimes:
    """Which topics' payloads have a time, and what becomes of it.

    Args:
        paths: topic filter -> dot path in the payload, for example `{"dt/+/data": "header.ts"}`. Of
            several filters that match, the first counts.
        max_ahead_seconds: how far ahead of the broker's clock a device's may be.
    """

    def __init__(self, paths: Mapping[str, str], max_ahead_seconds: float) -> None:
        self._paths = [(filter_.split("/"), tuple(path.split("."))) for filter_, path in paths.items()]
        self._max_ahead = round(max_ahead_seconds * 1000)
        self._known: dict[str, tuple[str, ...]] = {}

    def path(self, topic: str) -> tuple[str, ...]:
        """Keys that lead to the time in a payload of this topic; none when there is no time."""
        if not self._paths:
            return ()
        path = self._known.get(topic)
        if path is None:
            levels = topic.split("/")
            path = next((found for filter_, found in self._paths if _matches(filter_, levels)), ())
            if len(self._known) >= _MOST_TOPICS:
                self._known.clear()
            self._known[topic] = path
        return path

    def time(self, value: Any, broker: int) -> OwnTime:
        """The time of a reading.

        Args:
            value: what stands at the path; None when nothing does.
            broker: the broker's time, milliseconds since 1970, UTC.
        """
        own = milliseconds(value)
        if own is None:
            return OwnTime(broker, unreadable=True)
        if own > broker + self._max_ahead:
            return OwnTime(broker, clamped=True)
        return OwnTime(own)


def milliseconds(value: Any) -> int | None:
    """Milliseconds since 1970, UTC, that a device means by `value`; None when it is no believable time."""
    kind = type(value)
    if kind is str:
        value = _in_text(value)
        kind = type(value)
    # NaN and infinities are not in the range either.
    if (kind is not int and kind is not float) or not 0 < value <= _LAST_TIME:
        return None
    # Rounded to tens of microseconds first: a second's fraction is not exact in binary.
    found = math.floor(round(value * 1000, 2) if value < _SECONDS_BELOW else value)
    return found if _FIRST_TIME <= found <= _LAST_TIME else None


def _in_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return iso_milliseconds(text)
        except ValueError:
            return None


def _matches(filter_: list[str], levels: list[str]) -> bool:
    """Whether a topic matches a filter, both cut at `/`; `#` matches its parent level too."""
    if filter_[-1] == "#":
        filter_ = filter_[:-1]
        levels = levels[: len(filter_)]
    return len(filter_) == len(levels) and all(
        wanted in ("+", level) for wanted, level in zip(filter_, levels, strict=True)
    )
