"""Names of all Things that carry a tag, however many there are.

The platform's search services stop at 500 rows without a sign unless `maxItems` is sent, so it always
is. Only the `...Optimized` queries page; where a platform is too old to have them, the whole list is
asked for at once, and a list as long as the limit is an error, never a shorter fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lambdas.fetcher.retry import persistently
from lambdas.shared.chunks import chunks
from lambdas.shared.errors import ThingworxCallFailed, ThingworxError
from lambdas.thingworx.infotable import entity_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.thingworx.infotable import InfoTable

__all__ = ["Services", "list_things", "packets_of"]

#: Rows of a page.
PAGE = 1000
#: Rows asked for twice, since a Thing deleted while paging moves all later ones up by one.
OVERLAP = 50
#: Rows of an answer without pages.
WHOLE = 1_000_000
#: What a state machine's Map may iterate over, and the least that is worth an invocation.
MAX_PACKETS = 200
MIN_PACKET = 500

_NOT_FOUND = 404
_NO_SERVICE = "No service handler defined"


class Services(Protocol):
    """Calls a service of the platform; `RestClient` is one."""

    def service(
        self, collection: str, entity: str, service: str, parameters: dict[str, Any] | None = None
    ) -> InfoTable | None:
        """The result table of one call."""


def list_things(services: Services, tag: str) -> list[str]:
    """Names of the Things with a tag, sorted, each once.

    Args:
        services: the platform.
        tag: `vocabulary:term`.

    Raises:
        ThingworxError: the platform doesn't answer, refuses, or cuts the list off.
    """
    ways: list[Callable[[Services, str], Iterable[str]]] = [_paged, _by_tag, _by_type]
    for way in ways[:-1]:
        try:
            return sorted(set(way(services, tag)))
        except ThingworxCallFailed as error:
            if not _absent(error):
                raise
    return sorted(set(ways[-1](services, tag)))


def packets_of(names: list[str]) -> list[list[str]]:
    """Work packets of the names: at least one, at most 200, of 500 names or more."""
    size = max(MIN_PACKET, -(-len(names) // MAX_PACKETS))
    return [list(packet) for packet in chunks(names, size)] or [[]]


def _absent(error: ThingworxCallFailed) -> bool:
    """Whether the platform has no such service: 404, or 500 with a sentence that says so."""
    return error.status == _NOT_FOUND or _NO_SERVICE in error.reason


def _paged(services: Services, tag: str) -> Iterable[str]:
    names: list[str] = []
    offset = 0
    while True:
        parameters = {
            "offset": offset,
            "maxItems": PAGE,
            "tags": tag,
            "basicPropertyNames": entity_list(["name"]),
            # Without this the platform adds every property of every Thing.
            "propertyNames": entity_list([]),
            "query": {"sorts": [{"fieldName": "name", "isAscending": True}]},
        }
        page = _rows(
            services, ("ThingTemplates", "GenericThing", "QueryImplementingThingsOptimized"), parameters
        )
        names += _names(page)
        if len(page) < PAGE:
            return names
        offset += PAGE - OVERLAP


def _by_tag(services: Services, tag: str) -> Iterable[str]:
    parameters = {"tags": tag, "types": {"items": ["Thing"]}, "maxItems": WHOLE}
    rows = _whole(services, ("Resources", "SearchFunctions", "SearchModelTags"), parameters)
    return _names([row for row in rows if row.get("type", "Thing") == "Thing"])


def _by_type(services: Services, tag: str) -> Iterable[str]:
    parameters = {"type": "Thing", "tags": tag, "maxItems": WHOLE}
    return _names(_whole(services, ("Resources", "EntityServices", "GetEntityList"), parameters))


def _whole(
    services: Services, service: tuple[str, str, str], parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = _rows(services, service, parameters)
    if len(rows) >= WHOLE:
        raise ThingworxError(
            f"{service[2]} answers {len(rows)} Things, as many as it was asked for: there may be more; "
            "this platform can't list them page by page"
        )
    return rows


def _rows(
    services: Services, service: tuple[str, str, str], parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    table = persistently(lambda: services.service(*service, parameters))
    return table.rows if table is not None else []


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows if row.get("name")]
