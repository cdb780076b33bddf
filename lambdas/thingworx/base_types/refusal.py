"""How a value is refused: with what was expected and what came."""

from __future__ import annotations

from typing import Any

from lambdas.shared.errors import ConnectorError

__all__ = ["Unfit", "ValueRefused", "described", "printable"]

_LONG_BITS = 64
_EXCERPT = 60
_WORDS = {None: "null", True: "true", False: "false"}


class ValueRefused(ConnectorError):  # noqa: N818 - names what happened to the value
    """A value that its property's base type doesn't take.

    Attributes:
        reason: what was expected and what came, for example
            `NUMBER takes a finite number; got the text "warm"`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unfit(Exception):  # noqa: N818 - never leaves this package
    """A converter doesn't take the value; its text, if any, tells what is wrong inside the value."""


def described(value: Any) -> str:
    """What came, in a few words."""
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, str):
        return f'the text "{_excerpt(value)}"'
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if printable(value) else f"a number of {value.bit_length()} bits"
    if isinstance(value, dict) and value:
        return f"an object with {_excerpt(', '.join(map(str, value)))}"
    return "an object" if isinstance(value, dict) else "an array"


def printable(value: int) -> bool:
    """Python refuses to print integers of many thousand digits, and no JSON parser here gives any."""
    return value.bit_length() <= _LONG_BITS


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}..."
