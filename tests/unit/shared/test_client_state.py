"""Which of two lifecycle events says more."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.client_state import ClientState, is_newer

NOW = 1_767_268_800_000
TEN_MINUTES = 600_000


def state(connected: str, time: int = 0, version: int = 0) -> ClientState:
    return ClientState(connected == "on", NOW + time, version)


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (state("off"), state("on")),
        (state("on", 0, 1), state("off", 0, 0)),
        (state("on", -120_000, 1), state("off", 0, 0)),
        (state("on", TEN_MINUTES + 1, 0), state("off", 0, 9)),
    ],
)
def test_the_newer_event_counts_and_the_older_does_not(event: ClientState, known: ClientState) -> None:
    assert is_newer(event, known)
    assert not is_newer(known, event)


def test_anything_is_news_of_a_client_that_nothing_is_known_of() -> None:
    assert is_newer(state("off"), None)


@given(st.booleans(), st.integers(0, 10**13), st.integers(0, 100))
def test_a_duplicate_is_no_news(connected: bool, time: int, version: int) -> None:  # noqa: FBT001
    event = ClientState(connected, time, version)
    assert not is_newer(event, event)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(-120_000, 120_000)), min_size=1, max_size=4
    )
)
def test_within_minutes_the_last_one_stands_in_whatever_order_events_come(
    drawn: list[tuple[int, bool, int]],
) -> None:
    events = {
        (version, connected): ClientState(connected, NOW + time, version)
        for version, connected, time in drawn
    }
    newest = events[max(events, key=lambda key: (key[0], not key[1]))]
    for order in itertools.permutations(events.values()):
        known = None
        for event in order:
            if is_newer(event, known):
                known = event
        assert known == newest
