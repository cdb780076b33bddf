"""ThingWorx's InfoTable in its JSON form: a data shape and rows.

Form: `{"dataShape": {"fieldDefinitions": {name: {name, baseType, aspects}}}, "rows": [{...}]}`;
a missing cell is an absent key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.thingworx.json_forms import for_rest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["InfoTable", "ValueRow", "entity_list", "named_vtq"]


class InfoTable(NamedTuple):
    """An answer of the platform.

    Attributes:
        fields: field name -> base type.
        rows: one dict a row.
    """

    fields: dict[str, str]
    rows: list[dict[str, Any]]

    @classmethod
    def from_json(cls, document: Any) -> InfoTable:
        """Table from decoded JSON.

        Raises:
            ValueError: the document is no InfoTable.
        """
        try:
            definitions = document["dataShape"]["fieldDefinitions"]
            rows = document["rows"]
            fields = {name: str(entry["baseType"]) for name, entry in definitions.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an InfoTable: {type(error).__name__}: {error}") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("not an InfoTable: rows is no list of objects")
        return cls(fields, rows)


class ValueRow(NamedTuple):
    """One property's value at one time, as it is pushed.

    Attributes:
        name: edge name of the property.
        base_type: ThingWorx base type of `value`.
        value: value in the base type's JSON form, as `convert` keeps it.
        time: milliseconds since 1970, UTC.
        quality: `GOOD`, `BAD` or another of the platform's quality names.
    """

    name: str
    base_type: str
    value: Any
    time: int
    quality: str = "GOOD"


def _shape(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        "fieldDefinitions": {
            name: {"name": name, "baseType": base_type, "aspects": {}} for name, base_type in fields.items()
        }
    }


def named_vtq(rows: Sequence[ValueRow]) -> dict[str, Any]:
    """JSON form of a NamedVTQ table, the input of the `Update...PropertyValues` services."""
    return {
        "dataShape": _shape({"name": "STRING", "time": "DATETIME", "value": "VARIANT", "quality": "STRING"}),
        "rows": [
            {
                "name": row.name,
                "time": row.time,
                "value": for_rest(row.base_type, row.value),
                "quality": row.quality,
            }
            for row in rows
        ],
    }


def entity_list(names: Iterable[str]) -> dict[str, Any]:
    """JSON form of an EntityList table: names of things, properties or fields."""
    return {
        "dataShape": _shape({"name": "STRING", "description": "STRING"}),
        "rows": [{"name": name} for name in names],
    }
