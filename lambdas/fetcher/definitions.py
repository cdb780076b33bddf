"""Property definitions of many Things, many requests at once.

Only what can be delivered is kept: properties of the category, of a supported base type. A Thing that
can't be read is reported with its reason and harms no other; a platform that doesn't answer at all is
an error of the whole, so that the step is tried again later instead of finding nothing.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.fetcher.listing import rows_of
from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.shared.seen import Mistake, as_lists
from lambdas.shared.shape import Property, Shape, shape_id, to_item
from lambdas.thingworx.base_types import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lambdas.fetcher.bindings import Bindings
    from lambdas.fetcher.listing import Services

__all__ = ["BUILT_IN", "OUT_OF_TIME", "Ask", "Definitions", "fetch_definitions", "shape_of"]

#: Why a Thing wasn't read that the function's time didn't suffice for.
OUT_OF_TIME = "not read: the fetcher's time was over; the next run reads it"

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


class Ask(NamedTuple):
    """A Thing to read.

    Attributes:
        name: its name.
        template: its template, None where not known.
        before: what it was at the last run, None when it may be bound otherwise since.
        mistakes: its owner's mistakes at the last run, where `before` is known.
    """

    name: str
    template: str | None = None
    before: Shape | None = None
    mistakes: tuple[Mistake, ...] = ()


@dataclass
class Definitions:
    """What a packet's Things take.

    Attributes:
        things: Thing name -> shape id; the shape is empty when a Thing has nothing to deliver to.
        shapes: shape id -> shape.
        failed: Thing name -> why it couldn't be read.
        unsupported: Thing name -> properties left out, since their base type isn't supported.
        mistakes: Thing name -> what its owner got wrong.
    """

    things: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, list[str]] = field(default_factory=dict)
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """The staged form."""
        return {
            "things": self.things,
            "shapes": {name: to_item(shape) for name, shape in self.shapes.items()},
            "failed": self.failed,
            "unsupported": self.unsupported,
            "mistakes": as_lists(self.mistakes),
        }


def fetch_definitions(
    services: Services,
    things: Sequence[Ask],
    category: str,
    *,
    bindings: Bindings,
    concurrency: int,
    in_time: Callable[[], bool] = lambda: True,
) -> Definitions:
    """Read the definitions of all Things named.

    Args:
        services: the platform.
        things: what to read.
        category: property category whose properties are delivered.
        bindings: asks for the edge names.
        concurrency: requests under way at once.
        in_time: whether there is time for one more; the rest is left for the next run.

    Raises:
        ThingworxUnavailable: several Things in a row got no answer, each at several tries.
        ThingworxRefused: the platform refuses us.
    """
    reader = _Reader(services, category, bindings, in_time, patience=max(concurrency, 4))
    found = Definitions()
    pool = ThreadPoolExecutor(concurrency)
    try:
        for thing, read in zip(things, pool.map(reader.read, things), strict=True):
            if isinstance(read, str):
                found.failed[thing.name] = read
                continue
            shape, unsupported, mistakes = read
            id_ = shape_id(shape)
            found.things[thing.name] = id_
            found.shapes[id_] = shape
            if unsupported:
                found.unsupported[thing.name] = unsupported
            if mistakes:
                found.mistakes[thing.name] = mistakes
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


_Read = tuple[Shape, list[str], list[Mistake]]


class _Reader:
    """Reads one Thing at a time, from many threads, and knows when to stop trying.

    Args:
        services: the platform.
        category: property category.
        bindings: asks for the edge names.
        in_time: whether there is time for one more.
        patience: how many Things in a row may get no answer before the platform counts as down.
    """

    def __init__(
        self,
        services: Services,
        category: str,
        bindings: Bindings,
        in_time: Callable[[], bool],
        patience: int,
    ) -> None:
        self._services = services
        self._category = category
        self._bindings = bindings
        self._in_time = in_time
        self._patience = patience
        self._silent = 0
        self._down: ThingworxUnavailable | None = None
        self._lock = threading.Lock()

    def read(self, thing: Ask) -> _Read | str:
        """What a Thing takes, or why it can't be read."""
        if not self._in_time():
            return OUT_OF_TIME
        if self._down is not None:
            raise self._down
        try:
            read = self._read(thing)
        except ThingworxUnavailable as error:
            self._count_silence(error)
            return str(error)
        except ThingworxCallFailed as error:
            self._answered()
            return str(error)
        self._answered()
        return read

    def _read(self, thing: Ask) -> _Read:
        service = ("Things", thing.name, "GetPropertyDefinitions")
        shape, unsupported = shape_of(rows_of(self._services, service, {"category": self._category}))
        mistakes = [Mistake("unsupported_type", name) for name in unsupported]
        if thing.before is not None and _alike(shape, thing.before):
            bound = [mistake for mistake in thing.mistakes if mistake.code != "unsupported_type"]
            return thing.before, unsupported, [*mistakes, *bound]
        found = self._bindings.of(thing.name, thing.template, shape)
        return found.shape, unsupported, [*mistakes, *found.mistakes]

    def _answered(self) -> None:
        with self._lock:
            self._silent = 0

    def _count_silence(self, error: ThingworxUnavailable) -> None:
        with self._lock:
            self._silent += 1
            if self._silent >= self._patience:
                self._down = error  # whoever comes next need not find out for itself
                raise error


def _alike(one: Shape, other: Shape) -> bool:
    """Whether two shapes differ in their edge names at most."""
    return {name: found.base_type for name, found in one.items()} == {
        name: found.base_type for name, found in other.items()
    }
