"""Base types whose JSON form is an object; each takes its JSON text too, which shadows may hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import orjson

from lambdas.thingworx.base_types.plain import as_datetime, as_number
from lambdas.thingworx.base_types.refusal import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_LEVELS", "as_json", "as_location", "as_query", "as_timespan", "parsed", "vector"]

#: Objects and arrays inside each other; far from what a JSON writer gives up at.
MAX_LEVELS = 64

_MOST_NORTH, _MOST_EAST = 90, 180
_DATUM = "WGS84"
_LONG_MIN, _UNSIGNED_MAX = -(2**63), 2**64 - 1


def parsed(value: Any) -> Any:
    """`value`, or what it is the JSON text of."""
    if type(value) is not str:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unfit(f"text that is no JSON: {error}") from None


def as_location(value: Any) -> dict[str, float]:
    """LOCATION: `latitude`, `longitude` and `elevation`; WGS84, as on the platform."""
    found = dict(_object(value))
    if found.pop("units", _DATUM) != _DATUM:
        raise Unfit(f"units other than {_DATUM}")
    elevation = as_number(found.pop("elevation", 0.0))
    latitude, longitude = _numbers(found, ("latitude", "longitude"))
    if abs(latitude) > _MOST_NORTH or abs(longitude) > _MOST_EAST:
        raise Unfit(f"latitude {latitude} and longitude {longitude}")
    return {"latitude": latitude, "longitude": longitude, "elevation": elevation}


def vector(axes: str) -> Callable[[Any], dict[str, float]]:
    """VEC2, VEC3, VEC4: a converter to an object with a number for each of these axes."""

    def as_vector(value: Any) -> dict[str, float]:
        return dict(zip(axes, _numbers(_object(value), tuple(axes)), strict=True))

    return as_vector


def as_timespan(value: Any) -> dict[str, Any]:
    """TIMESPAN: `start` and `end` as DATETIME, and a `period`, text that may be empty."""
    found = dict(_object(value))
    period = found.pop("period", "")
    if found.keys() != {"start", "end"} or type(period) is not str:
        raise Unfit
    return {"start": as_datetime(found["start"]), "end": as_datetime(found["end"]), "period": period}


def as_json(value: Any) -> Any:
    """JSON: an object or an array."""
    found = parsed(value)
    if type(found) is not dict and type(found) is not list:
        raise Unfit
    _check(found, MAX_LEVELS)
    return found


def as_query(value: Any) -> Any:
    """QUERY: an object."""
    found = as_json(value)
    if type(found) is not dict:
        raise Unfit
    return found


def _object(value: Any) -> dict[str, Any]:
    found = parsed(value)
    if type(found) is not dict:
        raise Unfit
    return found


def _numbers(found: dict[str, Any], names: tuple[str, ...]) -> list[float]:
    if found.keys() != set(names):
        raise Unfit
    return [as_number(found[name]) for name in names]


def _check(value: Any, levels: int) -> None:
    """Refuse what would be written as something else, or not at all: NaN, huge numbers, too many levels."""
    kind = type(value)
    if kind is dict or kind is list:
        if levels == 0:
            raise Unfit(f"more than {MAX_LEVELS} levels")
        for item in value.values() if kind is dict else value:
            _check(item, levels - 1)
    elif (kind is float and not math.isfinite(value)) or (
        kind is int and not _LONG_MIN <= value <= _UNSIGNED_MAX
    ):
        raise Unfit("a number that JSON can't hold")
