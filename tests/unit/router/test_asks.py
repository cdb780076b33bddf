"""When the router asks for discovery runs: for each new name at once, for the same ones rarely."""

from __future__ import annotations

import pytest

from lambdas.router.asks import DiscoveryAsks
from tests.unit.router.fakes import client_error

NOW = 1_700_000_000_000


class World:
    """Takes wishes at a time that a test sets."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.wishes: list[tuple[str, ...]] = []
        self.error: Exception | None = None
        self.asks = DiscoveryAsks(self, lambda: self.clock, lambda: NOW)

    def ask(self, *wishes: str, now: int) -> None:
        """As WantedRuns'."""
        assert now == NOW
        if self.error is not None:
            raise self.error
        self.wishes.append(wishes)


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_message_of_an_unknown_device_asks_at_once(world: World) -> None:
    world.asks.unknown({"pump"})
    world.asks.unknown({"pump", "fan"})
    assert world.wishes == [("unknown",), ("unknown",)]


def test_no_unknown_device_asks_for_nothing(world: World) -> None:
    world.asks.unknown(set())
    assert world.wishes == []


def test_a_device_that_stays_unknown_asks_six_times_an_hour(world: World) -> None:
    for second in range(3600):
        world.clock = second
        world.asks.unknown({"stranger"})
    assert len(world.wishes) == 6


def test_a_batch_full_of_unknown_devices_is_one_write(world: World) -> None:
    world.asks.unknown({f"pump-{index}" for index in range(1000)})
    assert len(world.wishes) == 1


def test_countless_unknown_devices_ask_once_a_minute_and_are_not_all_remembered(world: World) -> None:
    for second in range(300):
        world.clock = second
        world.asks.unknown({f"pump-{second}-{index}" for index in range(1000)})
    assert len(world.asks._asked) <= 10_000
    assert len(world.wishes) == 10 + 4, "ten batches that fit, then one a minute"


def test_names_are_forgotten_in_time(world: World) -> None:
    world.asks.unknown({f"pump-{index}" for index in range(10_000)})
    world.clock = 600
    world.asks.unknown({"fan"})
    assert list(world.asks._asked) == ["fan"]


def test_a_lost_registry_is_asked_for_a_few_times_a_minute(world: World) -> None:
    for second in range(60):
        world.clock = second
        world.asks.repair()
    assert world.wishes == [("repair",)] * 3


def test_an_ask_that_fails_harms_nobody_and_is_repeated(world: World) -> None:
    world.error = client_error("ThrottlingException")
    world.asks.unknown({"pump"})
    world.asks.repair()
    world.error = None
    world.asks.unknown({"pump"})
    assert world.wishes == [("unknown",)]
