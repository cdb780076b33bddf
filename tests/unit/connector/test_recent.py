"""Repeats are recognised as long as there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector.recent import RecentIds


@given(ids=st.lists(st.sampled_from("abcdefgh"), max_size=50), limit=st.integers(1, 6))
def test_it_knows_exactly_the_last_ids_added(ids: list[str], limit: int) -> None:
    recent = RecentIds(limit)
    for entry in ids:
        recent.add(entry)
    latest = list(dict.fromkeys(reversed(ids)))[:limit]
    assert {entry for entry in "abcdefgh" if entry in recent} == set(latest)
    assert len(recent) == len(latest)
