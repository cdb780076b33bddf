"""Cutting to size: nothing lost, nothing reordered, nothing too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.chunks import chunks


@given(st.lists(st.integers()), st.integers(1, 10))
def test_chunks_are_the_whole_in_order_and_full_but_the_last(items: list[int], size: int) -> None:
    parts = list(chunks(items, size))
    assert [item for part in parts for item in part] == items
    assert all(len(part) == size for part in parts[:-1])
    assert all(1 <= len(part) <= size for part in parts)
