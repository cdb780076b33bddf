"""Values and tables survive the wire, and what has no form there is refused before anything is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NOTHING,
    BaseType,
    Field,
    InfoTable,
    Location,
    ThingCode,
    Timespan,
    Value,
    decode_infotable,
    decode_value,
    encode_infotable,
    encode_value,
)
from lambdas.thingworx.alwayson.decode import MAX_DEPTH
from tests.unit.thingworx.alwayson import strategies


@pytest.mark.parametrize("base_type", sorted(set(BaseType) - {BaseType.VARIANT, BaseType.INFOTABLE}))
def test_every_base_type_survives_the_wire(base_type: BaseType) -> None:
    @settings(max_examples=15, deadline=None)
    @given(strategies.simple_of(base_type))
    def survives(value: Value) -> None:
        assert decode_value(encode_value(value)) == value

    survives()


@settings(max_examples=150, deadline=None)
@given(strategies.values)
def test_values_within_values_survive_the_wire(value: Value) -> None:
    assert decode_value(encode_value(value)) == value


@settings(max_examples=100, deadline=None)
@given(strategies.tables, st.binary(max_size=4))
def test_tables_survive_the_wire_and_bytes_after_them_are_counted(table: InfoTable, trailing: bytes) -> None:
    assert decode_infotable(encode_infotable(table) + trailing) == (table, len(trailing))


@settings(max_examples=60, deadline=None)
@given(strategies.values)
def test_value_cut_short_at_any_byte_is_refused(value: Value) -> None:
    data = encode_value(value)
    for size in range(len(data)):
        with pytest.raises(WireError):
            decode_value(data[:size])


@pytest.mark.parametrize(
    ("base_type", "number"),
    [
        (BaseType.SCHEDULE, 17),
        (BaseType.VARIANT, 18),
        (BaseType.GUID, 20),
        (BaseType.LONG, 23),
        (BaseType.EVENTNAME, 52),
        (BaseType.THINGTEMPLATENAME, 102),
        (BaseType.DATASHAPENAME, 104),
        (BaseType.ORGANIZATIONNAME, 119),
        (BaseType.DASHBOARDNAME, 120),
        (BaseType.PROJECTNAME, 123),
        (BaseType.THINGCODE, 127),
        (BaseType.NOTHING, -1),
    ],
)
def test_base_types_have_the_numbers_of_the_vendor(base_type: BaseType, number: int) -> None:
    assert base_type == number


@pytest.mark.parametrize(
    ("length", "prefix"), [(0, "00"), (127, "7f"), (128, "80000080"), (70_000, "80011170")]
)
def test_text_has_one_byte_of_length_below_128_and_four_from_there(length: int, prefix: str) -> None:
    data = encode_value(Value(BaseType.STRING, "a" * length))
    assert data.hex().startswith("00" + prefix)
    assert len(data) == 1 + len(prefix) // 2 + length


def test_length_of_text_counts_bytes() -> None:
    assert encode_value(Value(BaseType.STRING, "é" * 64))[1:5].hex() == "80000080"


def test_length_of_bytes_always_takes_four() -> None:
    assert encode_value(Value(BaseType.BLOB, b"")).hex() == "1500000000"


def test_location_is_written_longitude_first() -> None:
    data = encode_value(Value(BaseType.LOCATION, Location(longitude=5.1, latitude=52.1, elevation=2.0)))
    assert data.hex() == "064014666666666666404a0ccccccccccd4000000000000000"


def test_not_a_number_survives_the_wire() -> None:
    assert math.isnan(decode_value(encode_value(Value(BaseType.NUMBER, math.nan))).value)


@pytest.mark.parametrize(
    ("base_type", "value"),
    [
        (BaseType.NOTHING, 0),
        (BaseType.NUMBER, "1"),
        (BaseType.NUMBER, None),
        (BaseType.NUMBER, 10**400),
        (BaseType.BOOLEAN, 1),
        (BaseType.INTEGER, 2**31),
        (BaseType.INTEGER, 1.5),
        (BaseType.LONG, -(2**63) - 1),
        (BaseType.DATETIME, 1.5),
        (BaseType.STRING, None),
        (BaseType.STRING, b"text"),
        (BaseType.STRING, "\ud800"),
        (BaseType.BLOB, 5),
        (BaseType.BLOB, "text"),
        (BaseType.TIMESPAN, (1, 2)),
        (BaseType.TIMESPAN, Timespan(1, 2**63, "")),
        (BaseType.LOCATION, (1.0, 2.0)),
        (BaseType.VEC4, (1.0, 2.0, 3.0)),
        (BaseType.THINGCODE, ThingCode(2**31, 0)),
        (BaseType.VARIANT, 1.0),
        (BaseType.INFOTABLE, {"rows": []}),
        (19, "text"),
    ],
)
def test_value_that_is_not_of_its_base_type_is_refused(base_type: BaseType, value: Any) -> None:
    table = InfoTable({"x": Field(BaseType.VARIANT)}, [(NOTHING,), (Value(base_type, value),)])
    with pytest.raises(WireError) as caught:
        encode_infotable(table)
    assert caught.value.field.startswith("rows[1].x")
    assert caught.value.offset is None


def nested(depth: int, hold: BaseType) -> Value:
    value = Value(BaseType.INTEGER, 1)
    for _ in range(depth):
        if hold is BaseType.VARIANT:
            value = Value(BaseType.VARIANT, value)
        else:
            value = Value(BaseType.INFOTABLE, InfoTable({"x": Field(value.base_type)}, [(value,)]))
    return value


@pytest.mark.parametrize("hold", [BaseType.VARIANT, BaseType.INFOTABLE])
def test_nesting_goes_to_its_limit_and_not_beyond(hold: BaseType) -> None:
    deepest = nested(MAX_DEPTH, hold)
    assert decode_value(encode_value(deepest)) == deepest
    with pytest.raises(WireError, match="deep"):
        encode_value(nested(MAX_DEPTH + 1, hold))


def test_row_shorter_than_its_data_shape_is_filled_with_nulls() -> None:
    fields = {"a": Field(BaseType.INTEGER), "b": Field(BaseType.STRING), "c": Field(BaseType.STRING)}
    one = Value(BaseType.INTEGER, 1)
    full = encode_infotable(InfoTable(fields, [(one, NOTHING, NOTHING)]))
    assert encode_infotable(InfoTable(fields, [(one,)])) == full
    short = full.replace(bytes.fromhex("0100031600000001ffff"), bytes.fromhex("0100011600000001"))
    assert len(short) == len(full) - 2
    assert decode_infotable(short)[0].rows == [(one, NOTHING, NOTHING)]


def test_row_longer_than_its_data_shape_is_refused() -> None:
    with pytest.raises(WireError, match="2 cells for 1 fields"):
        encode_infotable(InfoTable({"a": Field(BaseType.STRING)}, [(NOTHING, NOTHING)]))


def test_cell_keeps_its_own_type_where_the_field_declares_another() -> None:
    table = InfoTable({"type": Field(BaseType.THINGNAME)}, [(Value(BaseType.STRING, "Pump"),)])
    assert decode_infotable(encode_infotable(table))[0] == table


def test_aspects_and_the_primary_key_survive_the_wire() -> None:
    aspects = {"isPrimaryKey": Value(BaseType.BOOLEAN, True), "units": Value(BaseType.STRING, "bar")}  # noqa: FBT003 - it is the value
    table = InfoTable({"p": Field(BaseType.NUMBER), "id": Field(BaseType.STRING, "key", aspects)})
    again, _ = decode_infotable(encode_infotable(table))
    assert again == table
    assert again.primary_key == "id"
    assert InfoTable({"p": Field(BaseType.NUMBER)}).primary_key is None


def test_table_is_built_of_plain_values() -> None:
    table = InfoTable.build(
        {"name": BaseType.STRING, "value": BaseType.VARIANT},
        [{"name": "Temp", "value": Value(BaseType.NUMBER, 1.5)}, {"name": None}],
    )
    assert list(table.records()) == [
        {
            "name": Value(BaseType.STRING, "Temp"),
            "value": Value(BaseType.VARIANT, Value(BaseType.NUMBER, 1.5)),
        },
        {"name": NOTHING, "value": NOTHING},
    ]
    assert table.first("name").value == "Temp"
    assert table.first("absent") is NOTHING
    assert InfoTable({}).first("name") is NOTHING


def test_table_of_values_has_one_row() -> None:
    table = InfoTable.of({"a": Value(BaseType.NUMBER, 1.0), "b": Value(BaseType.NUMBER, 2.0)})
    assert encode_infotable(table).hex() == (
        "010161000100000101620001000000010002013ff000000000000001400000000000000000"
    )
