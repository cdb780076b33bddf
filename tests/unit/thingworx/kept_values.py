"""Values of every base type in the form that they are kept in."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from lambdas.thingworx.base_types import TEXT_TYPES, convert

texts = st.text(max_size=12)
names = st.text(min_size=1, max_size=8)
doubles = st.floats(allow_nan=False, allow_infinity=False)
int32s = st.integers(-(2**31), 2**31 - 1)
int64s = st.integers(-(2**63), 2**63 - 1)
times = st.integers(-8_640_000_000_000_000, 8_640_000_000_000_000)
blobs = st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode())
words = st.from_regex(r"[A-Za-z]{1,5}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | int64s | doubles | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)


def _vectors(axes: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(dict.fromkeys(axes, doubles))


SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(sorted(TEXT_TYPES), texts),
    "NUMBER": doubles,
    "INTEGER": int32s,
    "LONG": int64s,
    "BOOLEAN": st.booleans(),
    "DATETIME": times,
    "TIMESPAN": st.fixed_dictionaries({"start": times, "end": times, "period": texts}),
    "LOCATION": st.fixed_dictionaries(
        {"latitude": st.floats(-90, 90), "longitude": st.floats(-180, 180), "elevation": doubles}
    ),
    "JSON": objects | st.lists(json_values, max_size=3),
    "QUERY": objects,
    "IMAGE": blobs,
    "BLOB": blobs,
    "TAGS": st.lists(st.builds("{}:{}".format, words, words), max_size=3, unique=True).map(";".join),
    "THINGCODE": st.builds("{}:{}".format, int32s, int64s),
    "VEC2": _vectors("xy"),
    "VEC3": _vectors("xyz"),
    "VEC4": _vectors("xyzw"),
}
Typed = tuple[str, Any]
simple: st.SearchStrategy[Typed] = st.sampled_from(sorted(SIMPLE)).flatmap(
    lambda base_type: st.tuples(st.just(base_type), SIMPLE[base_type])
)


def _tables(types: st.SearchStrategy[str], depth: int) -> st.SearchStrategy[Any]:
    aspects = st.dictionaries(names, st.booleans() | texts | doubles, max_size=2)
    fields = st.dictionaries(
        names,
        st.fixed_dictionaries({"baseType": types, "description": texts, "aspects": aspects}),
        max_size=3,
    )

    def rows_of(definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
        cells = {name: of(entry["baseType"], depth) for name, entry in definitions.items()}
        rows = st.lists(st.fixed_dictionaries({}, optional=cells), max_size=3)
        return rows.map(lambda found: {"dataShape": {"fieldDefinitions": definitions}, "rows": found})

    return fields.flatmap(rows_of).map(lambda table: convert("INFOTABLE", table))


def _variants(types: st.SearchStrategy[str], depth: int) -> st.SearchStrategy[Any]:
    return types.flatmap(
        lambda base_type: st.fixed_dictionaries(
            {"baseType": st.just(base_type), "value": of(base_type, depth)}
        )
    )


def of(base_type: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """Kept values of one base type."""
    types = sorted(SIMPLE) if depth > 1 else [*sorted(SIMPLE), *["INFOTABLE"] * 5]
    if base_type == "INFOTABLE":
        return _tables(
            st.sampled_from([*types, "VARIANT", "VARIANT"]) if depth < 2 else st.sampled_from(types),
            depth + 1,
        )
    if base_type == "VARIANT":
        return _variants(st.sampled_from(types), depth + 1)
    return SIMPLE[base_type]


any_typed: st.SearchStrategy[Typed] = st.sampled_from(
    [*sorted(SIMPLE), *["INFOTABLE"] * 5, *["VARIANT"] * 5]
).flatmap(lambda base_type: st.tuples(st.just(base_type), of(base_type)))
