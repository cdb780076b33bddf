"""Any value, table and message that the wire can carry."""

from __future__ import annotations

from hypothesis import strategies as st

from lambdas.thingworx.alwayson import (
    NOTHING,
    Auth,
    BaseType,
    Bind,
    Field,
    Gateway,
    Ids,
    InfoTable,
    Location,
    Message,
    Method,
    Other,
    Request,
    Response,
    ThingCode,
    Timespan,
    Value,
)

_OWN_FORM = {
    BaseType.NOTHING,
    BaseType.NUMBER,
    BaseType.BOOLEAN,
    BaseType.DATETIME,
    BaseType.TIMESPAN,
    BaseType.INFOTABLE,
    BaseType.LOCATION,
    BaseType.IMAGE,
    BaseType.VARIANT,
    BaseType.BLOB,
    BaseType.INTEGER,
    BaseType.LONG,
    BaseType.VEC2,
    BaseType.VEC3,
    BaseType.VEC4,
    BaseType.THINGCODE,
}
TEXT_TYPES = sorted(set(BaseType) - _OWN_FORM)

texts = st.text(max_size=20) | st.sampled_from(["a" * 127, "a" * 128, "é" * 64, "é中😀", "x" * 300])
names = st.text(min_size=1, max_size=12)
doubles = st.floats(allow_nan=False)
int32s = st.integers(-(2**31), 2**31 - 1)
int64s = st.integers(-(2**63), 2**63 - 1)
blobs = st.binary(max_size=40)
ids = st.builds(Ids, *[st.integers(0, 2**32 - 1)] * 3)

_SIMPLE: dict[BaseType, st.SearchStrategy[object]] = {
    BaseType.NOTHING: st.none(),
    BaseType.NUMBER: doubles,
    BaseType.BOOLEAN: st.booleans(),
    BaseType.DATETIME: int64s,
    BaseType.TIMESPAN: st.builds(Timespan, int64s, int64s, texts),
    BaseType.LOCATION: st.builds(Location, doubles, doubles, doubles),
    BaseType.IMAGE: blobs,
    BaseType.BLOB: blobs,
    BaseType.INTEGER: int32s,
    BaseType.LONG: int64s,
    BaseType.VEC2: st.tuples(doubles, doubles),
    BaseType.VEC3: st.tuples(doubles, doubles, doubles),
    BaseType.VEC4: st.tuples(doubles, doubles, doubles, doubles),
    BaseType.THINGCODE: st.builds(ThingCode, int32s, int64s),
    **dict.fromkeys(TEXT_TYPES, texts),
}


def simple_of(base_type: BaseType) -> st.SearchStrategy[Value]:
    """Values of one base type that holds no other values."""
    return st.builds(Value, st.just(base_type), _SIMPLE[base_type])


simple_values = st.sampled_from(sorted(_SIMPLE)).flatmap(simple_of)


def _tables(cells: st.SearchStrategy[Value]) -> st.SearchStrategy[InfoTable]:
    fields = st.builds(Field, st.sampled_from(BaseType), texts, st.dictionaries(names, cells, max_size=2))
    shapes = st.dictionaries(names, fields, max_size=3)
    return shapes.flatmap(
        lambda shape: st.builds(
            InfoTable,
            st.just(shape),
            st.lists(st.tuples(*[cells | st.just(NOTHING)] * len(shape)), max_size=3),
        )
    )


def _holding(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.builds(Value, st.just(BaseType.VARIANT), values) | st.builds(
        Value, st.just(BaseType.INFOTABLE), _tables(values)
    )


values = st.recursive(simple_values, _holding, max_leaves=6)
tables = _tables(values)

requests = st.builds(
    Request,
    ids,
    st.sampled_from([Method.GET, Method.PUT, Method.POST, Method.DELETE]),
    st.integers(0, 255),
    texts,
    st.integers(0, 255),
    texts,
    st.none() | tables,
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
)
responses = st.builds(Response, ids, st.integers(0x40, 0xFF), st.none() | texts, st.none() | tables)
binds = st.builds(
    Bind,
    ids,
    st.lists(texts, max_size=8).map(tuple),
    st.none() | st.builds(Gateway, texts, texts),
    st.sampled_from([Method.BIND, Method.UNBIND]),
)
auths = st.builds(
    Auth, ids, st.dictionaries(texts, texts, max_size=3), st.sampled_from([Method.AUTH, Method.CLEARAUTH])
)
others = st.builds(Other, ids, st.sampled_from([0x00, 0x05, 0x1F, 0x3F]), blobs)
messages: st.SearchStrategy[Message] = requests | responses | binds | auths | others
