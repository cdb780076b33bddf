"""The breaker's record: one writer wins, whatever the others have read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.connector.breaker_store import ControlTableBreaker
from lambdas.thingworx.breaker import Tripped
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, SECOND = Tripped(1_000, "v1"), Tripped(2_000, "v2")


@pytest.fixture
def store() -> Iterator[ControlTableBreaker]:
    with aws():
        yield ControlTableBreaker(create_control_table(), CONTROL_TABLE)


def test_there_is_no_record_before_the_first_refusal(store: ControlTableBreaker) -> None:
    assert store.read() is None


def test_a_record_is_replaced_by_who_has_read_it_and_by_nobody_else(store: ControlTableBreaker) -> None:
    assert store.replace(None, FIRST)
    assert not store.replace(None, SECOND)
    assert store.read() == FIRST
    assert store.replace(FIRST, SECOND)
    assert not store.replace(FIRST, Tripped(3_000, "v1"))
    assert store.read() == SECOND


def test_a_record_is_removed_only_as_it_was_read_and_can_come_again(store: ControlTableBreaker) -> None:
    assert store.replace(None, FIRST)
    assert not store.replace(SECOND, None)
    assert store.replace(FIRST, None)
    assert store.read() is None
    assert store.replace(None, SECOND)
    assert store.read() == SECOND
