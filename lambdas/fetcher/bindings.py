"""Remote bindings: under which edge name a property is pushed, and what is wrong with its binding.

A definition doesn't tell its binding, so a Thing must be asked once more. Where many are read, only the
first of each template and set of properties is: when it is as usual - every property bound under its own
name, and pushed - its like are taken to be so too. Otherwise each is asked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.fetcher.listing import absent, rows_of
from lambdas.shared.errors import ThingworxCallFailed
from lambdas.shared.seen import Mistake
from lambdas.shared.shape import Property

if TYPE_CHECKING:
    from lambdas.fetcher.listing import Services
    from lambdas.shared.shape import Shape

__all__ = ["Bindings", "Found"]

_NEVER = "NEVER"


class Found(NamedTuple):
    """What a Thing's bindings say.

    Attributes:
        shape: its properties with their edge names; a property that isn't bound keeps its own.
        mistakes: what its owner got wrong.
        usual: whether all is as it is for most: bound under its own name, and pushed.
    """

    shape: dict[str, Property]
    mistakes: list[Mistake]
    usual: bool


class Bindings:
    """Asks Things for their bindings; usable from many threads.

    Args:
        services: the platform.
        each: ask each Thing, not only the first of its like.
    """

    def __init__(self, services: Services, *, each: bool) -> None:
        self._services = services
        self._each = each
        self._usual: set[tuple[str | None, frozenset[tuple[str, str]]]] = set()
        self._lock = threading.Lock()

    def of(self, thing: str, template: str | None, shape: Shape) -> Found:
        """The bindings of a Thing with these properties.

        Raises:
            ThingworxUnavailable: the platform doesn't answer now.
            ThingworxRefused: the platform refuses us.
        """
        like = template, frozenset((name, found.base_type) for name, found in shape.items())
        with self._lock:
            known = not shape or (not self._each and like in self._usual)
        if known:
            return Found(dict(shape), [], usual=True)
        found = self._ask(thing, shape)
        if found.usual:
            with self._lock:
                self._usual.add(like)
        return found

    def _ask(self, thing: str, shape: Shape) -> Found:
        try:
            rows = self._call(thing, "GetPropertySubscriptions", {"options": {}})
        except ThingworxCallFailed as error:
            if absent(error) and self._has_no_bindings(thing, next(iter(shape))):
                return Found(dict(shape), [Mistake("not_remote")], usual=False)
            return Found(dict(shape), [], usual=True)  # can't be known here
        pushed = {row.get("edgeName"): row.get("pushType") for row in rows}
        found, mistakes = dict(shape), []
        for name, entry in shape.items():
            edge, push = name, pushed.get(name)
            if name not in pushed:
                binding = self._binding(thing, name)
                if binding is None:
                    mistakes.append(Mistake("not_bound", name))
                    continue
                edge, push = binding.get("sourceName") or name, binding.get("pushType")
                found[name] = Property(entry.base_type, edge)
            if push == _NEVER:
                mistakes.append(Mistake("push_never", name))
        return Found(found, mistakes, usual=not mistakes and found == shape)

    def _binding(self, thing: str, name: str) -> dict[str, Any] | None:
        """The binding of a property; None when it has none, which the platform tells by failing."""
        try:
            rows = self._call(thing, "GetRemotePropertyBinding", {"propertyName": name})
        except ThingworxCallFailed:
            return None
        return rows[0] if rows else None

    def _has_no_bindings(self, thing: str, name: str) -> bool:
        """Whether a Thing lacks this service too: then it isn't remote, and the platform not too old."""
        try:
            self._call(thing, "GetRemotePropertyBinding", {"propertyName": name})
        except ThingworxCallFailed as error:
            return absent(error)
        return False

    def _call(self, thing: str, service: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        return rows_of(self._services, ("Things", thing, service), parameters)
