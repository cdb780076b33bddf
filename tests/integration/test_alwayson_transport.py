"""AlwaysOn against the simulated platform: both synchronisations, refusals, losses, faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from lambdas.connector.deliver import Delivery
from lambdas.connector.slot_queue import Message
from lambdas.connector.stop import Stop
from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxRefused, ThingworxUnavailable
from lambdas.shared.parcel import Reading, encode
from lambdas.shared.shape import Property
from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.alwayson_transport import AlwaysOnTransport, alwayson_transport
from lambdas.thingworx.infotable import ValueRow
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from sandbox.thingworx.settings import Settings
from tests.unit.connector.fakes import FakeBacklog, FakeHeld, backlog_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lambdas.shared.secrets import Secret

QUICK = Timeouts(retry_first=0.001, retry_most=0.01, sync=0.3, close=0.2)


class Key:
    """A secret that has one version."""

    def __init__(self, text: str) -> None:
        self.text = text

    def latest(self) -> tuple[str, str]:
        """Text and version."""
        return self.text, self.text


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer(control_port=None, settings=Settings()) as server:
        yield server


def add(simulator: SimulatorServer, *names: str, push_type: str = "ALWAYS", **options: Any) -> None:
    for name in names:
        properties = [remote_property("Temp", edge_name="temp", push_type=push_type)]
        simulator.platform.add_thing(name, properties=properties, **options)


@asynccontextmanager
async def connected(
    simulator: SimulatorServer, timeouts: Timeouts = QUICK, **options: Any
) -> AsyncIterator[AlwaysOnTransport]:
    secret = cast("Secret", Key(simulator.app_key))
    transport = alwayson_transport(f"{simulator.url}/Thingworx", secret, timeouts=timeouts, **options)
    async with asyncio.timeout(30):
        await transport.open()
        try:
            yield transport
        finally:
            await transport.close()


def row(at: int, value: Any = 1.5, name: str = "temp", base_type: str = "NUMBER") -> ValueRow:
    return ValueRow(name, base_type, value, at)


def stored(simulator: SimulatorServer, thing: str) -> list[tuple[int, Any]]:
    return [(entry.time, entry.value) for entry in simulator.platform.log.since(0) if entry.thing == thing]


async def pushed(transport: AlwaysOnTransport, thing: str, rows: list[ValueRow]) -> None:
    """Push until it succeeds, as a connector does."""
    while True:
        try:
            await transport.push(thing, rows)
        except ThingworxUnavailable:
            await asyncio.sleep(0.002)
        else:
            return


@pytest.mark.parametrize("mode", ["current", "legacy", "none"])
@pytest.mark.parametrize("policy", ["all-or-nothing", "per-name"])
@pytest.mark.parametrize("entity", ["binding", "name", "identifier"])
def test_things_are_connected_and_values_stored_whatever_the_platform_does_after_a_bind(
    simulator: SimulatorServer, mode: str, policy: str, entity: str
) -> None:
    settings = {"sync_mode": mode, "bind_policy": policy, "identifier_entity": entity}
    simulator.platform.settings.change({**settings, "announce_session": True})
    add(simulator, "a", "b", "c")
    add(simulator, "with-id", identifier="SN-1")
    add(simulator, "hidden")
    simulator.platform.invisible.add("hidden")

    async def scenario() -> None:
        async with connected(simulator) as transport:
            names = ["a", "b", "c", "with-id"]
            transport.bind([*names, "hidden"])
            await asyncio.gather(*(transport.push(name, [row(1), row(2, 2.5)]) for name in names))
            with pytest.raises(ThingNotServed):
                await transport.push("hidden", [row(1)])
            assert set(simulator.platform.edges) == set(names)
            for name in names:
                assert stored(simulator, name) == [(1, 1.5), (2, 2.5)]
        await until(lambda: not simulator.platform.edges)

    asyncio.run(scenario())


def test_a_refused_key_is_refused_at_the_upgrade_and_at_auth(simulator: SimulatorServer) -> None:
    async def scenario() -> None:
        with pytest.raises(ThingworxRefused):
            async with connected(simulator):
                pass

    simulator.app_key = "wrong"
    asyncio.run(scenario())
    simulator.platform.settings.change({"upgrade_key": "ignore"})
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("thing", "fits"), [("disabled", "not enabled"), ("tank", "not a remote Thing"), ("taken", "another")]
)
def test_a_refused_thing_tells_the_platforms_reason(
    simulator: SimulatorServer, thing: str, fits: str
) -> None:
    add(simulator, "disabled", enabled=False)
    add(simulator, "taken", "pump")
    simulator.platform.add_thing("tank", "GenericThing")

    async def scenario() -> None:
        async with connected(simulator) as first:
            await first.push("taken", [row(1)])
            async with connected(simulator) as transport:
                transport.bind(["pump", thing])
                with pytest.raises(ThingworxCallFailed, match=fits):
                    await transport.push(thing, [row(2)])
                await transport.push("pump", [row(2)])

    asyncio.run(scenario())


def test_a_bad_row_is_found_while_the_platform_fails_the_whole_call(simulator: SimulatorServer) -> None:
    simulator.platform.settings.change({"bad_value": "fail", "strict_base_types": True})
    add(simulator, "pump")

    async def scenario() -> None:
        async with connected(simulator) as transport:
            rows = [row(at) if at != 13 else row(at, "warm", base_type="STRING") for at in range(40)]
            result = await transport.push("pump", rows)
            assert [entry.row.time for entry in result.refused] == [13]
            unknown = await transport.push("pump", [row(50), row(51, name="unknown")])
            assert [entry.reason for entry in unknown.refused] == ["not_bound"]

    asyncio.run(scenario())
    assert sorted({at for at, _ in stored(simulator, "pump")}) == [*(at for at in range(40) if at != 13), 50]


def test_a_failing_thing_is_a_failed_call_and_a_busy_platform_unavailable(simulator: SimulatorServer) -> None:
    add(simulator, "pump")

    async def scenario() -> None:
        async with connected(simulator) as transport:
            await transport.push("pump", [row(1)])
            fault = simulator.faults.add(service="UpdateSubscribedPropertyValues", status=500)
            with pytest.raises(ThingworxCallFailed):
                await transport.push("pump", [row(2), row(3)])
            simulator.faults.remove(fault.id)
            simulator.faults.add(service="UpdateSubscribedPropertyValues", status=503, times=1)
            with pytest.raises(ThingworxUnavailable):
                await transport.push("pump", [row(2)])
            await transport.push("pump", [row(4)])

    asyncio.run(scenario())
    assert [at for at, _ in stored(simulator, "pump")] == [1, 4]


def test_what_the_push_type_keeps_back_is_counted(simulator: SimulatorServer) -> None:
    add(simulator, "pump", push_type="VALUE")

    async def scenario() -> None:
        async with connected(simulator) as transport:
            result = await transport.push("pump", [row(1, 5.0), row(2, 5.0), row(3, 6.0)])
            assert result.suppressed == 1

    asyncio.run(scenario())
    assert stored(simulator, "pump") == [(1, 5.0), (3, 6.0)]


PUSH = "UpdateSubscribedPropertyValues"
BREAKS: list[dict[str, Any]] = [{"drop": True}, {"cut": True}, {"close": 1011}]
#: 0xA1, which the platform means as: no such session.
NO_SESSION = {"status": 501}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ({"method": "UPGRADE"}, {"drop": True}),
        *(({"method": method}, fault) for method in ("AUTH", "BIND") for fault in BREAKS),
        *(
            ({"service": service, "direction": "out"}, fault)
            for service in ("GetMetadata", "SynchronizeModelState")
            for fault in BREAKS
        ),
        *(({"service": PUSH, "skip": skip}, fault) for skip in (0, 3) for fault in (*BREAKS, NO_SESSION)),
        ({"method": "BIND"}, NO_SESSION),
    ],
)
def test_a_connection_that_breaks_anywhere_loses_nothing_and_reorders_nothing(
    simulator: SimulatorServer, where: dict[str, Any], when: str, fault: dict[str, Any]
) -> None:
    add(simulator, "a", "b")
    rule = simulator.faults.add(protocol="alwayson", times=1, when=when, **where, **fault)

    async def scenario() -> None:
        while True:
            try:
                async with connected(simulator) as transport:
                    await asyncio.gather(*(_five(transport, name) for name in ("a", "b")))
                    return
            except ThingworxUnavailable:
                continue

    async def _five(transport: AlwaysOnTransport, name: str) -> None:
        for at in range(5):
            await pushed(transport, name, [row(at, float(at))])

    asyncio.run(scenario())
    assert rule.hits == 1
    for name in ("a", "b"):
        times = [at for at, _ in stored(simulator, name)]
        assert list(dict.fromkeys(times)) == list(range(5))
        assert times == sorted(times)


def test_a_half_open_connection_is_noticed_and_replaced(simulator: SimulatorServer) -> None:
    timeouts = Timeouts(retry_first=0.001, retry_most=0.01, sync=0.3, close=0.05, ping=0.05, pong=0.1)
    simulator.platform.settings.change({"bind_protection": "last-in-wins"})
    add(simulator, "pump")

    async def scenario() -> None:
        async with connected(simulator, timeouts) as transport:
            await transport.push("pump", [row(1)])
            simulator.alwayson.act("freeze")
            await pushed(transport, "pump", [row(2)])

    asyncio.run(scenario())
    assert [at for at, _ in stored(simulator, "pump")] == [1, 2]


def test_readings_are_delivered_parked_and_rejected_as_over_rest(simulator: SimulatorServer) -> None:
    add(simulator, "pump", "hidden")
    simulator.platform.invisible.add("hidden")
    held = FakeHeld()
    counters: Counter[str] = Counter()
    shapes = {"s": {"temp": Property("NUMBER", "temp"), "gone": Property("NUMBER", "gone")}}
    readings = [
        Reading("pump", 1, "1", "s", {"temp": 1.5, "gone": 7.0}),
        Reading("pump", 2, "2", "s", {"temp": 2.5}),
        Reading("hidden", 1, "3", "s", {"temp": 1.5}),
    ]
    body = encode(readings, shapes).decode()

    async def scenario() -> None:
        async with connected(simulator) as transport:
            stop = Stop()
            delivery = Delivery(
                transport,
                held,  # type: ignore[arg-type] # a stand-in
                stop=stop,
                owns=lambda: True,
                backlog=backlog_of(FakeBacklog(held), stop, 1),
                concurrency=4,
                thing_retry_seconds=1,
                counters=counters,
            )
            await delivery.settle([Message("m", "lane-0", body, "receipt")])

    asyncio.run(scenario())
    assert stored(simulator, "pump") == [(1, 1.5), (2, 2.5)]
    assert {(entry.thing, entry.state, entry.values) for entry in held.held} == {
        ("pump", "rejected", '{"gone":7.0}'),
        ("hidden", "parked", '{"temp":1.5}'),
    }
    assert counters["taken"] == 3
    assert counters["delivered"] == counters["held_rejected"] == counters["held_parked"] == 1


def test_things_are_released_one_connection_and_bound_by_the_next(simulator: SimulatorServer) -> None:
    names = [f"pump-{number}" for number in range(30)]
    add(simulator, *names)
    edges = simulator.platform.edges

    async def scenario() -> None:
        async with connected(simulator) as old, connected(simulator) as new:
            old.bind(names)
            await old.bound(names)
            assert set(edges) == set(names)
            await asyncio.gather(*map(old.ready, names))
            assert set(old.bound_things()) == set(names)
            new.bind(names)
            with pytest.raises(ThingworxCallFailed, match="another connection"):
                await new.ready(names[0])
            new.unbind(names)
            await old.release(names[:20])
            assert set(edges) == set(names[20:])
            assert set(old.bound_things()) == set(names[20:])
            new.bind(names[:20])
            await new.bound(names[:20])
            assert set(edges) == set(names)
            await pushed(new, names[0], [row(1)])
            await pushed(old, names[29], [row(1)])

    asyncio.run(scenario())
    assert [stored(simulator, name) for name in (names[0], names[29])] == [[(1, 1.5)]] * 2


def test_things_that_another_connection_has_taken_are_bound_once_more(simulator: SimulatorServer) -> None:
    simulator.platform.settings.change({"bind_protection": "last-in-wins"})
    names = [f"pump-{number}" for number in range(5)]
    add(simulator, *names)

    async def scenario() -> None:
        async with connected(simulator) as old, connected(simulator) as new:
            for transport in (old, new):
                transport.bind(names)
                await asyncio.gather(*map(transport.ready, names))
            moved = len(simulator.platform.transitions)
            old.rebind([*names, "unknown"])
            await old.bound(names)
            await asyncio.gather(*map(old.ready, names))
            await new.release(names)
            assert len(simulator.platform.transitions) == moved
            assert set(simulator.platform.edges) == set(names)
            await pushed(old, names[0], [row(1)])

    asyncio.run(scenario())
    assert stored(simulator, names[0]) == [(1, 1.5)]


def test_without_a_connection_nothing_is_released_or_bound(simulator: SimulatorServer) -> None:
    add(simulator, "pump")

    async def scenario() -> None:
        async with connected(simulator) as transport:
            transport.bind(["pump"])
            await transport.ready("pump")
            simulator.faults.add(protocol="alwayson", method="UNBIND", drop=True, times=1)
            with pytest.raises(ThingworxUnavailable):
                await transport.release(["pump"])

    asyncio.run(scenario())
