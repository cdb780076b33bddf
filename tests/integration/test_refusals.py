"""Refused Things: told slot by slot, replaced as a whole, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lambdas.shared.refusals import Refusals
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    with aws():
        yield Refusals(CONTROL_TABLE, create_control_table())


def test_what_slots_tell_is_read_together_and_only_of_the_slots_asked_for(refusals: Refusals) -> None:
    refusals.tell("1", {"b": "bound elsewhere"})
    refusals.tell("2", {"a": "no permission"})
    refusals.tell("3", {"old": "gone"})
    assert refusals.of({"1", "2"}) == {"a": "no permission", "b": "bound elsewhere"}


def test_the_next_word_of_a_slot_replaces_the_one_before(refusals: Refusals) -> None:
    refusals.tell("1", {"a": "no permission", "b": "bound elsewhere"})
    refusals.tell("1", {"b": "still"})
    assert refusals.of({"1"}) == {"b": "still"}
    refusals.tell("1", {})
    assert refusals.of({"1"}) == {}


def test_a_slot_in_which_everything_is_refused_fits_its_item(refusals: Refusals) -> None:
    refusals.tell("1", {f"{'x' * 200}{number:05}": "y" * 5000 for number in range(3000)})
    found = refusals.of({"1"})
    assert len(found) == 200
    assert max(map(len, found.values())) == 300
