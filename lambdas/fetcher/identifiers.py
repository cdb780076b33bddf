"""Things with an identifier: the platform lets an edge bind them by that only, and not by their name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.fetcher.listing import rows_of
from lambdas.shared.errors import ThingworxCallFailed

if TYPE_CHECKING:
    from lambdas.fetcher.listing import Services

__all__ = ["identified"]

#: Things that are asked for their identifier in one run.
_MOST = 200
#: So many without one, and the search doesn't filter by identifiers.
_ENOUGH = 20


def identified(services: Services, tag: str) -> list[str]:
    """Names of tagged Things that have an identifier, sorted; at most 200.

    A search finds them, and each is asked, since platforms differ in what an identifier's pattern matches.

    Raises:
        ThingworxUnavailable: the platform doesn't answer now.
        ThingworxRefused: the platform refuses us.
    """
    found: list[str] = []
    without = 0
    for name in _candidates(services, tag):
        if _has_one(services, name):
            found.append(name)
        else:
            without += 1
            if without >= _ENOUGH:
                break
    return sorted(found)


def _candidates(services: Services, tag: str) -> list[str]:
    parameters = {
        "modelTags": tag,
        "types": {"items": ["Thing"]},
        "identifierSearchExpression": "?*",
        "maxItems": _MOST,
        "maxSearchItems": 1_000_000,
    }
    try:
        rows = rows_of(services, ("Resources", "SearchFunctions", "SearchThings"), parameters)
        found = rows[0]["commonResults"]["rows"] if rows else []
        return [row["name"] for row in found]
    except (ThingworxCallFailed, KeyError, TypeError):
        return []  # a platform that can't be searched like this: its binds will tell


def _has_one(services: Services, thing: str) -> bool:
    try:
        rows = rows_of(services, ("Things", thing, "GetIdentifier"), {})
    except ThingworxCallFailed:
        return False
    return bool(rows and rows[0].get("result"))
