"""What the router remembers of the registry, and for how long."""

from __future__ import annotations

import pytest

from lambdas.router.routes import Destination, Routes
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.registry import Entry, Route
from lambdas.shared.shape import Property, shape_id
from tests.unit.router.fakes import PUMP, PUMP_ID, FakeRegistry, queue_url


class Clock:
    """A clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_known_thing_has_slot_queue_lanes_and_shape(clock: Clock) -> None:
    routes = Routes(FakeRegistry({"pump-1": "4"}, lanes=3), 60, clock)
    assert routes.find({"pump-1", "pump-2"}) == {"pump-1": Destination("4", queue_url("4"), 3, PUMP_ID, PUMP)}


def test_all_things_of_a_batch_take_one_round_trip_and_the_next_batch_none(clock: Clock) -> None:
    registry = FakeRegistry({f"pump-{number}": "1" for number in range(100)})
    routes = Routes(registry, 60, clock)
    routes.find(set(registry.things))
    assert registry.reads == ["things 100", "slots", "shapes"]
    clock.now += 59
    routes.find(set(registry.things))
    assert len(registry.reads) == 3


def test_only_names_not_yet_known_are_read(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1", "pump-2": "1"})
    routes = Routes(registry, 60, clock)
    routes.find({"pump-1"})
    routes.find({"pump-1", "pump-2"})
    assert registry.reads[-1] == "things 1"


def test_what_was_read_is_forgotten_after_the_cache_time_whenever_it_was_read(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1", "pump-2": "1"})
    routes = Routes(registry, 60, clock)
    routes.find({"pump-1"})
    clock.now += 59
    routes.find({"pump-2"})
    registry.slot_items["9"] = Route(queue_url("9"), 8)
    registry.things["pump-2"] = Entry("9", PUMP_ID)
    clock.now += 1
    assert routes.find({"pump-2"})["pump-2"].slot == "9"


def test_without_a_cache_every_batch_reads(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    routes = Routes(registry, 0, clock)
    routes.find({"pump-1"})
    routes.find({"pump-1"})
    assert registry.reads == ["things 1", "slots", "shapes", "things 1", "slots"]


def test_an_unknown_thing_is_asked_for_again_in_the_next_batch(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    routes = Routes(registry, 60, clock)
    assert "pump-2" not in routes.find({"pump-2"})
    registry.things["pump-2"] = Entry("1", PUMP_ID)
    assert routes.find({"pump-2"})["pump-2"].slot == "1"


def test_a_thing_of_a_new_slot_makes_the_slots_be_read_again(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    routes = Routes(registry, 60, clock)
    routes.find({"pump-1"})
    registry.slot_items["2"] = Route(queue_url("2"), 8)
    registry.things["pump-2"] = Entry("2", PUMP_ID)
    assert routes.find({"pump-2"})["pump-2"].queue_url == queue_url("2")


def test_a_new_shape_is_read_once(clock: Clock) -> None:
    valve = {"open": Property("BOOLEAN", "open")}
    registry = FakeRegistry({"pump-1": "1", "valve-1": "1", "valve-2": "1"})
    registry.shape_items[shape_id(valve)] = valve
    registry.things |= {name: Entry("1", shape_id(valve)) for name in ("valve-1", "valve-2")}
    routes = Routes(registry, 60, clock)
    for name in ("pump-1", "valve-1", "valve-2"):
        routes.find({name})
    clock.now += 60
    assert routes.find({"valve-1"})["valve-1"].shape == valve
    assert registry.reads.count("shapes") == 2


def test_forgetting_reads_things_and_slots_anew(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    routes = Routes(registry, 60, clock)
    routes.find({"pump-1"})
    registry.slot_items["1"] = Route(queue_url("moved"), 8)
    routes.forget()
    assert routes.find({"pump-1"})["pump-1"].queue_url == queue_url("moved")


def test_a_thing_without_its_slot_is_a_damaged_registry_and_no_unknown_thing(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    registry.slot_items = {}
    with pytest.raises(RegistryUnavailable, match="pump-1 but not its slot 1"):
        Routes(registry, 60, clock).find({"pump-1"})


def test_a_thing_without_its_shape_is_a_damaged_registry_and_no_unknown_thing(clock: Clock) -> None:
    registry = FakeRegistry({"pump-1": "1"})
    registry.shape_items = {}
    with pytest.raises(RegistryUnavailable, match=f"pump-1 but not its shape {PUMP_ID}"):
        Routes(registry, 60, clock).find({"pump-1"})
