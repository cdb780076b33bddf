"""Base types whose JSON form is a number, a boolean or text."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import orjson

from lambdas.shared.times import iso_milliseconds
from lambdas.thingworx.base_types.refusal import Unfit, printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FARTHEST_TIME",
    "as_base64",
    "as_boolean",
    "as_datetime",
    "as_number",
    "as_tags",
    "as_text",
    "as_thing_code",
    "whole",
]

#: Milliseconds before and after 1970: a hundred million days, as far as JavaScript's dates go.
FARTHEST_TIME = 8_640_000_000_000_000


def as_number(value: Any) -> float:
    """NUMBER."""
    kind = type(value)
    if kind is str:
        value = _number_in(value)
    elif kind is not float and kind is not int:
        raise Unfit
    try:
        number = float(value)
    except OverflowError:
        raise Unfit from None
    if not math.isfinite(number):
        raise Unfit
    return number


def whole(lowest: int, highest: int) -> Callable[[Any], int]:
    """INTEGER, LONG: a converter to whole numbers of this range."""

    def as_whole(value: Any) -> int:
        if type(value) is str:
            value = _number_in(value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise Unfit
        return value

    return as_whole


def as_boolean(value: Any) -> bool:
    """BOOLEAN."""
    kind = type(value)
    if kind is bool:
        return bool(value)
    if kind is str and value.lower() in ("true", "false"):
        return bool(value.lower() == "true")
    if kind in (int, float) and value in (0, 1):
        return bool(value)
    raise Unfit


def as_text(value: Any) -> str:
    """STRING and the other types that are text."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if (kind is int and printable(value)) or (kind is float and math.isfinite(value)):
        return repr(value)
    raise Unfit


def as_datetime(value: Any) -> int:
    """DATETIME: milliseconds since 1970, UTC; what is finer is cut off."""
    if type(value) is str:
        try:
            value = _number_in(value)
        except Unfit:
            try:
                value = iso_milliseconds(value)
            except ValueError:
                raise Unfit from None
    if type(value) is float and math.isfinite(value):
        value = math.floor(value)
    if type(value) is not int or not -FARTHEST_TIME <= value <= FARTHEST_TIME:
        raise Unfit
    return value


def as_base64(value: Any) -> str:
    """IMAGE, BLOB: base64 in the standard alphabet, padded."""
    if type(value) is not str:
        raise Unfit
    try:
        return base64.b64encode(base64.b64decode(value, validate=True)).decode()
    except ValueError:
        raise Unfit from None


def as_tags(value: Any) -> str:
    """TAGS: `Vocabulary:term` texts, each once, with semicolons between them."""
    items = value.split(";") if type(value) is str else value
    if type(items) is not list:
        raise Unfit
    return ";".join(dict.fromkeys(_tag(item) for item in items if item != ""))


def as_thing_code(value: Any) -> str:
    """THINGCODE: `domain:instance`, whole numbers of 32 and 64 bits."""
    if type(value) is not str:
        raise Unfit
    domain, _, instance = value.partition(":")
    return f"{_INT32(domain)}:{_INT64(instance)}"


def _tag(item: Any) -> str:
    if type(item) is dict and item.keys() == {"vocabulary", "vocabularyTerm"}:
        item = f"{item['vocabulary']}:{item['vocabularyTerm']}"
    if type(item) is not str or ";" in item:
        raise Unfit
    vocabulary, _, term = (part.strip() for part in item.partition(":"))
    if not vocabulary or not term:
        raise Unfit
    return f"{vocabulary}:{term}"


def _number_in(text: str) -> int | float:
    """The number that `text` is, by JSON's grammar: no `+5`, no `1,5`, no `0x10`, no `NaN`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unfit from None
    if type(value) is int or type(value) is float:
        return value
    raise Unfit


_INT32 = whole(-(2**31), 2**31 - 1)
_INT64 = whole(-(2**63), 2**63 - 1)
