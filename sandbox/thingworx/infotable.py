"""InfoTables: ThingWorx's tables of typed columns, and their JSON form.

Rows are plain dicts of native values (see `basetypes`); a missing cell is an absent key. Nothing here knows a
protocol's bytes: `to_json` gives the REST form, another front end encodes the same tables its own way.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sandbox.thingworx.errors import ParameterError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Field", "InfoTable", "Tags", "columns", "result_table", "rows_of", "to_json"]

Row = dict[str, Any]


class Tags(tuple[str, ...]):
    """Model tags of an entity, each `vocabulary:term`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a DataShape; `aspects` as (key, value) pairs, so that a shape can be hashed."""

    name: str
    base_type: str = "STRING"
    description: str = ""
    aspects: tuple[tuple[str, Any], ...] = ()


@dataclass(slots=True)
class InfoTable:
    """Columns and rows."""

    fields: tuple[Field, ...] = ()
    rows: list[Row] = field(default_factory=list)


def columns(text: str) -> tuple[Field, ...]:
    """Columns from `name` or `name:BASETYPE` words."""
    return tuple(
        Field(name, base_type or "STRING") for name, _, base_type in (w.partition(":") for w in text.split())
    )


def result_table(value: Any, base_type: str) -> InfoTable:
    """The one-row table with field `result` in which a service hands back a scalar."""
    return InfoTable((Field("result", base_type),), [{"result": value}])


def rows_of(value: Any, name: str) -> list[Row]:
    """The rows of a table given as an `InfoTable` or in its JSON form.

    Raises:
        ParameterError: It is neither, or a row is no object.
    """
    if isinstance(value, InfoTable):
        return value.rows
    rows = value.get("rows") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ParameterError(f"Parameter [{name}] is not an INFOTABLE")
    return rows


def to_json(table: InfoTable) -> dict[str, Any]:
    """The JSON form: `{"dataShape": {"fieldDefinitions": {...}}, "rows": [...]}`.

    Raises:
        PlatformError: A number is NaN or infinite; the platform then fails the whole call.
    """
    return {
        "dataShape": {"fieldDefinitions": _definitions(table.fields)},
        "rows": [_row(row.items()) for row in table.rows],
    }


def _row(cells: Iterable[tuple[str, Any]]) -> Row:
    return {name: json_value(value) for name, value in cells if value is not None}


def json_value(value: Any) -> Any:
    """A native cell value as JSON has it."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise PlatformError("JSON does not allow non-finite numbers.")
        return value
    if kind is InfoTable:
        return to_json(value)
    if kind is bytes:
        return base64.b64encode(value).decode()
    if kind is Tags:
        pairs = (tag.partition(":") for tag in value)
        return [{"vocabulary": vocabulary, "vocabularyTerm": term} for vocabulary, _, term in pairs]
    return value


@lru_cache(maxsize=512)
def _definitions(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        f.name: {
            "name": f.name,
            "description": f.description,
            "baseType": f.base_type,
            "ordinal": ordinal,
            "aspects": dict(f.aspects),
        }
        for ordinal, f in enumerate(fields)
    }
