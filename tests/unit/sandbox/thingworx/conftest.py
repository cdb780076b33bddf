"""A simulated platform per test."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest

from sandbox.thingworx.model import PropertyDefinition, remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.unit.sandbox.thingworx.simulator_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    """A platform with the remote Thing `pump-1` (Temp bound as `temp`, Speed as itself) and a local one."""
    with SimulatorServer() as running:
        running.platform.add_thing(
            "pump-1",
            properties=[remote_property("Temp", edge_name="temp"), remote_property("Speed", "INTEGER")],
        )
        level = PropertyDefinition("Level", "NUMBER", category="Local", is_logged=True)
        running.platform.add_template("Tank", "GenericThing")
        running.platform.add_thing("tank-1", "Tank", tags="Plant:Line1", properties=[level])
        yield running


@pytest.fixture
def client(server: SimulatorServer) -> Client:
    """A client of that platform."""
    return Client(server)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
