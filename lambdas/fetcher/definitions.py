"""Property definitions of many Things, many requests at once.

Only what can be delivered is kept: properties of the category, of a supported base type. A Thing that
can't be read is reported with its reason and harms no other; a platform that doesn't answer at all is
an error of the whole, so that the step is tried again later instead of finding nothing.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lambdas.fetcher.retry import persistently
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.shared.shape import Property, Shape, shape_id, to_item
from lambdas.thingworx.base_types import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambdas.fetcher.listing import Services

__all__ = ["BUILT_IN", "Definitions", "fetch_definitions", "shape_of"]

#: Properties that every Thing has and the platform itself keeps.
BUILT_IN = frozenset(
    {
        "description",
        "isConnected",
        "isInitialStateSynchronized",
        "isReporting",
        "lastConnection",
        "lastInitialStateSynchronized",
        "name",
        "reportingLastChange",
        "reportingLastEvaluation",
        "tags",
        "thingTemplate",
    }
)


@dataclass
class Definitions:
    """What a packet's Things take.

    Attributes:
        things: Thing name -> shape id; the shape is empty when a Thing has nothing to deliver to.
        shapes: shape id -> shape.
        failed: Thing name -> why it couldn't be read.
        unsupported: Thing name -> properties left out, since their base type isn't supported.
    """

    things: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, list[str]] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """The staged form."""
        return {
            "things": self.things,
            "shapes": {name: to_item(shape) for name, shape in self.shapes.items()},
            "failed": self.failed,
            "unsupported": self.unsupported,
        }


def fetch_definitions(
    services: Services, names: Sequence[str], category: str, *, concurrency: int
) -> Definitions:
    """Read the definitions of all Things named.

    Args:
        services: the platform.
        names: Thing names.
        category: property category whose properties are delivered.
        concurrency: requests under way at once.

    Raises:
        ThingworxUnavailable: several Things in a row got no answer, each at several tries.
        ThingworxRefused: the platform refuses us.
    """
    reader = _Reader(services, category, patience=max(concurrency, 4))
    found = Definitions()
    pool = ThreadPoolExecutor(concurrency)
    try:
        for name, rows in zip(names, pool.map(reader.read, names), strict=True):
            if isinstance(rows, str):
                found.failed[name] = rows
                continue
            shape, unsupported = shape_of(rows)
            id_ = shape_id(shape)
            found.things[name] = id_
            found.shapes[id_] = shape
            if unsupported:
                found.unsupported[name] = unsupported
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def shape_of(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Property], list[str]]:
    """Shape made of rows of GetPropertyDefinitions, and the properties left out for their base type."""
    shape: dict[str, Property] = {}
    unsupported: list[str] = []
    for row in rows:
        name, base_type = row.get("name"), row.get("baseType")
        if not name or name in BUILT_IN:
            continue
        if base_type in SUPPORTED:
            shape[name] = Property(base_type, name)
        else:
            unsupported.append(name)
    return dict(sorted(shape.items())), sorted(unsupported)


class _Reader:
    """Reads one Thing at a time, from many threads, and knows when to stop trying.

    Args:
        services: the platform.
        category: property category.
        patience: how many Things in a row may get no answer before the platform counts as down.
    """

    def __init__(self, services: Services, category: str, patience: int) -> None:
        self._services = services
        self._category = category
        self._patience = patience
        self._silent = 0
        self._lock = threading.Lock()

    def read(self, name: str) -> list[dict[str, Any]] | str:
        """Rows of the definitions, or why they can't be read."""
        try:
            table = persistently(
                lambda: self._services.service(
                    "Things", name, "GetPropertyDefinitions", {"category": self._category}
                )
            )
        except ThingworxUnavailable as error:
            self._count_silence(error)
            return str(error)
        except ThingworxCallFailed as error:
            self._answered()
            return str(error)
        self._answered()
        return table.rows if table is not None else []

    def _answered(self) -> None:
        with self._lock:
            self._silent = 0

    def _count_silence(self, error: ThingworxUnavailable) -> None:
        with self._lock:
            self._silent += 1
            if self._silent >= self._patience:
                raise error
