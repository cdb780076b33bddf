"""The table of base types: which JSON value a property of each type takes, and as what.

| base type | takes | becomes |
| --- | --- | --- |
| NUMBER | a finite number, or text that is one | float (IEEE double, as on the platform) |
| INTEGER | a whole number of 32 bits (`10.0` is whole), or text that is one | int |
| BOOLEAN | `true`, `false`, 0, 1, or the text `true` or `false` in any case | bool |
| STRING | text; a number or a boolean as its JSON text | str |

A value is taken when nothing is lost by it and refused otherwise. ThingWorx's own casts go further:
its Azure IoT Hub connector documents that any number but 0 and the text `"2"` are true and that any
other text is false. Taking `"on"` as false or 10.5 as 10 would hide a fault of the device, so those
are refused and can be seen. A boolean is no number; no base type takes an object, an array or null.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lambdas.shared.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SUPPORTED", "ValueRefused", "convert"]

_INTEGER_MIN, _INTEGER_MAX = -(2**31), 2**31 - 1
_LONG_BITS = 64
_EXCERPT = 60


class ValueRefused(ConnectorError):  # noqa: N818 - names what happened to the value
    """A value that its property's base type doesn't take.

    Attributes:
        reason: what was expected and what came, for example
            `NUMBER takes a finite number; got the text "warm"`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """The converter doesn't take the value."""


class _BaseType(NamedTuple):
    takes: str
    converter: Callable[[Any], Any]


def convert(base_type: str, value: Any) -> Any:
    """`value`, as parsed from JSON, in the form that `base_type` is kept and sent in.

    Args:
        base_type: ThingWorx base type, upper case; one of `SUPPORTED`.
        value: what a JSON parser gives: str, int, float, bool, None, list or dict.

    Raises:
        ValueRefused: the base type doesn't take this value, or isn't supported.
    """
    row = _TABLE.get(base_type)
    if row is None:
        raise ValueRefused(f"base type {base_type} is not supported")
    try:
        return row.converter(value)
    except _Unfit:
        raise ValueRefused(f"{base_type} takes {row.takes}; got {_described(value)}") from None


def _number(value: Any) -> float:
    kind = type(value)
    if kind is str:
        value = _number_in(value)
    elif kind is not float and kind is not int:
        raise _Unfit
    try:
        number = float(value)
    except OverflowError:
        raise _Unfit from None
    if not math.isfinite(number):
        raise _Unfit
    return number


def _integer(value: Any) -> int:
    if type(value) is str:
        value = _number_in(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not _INTEGER_MIN <= value <= _INTEGER_MAX:
        raise _Unfit
    return value


def _boolean(value: Any) -> bool:
    kind = type(value)
    if kind is bool:
        return bool(value)
    if kind is str and value.lower() in ("true", "false"):
        return bool(value.lower() == "true")
    if kind in (int, float) and value in (0, 1):
        return bool(value)
    raise _Unfit


def _string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if (kind is int and _printable(value)) or (kind is float and math.isfinite(value)):
        return repr(value)
    raise _Unfit


def _number_in(text: str) -> int | float:
    """The number that `text` is, by JSON's grammar: no `+5`, no `1,5`, no `0x10`, no `NaN`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _Unfit from None
    if type(value) is int or type(value) is float:
        return value
    raise _Unfit


def _printable(value: int) -> bool:
    """Python refuses to print integers of many thousand digits, and no JSON parser here gives any."""
    return value.bit_length() <= _LONG_BITS


def _described(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        text = value if len(value) <= _EXCERPT else f"{value[:_EXCERPT]}..."
        return f'the text "{text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if _printable(value) else f"a number of {value.bit_length()} bits"
    return "an object" if isinstance(value, dict) else "an array"


_TABLE: dict[str, _BaseType] = {
    "NUMBER": _BaseType("a finite number", _number),
    "INTEGER": _BaseType(f"a whole number from {_INTEGER_MIN} to {_INTEGER_MAX}", _integer),
    "BOOLEAN": _BaseType("true, false, 0 or 1", _boolean),
    "STRING": _BaseType("text, a number or a boolean", _string),
}

#: Base types that a property may have to be connected; properties of others are left out.
SUPPORTED = frozenset(_TABLE)
