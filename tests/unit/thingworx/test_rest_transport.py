"""Which service carries a Thing's values, learned once a Thing; against the simulated platform."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from lambdas.shared.errors import ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.rest import RestClient
from lambdas.thingworx.rest_transport import RestTransport
from sandbox.thingworx.model import PropertyDefinition, remote_property
from sandbox.thingworx.platform import Settings
from sandbox.thingworx.server import SimulatorServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lambdas.shared.secrets import Secret
    from lambdas.thingworx.transport import Check

REMOTE, LOCAL = "UpdateSubscribedPropertyValues", "UpdatePropertyValues"


class Key:
    """A secret that never changes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        """The value."""
        return self._text

    def changed(self) -> bool:
        """Never."""
        return False


class Recording:
    """A client that answers as told and keeps which services were called."""

    def __init__(self, missing: dict[str, Exception], failing: Exception | None = None) -> None:
        self.missing = missing
        self.failing = failing
        self.called: list[str] = []
        self.closed = False

    def service(self, _: str, thing: str, service: str, parameters: dict[str, Any], check: Check) -> None:
        """Keep it, and fail for a service that is missing."""
        check()
        assert thing
        assert parameters["values"]["rows"]
        self.called.append(service)
        if service in self.missing:
            raise self.missing[service]
        if self.failing:
            raise self.failing

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def row(name: str, value: Any, time: int, quality: str = "GOOD") -> ValueRow:
    return ValueRow(name, "NUMBER", value, time, quality)


def push(client: RestClient | Recording, *calls: tuple[str, Sequence[ValueRow]]) -> RestTransport:
    async def scenario() -> RestTransport:
        transport = RestTransport(cast(RestClient, client), concurrency=2)
        await transport.open()
        try:
            for thing, rows in calls:
                await transport.push(thing, rows)
        finally:
            await transport.close()
        return transport

    return asyncio.run(scenario())


@pytest.fixture(params=[404, 500])
def simulator(request: pytest.FixtureRequest) -> Iterator[SimulatorServer]:
    settings = Settings(unknown_service_status=request.param)
    with SimulatorServer(settings=settings, control_port=None) as server:
        yield server


@pytest.fixture
def client(simulator: SimulatorServer) -> RestClient:
    key = cast("Secret", Key(simulator.app_key))
    return RestClient(f"{simulator.url}/Thingworx", key, timeouts=(5, 5))


def test_values_of_a_remote_thing_are_stored_with_time_and_quality(
    simulator: SimulatorServer, client: RestClient
) -> None:
    simulator.platform.add_thing("pump", properties=[remote_property("Temp", edge_name="temp")])
    push(client, ("pump", [row("temp", 1.5, 1000), row("temp", 2.5, 2000, "BAD")]))
    written = simulator.platform.log.since(0)
    assert [(entry.property, entry.value, entry.time, entry.quality) for entry in written] == [
        ("Temp", 1.5, 1000, "GOOD"),
        ("Temp", 2.5, 2000, "BAD"),
    ]
    assert {entry.service for entry in written} == {REMOTE}


def test_a_thing_that_is_not_remote_gets_its_values_too(
    simulator: SimulatorServer, client: RestClient
) -> None:
    simulator.platform.add_thing("tank", "GenericThing", properties=[PropertyDefinition("Level", "NUMBER")])
    push(client, ("tank", [row("Level", 7, 1000)]), ("tank", [row("Level", 8, 2000)]))
    written = simulator.platform.log.since(0)
    assert [(entry.value, entry.time) for entry in written] == [(7, 1000), (8, 2000)]
    assert {entry.service for entry in written} == {LOCAL}


def test_a_thing_that_does_not_exist_is_a_failed_call(simulator: SimulatorServer, client: RestClient) -> None:
    with pytest.raises(ThingworxCallFailed) as caught:
        push(client, ("nobody", [row("Level", 7, 1000)]))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "missing",
    [
        ThingworxCallFailed(404, "nothing here"),
        ThingworxCallFailed(500, f"No service handler defined for service {REMOTE} on thing tank"),
    ],
)
def test_which_service_a_thing_has_is_learned_once_a_thing(missing: Exception) -> None:
    client = Recording({REMOTE: missing})
    push(client, *[("tank", [row("Level", 1, at)]) for at in range(3)], ("other", [row("Level", 1, 1)]))
    assert client.called == [REMOTE, LOCAL, LOCAL, LOCAL, REMOTE, LOCAL]


def test_each_call_is_made_only_when_it_still_may_be() -> None:
    async def scenario(client: Recording) -> None:
        transport = RestTransport(cast(RestClient, client), concurrency=2)
        passes = [True, False]

        def check() -> None:
            if not passes.pop(0):
                raise PermissionError("the slot is another's")

        with pytest.raises(PermissionError):
            await transport.push("tank", [row("Level", 1, 1)], check)
        await transport.close()

    recording = Recording({REMOTE: ThingworxCallFailed(404, "")})
    asyncio.run(scenario(recording))
    assert recording.called == [REMOTE]


def test_a_thing_that_becomes_remote_is_learned_anew() -> None:
    async def scenario(client: Recording) -> None:
        transport = RestTransport(cast(RestClient, client), concurrency=2)
        await transport.push("tank", [row("Level", 1, 1)])
        client.missing = {LOCAL: ThingworxCallFailed(404, "")}
        await transport.push("tank", [row("Level", 1, 2)])
        await transport.push("tank", [row("Level", 1, 3)])
        await transport.close()

    recording = Recording({REMOTE: ThingworxCallFailed(404, "")})
    asyncio.run(scenario(recording))
    assert recording.called == [REMOTE, LOCAL, LOCAL, REMOTE, REMOTE]


@pytest.mark.parametrize(
    "error",
    [
        ThingworxCallFailed(500, "Unable to Invoke Service : locked"),
        ThingworxCallFailed(404, "Property [Level] Does Not Exist On Thing [tank]"),
        ThingworxCallFailed(403, "no"),
        ThingworxUnavailable("503"),
    ],
)
def test_a_failure_of_the_right_service_does_not_turn_to_the_one_that_stores_nothing(
    error: Exception,
) -> None:
    client = Recording({}, failing=error)
    with pytest.raises(type(error)):
        push(client, ("tank", [row("Level", 1, 1)]))
    assert client.called == [REMOTE]


def test_closing_leaves_no_threads_and_closes_the_connections() -> None:
    client = Recording({})
    before = set(threading.enumerate())
    push(client, ("tank", [row("Level", 1, 1)]))
    assert client.closed
    assert set(threading.enumerate()) <= before
