"""The InfoTable in its JSON form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.thingworx.infotable import InfoTable, ValueRow, entity_list, named_vtq

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dataShape", "fieldDefinitions", "rows", "baseType", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_table_or_no_table(document: Any) -> None:
    try:
        table = InfoTable.from_json(document)
    except ValueError:
        return
    assert all(isinstance(row, dict) for row in table.rows)
    assert all(isinstance(base_type, str) for base_type in table.fields.values())


@pytest.mark.parametrize(
    "document", [None, [], {}, {"rows": []}, {"dataShape": {"fieldDefinitions": {}}, "rows": [1]}]
)
def test_other_json_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="not an InfoTable"):
        InfoTable.from_json(document)


def test_values_with_time_and_quality_make_a_table_that_can_be_read_back() -> None:
    document = named_vtq(
        [
            ValueRow("temp", "NUMBER", 1.5, 1000),
            ValueRow("on", "BOOLEAN", value=True, time=2000, quality="BAD"),
        ]
    )
    table = InfoTable.from_json(document)
    assert table.fields == {"name": "STRING", "time": "DATETIME", "value": "VARIANT", "quality": "STRING"}
    assert table.rows == [
        {"name": "temp", "time": 1000, "value": {"value": 1.5, "baseType": "NUMBER"}, "quality": "GOOD"},
        {"name": "on", "time": 2000, "value": {"value": True, "baseType": "BOOLEAN"}, "quality": "BAD"},
    ]


def test_a_list_of_names_may_be_empty_but_keeps_its_shape() -> None:
    assert InfoTable.from_json(entity_list(["a", "b"])).rows == [{"name": "a"}, {"name": "b"}]
    assert InfoTable.from_json(entity_list([])).fields == {"name": "STRING", "description": "STRING"}
