"""Shapes keep their content in every form, and their id means one content."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.shape import (
    Property,
    shape_from_item,
    shape_from_pairs,
    shape_id,
    to_item,
    to_pairs,
)

SHAPES = st.dictionaries(
    st.text(max_size=8),
    st.builds(Property, st.sampled_from(["NUMBER", "STRING"]), st.text(max_size=8)),
    max_size=5,
)


@given(SHAPES)
def test_both_forms_keep_everything(shape: dict[str, Property]) -> None:
    assert shape_from_pairs(to_pairs(shape)) == shape
    assert shape_from_item(to_item(shape)) == shape


@given(SHAPES, SHAPES)
def test_an_id_means_one_content_whatever_its_order(
    one: dict[str, Property], other: dict[str, Property]
) -> None:
    assert shape_id(one) == shape_id(dict(reversed(one.items())))
    assert (shape_id(one) == shape_id(other)) == (one == other)
    assert len(shape_id(one)) == 16


def test_an_id_stays_the_same_from_release_to_release() -> None:
    assert shape_id({"temp": Property("NUMBER", "Temp")}) == "4c177c65f2ca1f52"
