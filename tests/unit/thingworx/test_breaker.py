"""A refused key is tried once a minute by all connectors together, until the secret changes."""

from __future__ import annotations

import pytest

from lambdas.shared.errors import ThingworxRefused
from lambdas.thingworx.breaker import Breaker, Tripped
from tests.unit.thingworx.memory_store import MemoryStore


class Fleet:
    """Connectors that share a record and a clock."""

    def __init__(self, connectors: int = 3) -> None:
        self.time = 1_000_000
        self.store = MemoryStore()
        self.breakers = [Breaker(self.store, now=lambda: self.time) for _ in range(connectors)]

    def admitted(self, version: str) -> int:
        """How many of the connectors may try."""
        admitted = 0
        for breaker in self.breakers:
            try:
                breaker.admit(version)
            except ThingworxRefused:
                continue
            admitted += 1
        return admitted


def test_everybody_may_try_a_key_that_was_never_refused() -> None:
    assert Fleet().admitted("v1") == 3


def test_a_refused_key_is_tried_by_one_connector_a_minute() -> None:
    fleet = Fleet()
    fleet.breakers[0].refused("v1")
    assert fleet.admitted("v1") == 0
    for _ in range(3):
        fleet.time += 60_000
        assert fleet.admitted("v1") == 1
        assert fleet.admitted("v1") == 0


def test_a_new_version_of_the_secret_may_be_tried_at_once_by_all() -> None:
    fleet = Fleet()
    fleet.breakers[0].refused("v1")
    assert fleet.admitted("v2") == 3


def test_a_try_that_succeeds_lets_everybody_in_again() -> None:
    fleet = Fleet()
    fleet.breakers[0].refused("v1")
    fleet.time += 60_000
    fleet.breakers[1].admit("v1")
    fleet.breakers[1].accepted("v1")
    assert fleet.admitted("v1") == 3


def test_success_with_one_version_does_not_excuse_another() -> None:
    fleet = Fleet()
    fleet.breakers[0].refused("v2")
    fleet.breakers[1].accepted("v1")
    assert fleet.admitted("v2") == 0


def test_of_two_that_come_at_the_same_moment_one_is_admitted() -> None:
    class Raced(MemoryStore):
        """Somebody else writes between read and write."""

        def replace(self, before: Tripped | None, after: Tripped | None) -> bool:
            self.record = Tripped(9, "v1")
            return super().replace(before, after)

    store = Raced()
    store.record = Tripped(1, "v1")
    with pytest.raises(ThingworxRefused, match="once a minute"):
        Breaker(store, now=lambda: 2).admit("v1")
