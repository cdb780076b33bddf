"""Names of all Things that carry a tag, however many there are, and when each was last changed.

The platform's search services stop at 500 rows without a sign unless `maxItems` is sent, so it always
is. Only the `...Optimized` queries page; where a platform is too old to have them, the whole list is
asked for at once, and a list as long as the limit is an error, never a shorter fleet. The query is one
of GenericThing, the root of all templates: a tagged Thing that isn't remote is found, and reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lambdas.fetcher.retry import persistently
from lambdas.shared.chunks import chunks
from lambdas.shared.errors import ThingworxCallFailed, ThingworxError
from lambdas.thingworx.infotable import entity_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lambdas.shared.seen import Stamp
    from lambdas.thingworx.infotable import InfoTable

__all__ = [
    "Listing",
    "Row",
    "Services",
    "absent",
    "find_things",
    "list_things",
    "packets_of",
    "rows_of",
    "things_of",
]

#: Rows of a page.
PAGE = 1000
#: Rows asked for twice, since a Thing deleted while paging moves all later ones up by one.
OVERLAP = 50
#: Times that a list is asked for a page again, since more than the overlap were deleted meanwhile.
_STEPS_BACK = 100
#: Rows of an answer without pages.
WHOLE = 1_000_000
#: What a state machine's Map may iterate over, and the least that is worth an invocation.
MAX_PACKETS = 200
MIN_PACKET = 500

_ROOT = ("ThingTemplates", "GenericThing")
_NAME = ("name",)
_ALL = ("name", "lastModifiedDate", "thingTemplate")
_NAMES_PER_QUERY = 100
_NOT_FOUND, _FORBIDDEN = 404, 403
_NO_SERVICE = "No service handler defined"


class Services(Protocol):
    """Calls a service of the platform; `RestClient` is one."""

    def service(
        self, collection: str, entity: str, service: str, parameters: dict[str, Any] | None = None
    ) -> InfoTable | None:
        """The result table of one call."""


class Row(NamedTuple):
    """What the list says of a Thing; None where the platform doesn't tell.

    Attributes:
        stamp: when it was last changed, as the platform tells the time.
        template: its template.
    """

    stamp: Stamp = None
    template: str | None = None


class Listing(NamedTuple):
    """The tagged Things.

    Attributes:
        things: by name, in the order of the names.
        way: how they were listed.
    """

    things: dict[str, Row]
    way: str


def list_things(services: Services, tag: str, way: str | None = None) -> Listing:
    """The Things with a tag, each once.

    Args:
        services: the platform.
        tag: `vocabulary:term`.
        way: how this platform was listed last, to begin with; None tries the best first.

    Raises:
        ThingworxError: the platform doesn't answer, refuses, or cuts the list off.
    """
    names = list(_WAYS)
    first = names.index(way) if way in _WAYS else 0
    for name in names[first:-1]:
        try:
            return Listing(_by_name(_WAYS[name](services, tag)), name)
        except ThingworxCallFailed as error:
            # A platform that doesn't know one of the columns fails the call; without them it tells.
            if not absent(error) and (name != names[0] or error.status == _FORBIDDEN):
                raise
    return Listing(_by_name(_WAYS[names[-1]](services, tag)), names[-1])


def find_things(services: Services, tag: str, names: Sequence[str]) -> dict[str, Row]:
    """Those of the named Things that there are and that carry the tag.

    Raises:
        ThingworxError: the platform doesn't answer, or refuses.
    """
    wanted = set(names)
    try:
        rows = [row for part in chunks(names, _NAMES_PER_QUERY) for row in _named(services, tag, part)]
    except ThingworxCallFailed as error:
        if not absent(error):
            raise
        rows = [row for name in names for row in _masked(services, tag, name)]
    return {name: row for name, row in _by_name(rows).items() if name in wanted}


def things_of(services: Services, tag: str, kind: str, name: str) -> set[str]:
    """Names of the tagged Things of a ThingTemplate or ThingShape, derived ones included.

    Raises:
        ThingworxError: the platform doesn't answer, refuses, or can't page.
    """
    return {row["name"] for row in _pages(services, tag, (f"{kind}s", name), _NAME) if row.get("name")}


def packets_of(names: list[str]) -> list[list[str]]:
    """Work packets of the names: at least one, at most 200, of 500 names or more."""
    size = max(MIN_PACKET, -(-len(names) // MAX_PACKETS))
    return [list(packet) for packet in chunks(names, size)] or [[]]


def absent(error: ThingworxCallFailed) -> bool:
    """Whether the platform has no such service: 404, or 500 with a sentence that says so."""
    return error.status == _NOT_FOUND or _NO_SERVICE in error.reason


def rows_of(
    services: Services, service: tuple[str, str, str], parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of an answer, which is asked for again while the platform is busy.

    Raises:
        ThingworxError: the platform doesn't answer, or refuses.
    """
    table = persistently(lambda: services.service(*service, parameters))
    return table.rows if table is not None else []


def _pages(
    services: Services, tag: str, entity: tuple[str, str], columns: Iterable[str]
) -> Iterator[dict[str, Any]]:
    offset = steps_back = 0
    known: set[str | None] = set()
    while True:
        parameters = {"offset": offset, "maxItems": PAGE, **_query(tag, columns)}
        page = rows_of(services, (*entity, "QueryImplementingThingsOptimized"), parameters)
        names = {row.get("name") for row in page}
        if offset and known.isdisjoint(names) and steps_back < _STEPS_BACK:
            steps_back += 1
            offset -= PAGE - OVERLAP
            continue
        known |= names
        yield from page
        if len(page) < PAGE:
            return
        offset += PAGE - OVERLAP


def _named(services: Services, tag: str, names: Sequence[str]) -> list[dict[str, Any]]:
    parameters = {"offset": 0, "maxItems": PAGE, **_query(tag, _NAME)}
    parameters["query"]["filters"] = {"type": "IN", "fieldName": "name", "values": list(names)}
    return rows_of(services, (*_ROOT, "QueryImplementingThingsOptimized"), parameters)


def _masked(services: Services, tag: str, name: str) -> list[dict[str, Any]]:
    # A name with wildcards in it matches more than itself.
    parameters = {"type": "Thing", "tags": tag, "nameMask": name, "maxItems": WHOLE}
    return rows_of(services, ("Resources", "EntityServices", "GetEntityList"), parameters)


def _query(tag: str, columns: Iterable[str]) -> dict[str, Any]:
    return {
        "tags": tag,
        "basicPropertyNames": entity_list(columns),
        # Without this the platform adds every property of every Thing.
        "propertyNames": entity_list([]),
        "query": {"sorts": [{"fieldName": "name", "isAscending": True}]},
    }


def _by_tag(services: Services, tag: str) -> list[dict[str, Any]]:
    parameters = {"tags": tag, "types": {"items": ["Thing"]}, "maxItems": WHOLE}
    rows = _whole(services, ("Resources", "SearchFunctions", "SearchModelTags"), parameters)
    return [row for row in rows if row.get("type", "Thing") == "Thing"]


def _by_type(services: Services, tag: str) -> list[dict[str, Any]]:
    parameters = {"type": "Thing", "tags": tag, "maxItems": WHOLE}
    return _whole(services, ("Resources", "EntityServices", "GetEntityList"), parameters)


def _whole(
    services: Services, service: tuple[str, str, str], parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = rows_of(services, service, parameters)
    if len(rows) >= WHOLE:
        raise ThingworxError(
            f"{service[2]} answers {len(rows)} Things, as many as it was asked for: there may be more; "
            "this platform can't list them page by page"
        )
    return rows


#: From the best to the oldest.
_WAYS: dict[str, Callable[[Services, str], Iterable[dict[str, Any]]]] = {
    "pages_with_times": lambda services, tag: _pages(services, tag, _ROOT, _ALL),
    "pages": lambda services, tag: _pages(services, tag, _ROOT, _NAME),
    "by_tag": _by_tag,
    "by_type": _by_type,
}


def _by_name(rows: Iterable[dict[str, Any]]) -> dict[str, Row]:
    found = {row["name"]: _row(row) for row in rows if row.get("name")}
    return dict(sorted(found.items()))


def _row(row: dict[str, Any]) -> Row:
    return Row(row.get("lastModifiedDate"), row.get("thingTemplate") or row.get("parentName") or None)
