"""The data shape of a Thing: which properties it takes, of which base type, under which edge name.

Things made from one template share one shape, so shapes are stored once, by a name derived from
their content: an id never means two different shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Property", "Shape", "shape_from_item", "shape_from_pairs", "shape_id", "to_item", "to_pairs"]


class Property(NamedTuple):
    """One property of a shape.

    Attributes:
        base_type: ThingWorx base type, upper case.
        edge: name under which the edge pushes it (the remote binding's source name).
    """

    base_type: str
    edge: str


Shape = Mapping[str, Property]


def to_pairs(shape: Shape) -> dict[str, list[str]]:
    """Form used in the registry and in parcels: `{property: [base type, edge name]}`."""
    return {name: [prop.base_type, prop.edge] for name, prop in shape.items()}


def shape_from_pairs(pairs: Mapping[str, Any]) -> dict[str, Property]:
    """Inverse of `to_pairs`."""
    return {name: Property(base_type, edge) for name, (base_type, edge) in pairs.items()}


def to_item(shape: Shape) -> dict[str, dict[str, str]]:
    """Form used in the control table and in staging: `{property: {"type": ..., "edge": ...}}`."""
    return {name: {"type": prop.base_type, "edge": prop.edge} for name, prop in shape.items()}


def shape_from_item(item: Mapping[str, Mapping[str, str]]) -> dict[str, Property]:
    """Inverse of `to_item`."""
    return {name: Property(entry["type"], entry["edge"]) for name, entry in item.items()}


def shape_id(shape: Shape) -> str:
    """First 16 hex digits of the SHA-256 of the shape as JSON with sorted keys."""
    text = json.dumps(to_item(shape), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
