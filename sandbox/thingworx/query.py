"""The QUERY base type: filters and sorts over rows.

Documented: `filters` is one leaf or an And/Or composite with a `filters` array; the leaf types below; LIKE
has the wildcards `*` and `%` (many) and `?` (one). Inferred: text compares without regard to case only for
LIKE, and missing values sort first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.basetypes import parse_tags
from sandbox.thingworx.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Predicate = Callable[[Mapping[str, Any]], bool]

__all__ = ["apply_query", "matches_mask"]


def apply_query(rows: Iterable[dict[str, Any]], query: Any) -> list[dict[str, Any]]:
    """Rows that pass `query`'s filters, in the order of its sorts.

    Raises:
        ParameterError: The query isn't of the documented form.
    """
    if not query:
        return list(rows)
    if not isinstance(query, dict):
        raise ParameterError("A query is a JSON object")
    passes = _predicate(query["filters"]) if query.get("filters") else None
    found = [row for row in rows if passes is None or passes(row)]
    for sort in reversed(query.get("sorts") or []):
        ascending = sort.get("isAscending", sort.get("ascending", True))
        found.sort(key=_sort_key(str(sort.get("fieldName"))), reverse=not ascending)
    return found


def matches_mask(mask: str, text: str) -> bool:
    """Whether text matches a mask with wildcards; the whole text, without regard to case."""
    return _compiled(mask).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compiled(mask: str) -> re.Pattern[str]:
    pieces = {"*": ".*", "%": ".*", "?": "."}
    return re.compile("".join(pieces.get(c) or re.escape(c) for c in mask), re.IGNORECASE | re.DOTALL)


def _sort_key(name: str) -> Callable[[Mapping[str, Any]], tuple[bool, Any]]:
    def key(row: Mapping[str, Any]) -> tuple[bool, Any]:
        value = row.get(name)
        comparable = value if isinstance(value, (int, float, str)) else str(value)
        return (value is not None, comparable) if value is not None else (False, 0)

    return key


def _predicate(node: Any) -> Predicate:
    if not isinstance(node, dict):
        raise ParameterError("filters is one object: a filter, or And/Or with a filters array")
    kind = str(node.get("type", "")).upper()
    if kind in {"AND", "OR"}:
        parts = [_predicate(part) for part in node.get("filters") or []]
        together = all if kind == "AND" else any
        return lambda row: together(part(row) for part in parts)
    leaf = _LEAVES.get(kind)
    if leaf is None:
        raise ParameterError(f"[{node.get('type')}] is not a filter type")
    if kind in {"IN", "NOTIN"} and not node.get("values"):
        raise ParameterError(f"An {kind} filter needs values")
    name = str(node.get("fieldName", "tags"))
    return lambda row: leaf(row.get(name), node)


def _compare(accept: Callable[[Any, Any], bool], key: str = "value") -> Callable[[Any, Any], bool]:
    def leaf(value: Any, node: Any) -> bool:
        try:
            return value is not None and accept(value, node.get(key))
        except TypeError:
            return False

    return leaf


def _like(value: Any, node: Any) -> bool:
    return value is not None and matches_mask(str(node.get("value")), str(value))


def _tagged(value: Any, node: Any) -> bool:
    return set(parse_tags(node.get("tags"))) <= set(value or ())


_LEAVES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "EQ": lambda value, node: bool(value == node.get("value")),
    "NE": lambda value, node: bool(value != node.get("value")),
    "GT": _compare(lambda value, bound: bool(value > bound)),
    "GE": _compare(lambda value, bound: bool(value >= bound)),
    "LT": _compare(lambda value, bound: bool(value < bound)),
    "LE": _compare(lambda value, bound: bool(value <= bound)),
    "LIKE": _like,
    "NOTLIKE": lambda value, node: not _like(value, node),
    "IN": lambda value, node: value in node["values"],
    "NOTIN": lambda value, node: value not in node["values"],
    "BETWEEN": lambda value, node: (
        _compare(lambda v, low: bool(v >= low), "from")(value, node)
        and _compare(lambda v, high: bool(v <= high), "to")(value, node)
    ),
    "MISSINGVALUE": lambda value, _node: value is None,
    "NOTMISSINGVALUE": lambda value, _node: value is not None,
    "TAGGEDWITH": _tagged,
    "NOTTAGGEDWITH": lambda value, node: not _tagged(value, node),
}
