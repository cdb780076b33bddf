"""Templates and shapes: when they were changed, in one call for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.fetcher.listing import WHOLE, absent, rows_of
from lambdas.shared.errors import ThingworxCallFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lambdas.fetcher.listing import Row, Services
    from lambdas.shared.seen import Stamp

__all__ = ["Models", "read_models", "stamps_of_things"]

_KINDS = ("ThingTemplate", "ThingShape")
#: Come with every platform and change only with it; a search may leave them out.
_BUILT_IN = frozenset(
    {
        "ConnectionServer",
        "EMSGateway",
        "GenericThing",
        "RemoteThing",
        "RemoteThingWithFileTransfer",
        "RemoteThingWithTunnels",
        "RemoteThingWithTunnelsAndFileTransfer",
        "SDKGateway",
    }
)
_SEARCHES = ("SpotlightSearchV2", "SpotlightSearch")


class Models(NamedTuple):
    """All templates and shapes.

    Attributes:
        stamps: `ThingTemplate/{name}` or `ThingShape/{name}` -> when it was last changed.
        bases: template -> the template it is derived from, None for the root.
    """

    stamps: dict[str, Stamp]
    bases: dict[str, str | None]

    def cover(self, templates: Iterable[str]) -> bool:
        """Whether these templates, and all that they are derived from, are among them.

        A user without the right to see a template gets a list without it, and would never learn that
        it has changed.
        """
        left = set(templates) - _BUILT_IN
        while left:
            if not left <= self.bases.keys():
                return False
            left = {base for template in left if (base := self.bases[template])} - _BUILT_IN
        return True


def read_models(services: Services) -> Models | None:
    """All templates and shapes; None when the platform can't tell when they were changed.

    Raises:
        ThingworxUnavailable: the platform doesn't answer now.
        ThingworxRefused: the platform refuses us.
    """
    rows = _search(services, {"types": {"items": list(_KINDS)}})
    if rows is None:
        return None
    # A platform that doesn't know a type searches all of them.
    models = [row for row in rows if row.get("type") in _KINDS and row.get("name")]
    if any(row.get("lastModifiedDate") is None for row in models):
        return None
    stamps = {f"{row['type']}/{row['name']}": row["lastModifiedDate"] for row in models}
    bases = {row["name"]: row.get("parentName") or None for row in models if row["type"] == _KINDS[0]}
    return Models(stamps, bases)


def stamps_of_things(services: Services, tag: str, things: dict[str, Row]) -> dict[str, Row]:
    """The listed Things with the time of their last change, where their list doesn't tell but a search does.

    Raises:
        ThingworxUnavailable: the platform doesn't answer now.
        ThingworxRefused: the platform refuses us.
    """
    if all(row.stamp is not None for row in things.values()):
        return things
    rows = _search(services, {"types": {"items": ["Thing"]}, "tags": tag}) or []
    found = {row.get("name"): row for row in rows if row.get("type", "Thing") == "Thing"}
    return {
        name: row._replace(
            stamp=found.get(name, {}).get("lastModifiedDate", row.stamp),
            template=row.template or found.get(name, {}).get("parentName"),
        )
        for name, row in things.items()
    }


def _search(services: Services, parameters: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of Composer's search; None where the platform has none, or fails it."""
    everything = {"searchExpression": "*", "maxItems": WHOLE, "maxSearchItems": WHOLE}
    for search in _SEARCHES:
        try:
            return rows_of(services, ("Resources", "SearchFunctions", search), {**everything, **parameters})
        except ThingworxCallFailed as error:
            if not absent(error):
                return None
    return None
