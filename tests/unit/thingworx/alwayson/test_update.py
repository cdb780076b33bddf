"""The fast way writes the same bytes as the general one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NAMED_VTQ,
    BaseType,
    Ids,
    InfoTable,
    Method,
    Reassembler,
    Request,
    Value,
    encode_message,
    encode_update,
    to_wire,
)
from lambdas.thingworx.infotable import ValueRow
from tests.unit.thingworx import kept_values
from tests.unit.thingworx.alwayson import strategies
from tests.unit.thingworx.alwayson.corpus import BY_NAME

IDS = Ids(10, 0, 777)


def request_of(thing: str, rows: list[ValueRow]) -> Request:
    table = InfoTable.build(
        NAMED_VTQ, [{**row._asdict(), "value": to_wire(row.base_type, row.value)} for row in rows]
    )
    params = InfoTable.of({"values": Value(BaseType.INFOTABLE, table)})
    return Request(IDS, Method.POST, 10, thing, 2, "UpdateSubscribedPropertyValues", params)


rows_of_any_type = st.lists(
    st.builds(
        lambda name, typed, time, quality: ValueRow(name, typed[0], typed[1], time, quality),
        strategies.texts,
        kept_values.any_typed,
        strategies.int64s,
        st.sampled_from(["GOOD", "BAD", "UNKNOWN", ""]),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(strategies.texts, rows_of_any_type)
def test_update_is_the_request_it_stands_for(thing: str, rows: list[ValueRow]) -> None:
    request = request_of(thing, rows)
    frames = encode_update(thing, rows, IDS)
    assert frames == encode_message(request)
    reassembler = Reassembler(lambda: 0.0)
    assert [reassembler.receive(frame) for frame in frames][-1] == request


def test_update_is_written_as_the_vendor_writes_it() -> None:
    rows = [
        ValueRow("Temp", "NUMBER", 21.5, 1_700_000_000_123),
        ValueRow("Name", "STRING", "Pump 7", 1_700_000_000_124),
        ValueRow("Running", "BOOLEAN", True, 1_700_000_000_125),  # noqa: FBT003 - it is the value
    ]
    vector = BY_NAME["POST UpdateSubscribedPropertyValues 3 rows mixed types"]
    assert encode_update("ThingA", rows, IDS) == [vector.data]


def test_update_larger_than_a_frame_goes_in_chunks() -> None:
    rows = [ValueRow("Temp", "NUMBER", float(index), index) for index in range(1000)]
    frames = encode_update("ThingA", rows, IDS)
    assert len(frames) > 1
    assert max(map(len, frames)) <= 8192
    assert frames == encode_message(request_of("ThingA", rows))


@pytest.mark.parametrize(
    ("base_type", "value", "time"),
    [
        ("NUMBER", None, 1),
        ("NUMBER", "1", 1),
        ("INTEGER", 2**31, 1),
        ("INTEGER", 1.5, 1),
        ("BOOLEAN", 1, 1),
        ("BOOLEAN", None, 1),
        ("STRING", None, 1),
        ("STRING", 5, 1),
        ("JSON", None, 1),
        ("LOCATION", (1.0, 2.0), 1),
        ("NOTHING", None, 1),
        ("TEMPERATURE", 1.0, 1),
        ("NUMBER", 1.0, 1.5),
        ("NUMBER", 1.0, 2**63),
        ("STRING", "x", None),
    ],
)
def test_value_that_is_not_of_its_base_type_is_refused_with_its_row(
    base_type: str, value: Any, time: Any
) -> None:
    rows = [ValueRow("ok", "NUMBER", 1.0, 1), ValueRow("bad", base_type, value, time)]
    with pytest.raises(WireError) as caught:
        encode_update("ThingA", rows, IDS)
    assert caught.value.field.startswith("params.values.rows[1]")


def test_thing_whose_name_has_no_bytes_is_refused() -> None:
    with pytest.raises(WireError, match="entityName"):
        encode_update("\ud800", [], IDS)
