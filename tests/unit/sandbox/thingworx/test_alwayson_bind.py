"""AlwaysOn: BIND, UNBIND, who gets a Thing, and isConnected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.thingworx.alwayson import Bind, EntityType, Gateway, Method, Status, encode_message
from sandbox.thingworx.model import remote_property
from tests.unit.sandbox.thingworx.alwayson_client import Edge, eventually, records, text

if TYPE_CHECKING:
    from sandbox.thingworx.server import SimulatorServer
    from tests.unit.sandbox.thingworx.simulator_client import Client


def _connected(server: SimulatorServer, thing: str) -> Any:
    return server.platform.thing(thing).values["isConnected"].value


def _transitions(server: SimulatorServer) -> list[tuple[str, bool]]:
    return [(t.thing, t.connected) for t in server.platform.transitions]


async def test_bind_connects_and_unbind_disconnects(server: SimulatorServer, client: Client) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        values = await asyncio.to_thread(client.value, "pump-1", "isConnected")
        assert values is True
        assert server.platform.thing("pump-1").values["lastConnection"].value > 1_700_000_000_000
        assert (await edge.bind("pump-1", method=Method.UNBIND)).status == Status.SUCCESS
        assert _connected(server, "pump-1") is False
        assert _transitions(server) == [("pump-1", True), ("pump-1", False)]
        assert all(t.time > 1_700_000_000_000 for t in server.platform.transitions)


async def test_a_lost_connection_disconnects_its_things(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
    await eventually(lambda: not server.platform.edges)
    assert _transitions(server)[-1] == ("pump-1", False)


async def test_thousands_of_names_bind_in_one_message_of_chunks(server: SimulatorServer) -> None:
    names = [f"thing-{number:05}" for number in range(2000)]
    for name in names:
        server.platform.add_thing(name)
    async with Edge(server) as edge:
        await edge.auth()
        assert len(encode_message(Bind(edge.ids(), tuple(names)))) > 1
        assert (await edge.bind(*names)).status == Status.SUCCESS
        await edge.until_asked("SynchronizeModelState", 2000)
        await eventually(lambda: server.alwayson.connections()[0]["synchronised"] == 2000)
        assert server.alwayson.connections()[0]["bound"] == 2000


async def test_a_thing_with_an_identifier_is_bound_by_it_alone(server: SimulatorServer) -> None:
    server.platform.add_thing("pump-2", identifier="SN-2", properties=[remote_property("T")])
    async with Edge(server) as edge:
        await edge.auth()
        refused = await edge.bind("pump-2")
        assert (refused.status, refused.reason) == (
            Status.BAD_REQUEST,
            "Unable to bind: the Thing has an identifier",
        )
        assert (await edge.bind("*SN-2")).status == Status.SUCCESS
        asked = await edge.until_asked("SynchronizeModelState")
        assert asked[0].entity_name == "*SN-2"
        for name in ("*SN-2", "pump-2", "SN-2"):
            assert (await edge.push(name, ("T", 1))).status == Status.SUCCESS
        assert {record.thing for record in server.platform.log.since()} == {"pump-2"}
        assert server.platform.log.accepted == 3
        assert (await edge.bind("*SN-2", method=Method.UNBIND)).status == Status.SUCCESS
        assert _connected(server, "pump-2") is False


@pytest.mark.parametrize(("form", "entity"), [("name", "pump-2"), ("identifier", "SN-2")])
async def test_the_platform_may_address_it_by_name_or_identifier(
    server: SimulatorServer, form: str, entity: str
) -> None:
    server.platform.settings.change({"identifier_entity": form})
    server.platform.add_thing("pump-2", identifier="SN-2")
    async with Edge(server) as edge:
        await edge.ready("*SN-2")
        assert {request.entity_name for request in edge.asked} == {entity}


@pytest.mark.parametrize(
    "reason", ["invisible", "not_remote", "disabled", "has_identifier", "unknown", "fault"]
)
@pytest.mark.parametrize("policy", ["all-or-nothing", "per-name"])
async def test_one_refused_name_fails_its_group_or_itself(
    server: SimulatorServer, reason: str, policy: str
) -> None:
    platform = server.platform
    platform.settings.change({"bind_policy": policy, "unknown_bind": "refuse"})
    template = "Tank" if reason == "not_remote" else "RemoteThing"
    if reason != "unknown":
        identifier = "SN-9" if reason == "has_identifier" else ""
        platform.add_thing("bad", template, identifier=identifier, enabled=reason != "disabled")
    if reason == "invisible":
        platform.invisible.add("bad")
    if reason == "fault":
        server.faults.add(method="BIND", thing="bad", status=403, body="no")
    async with Edge(server) as edge:
        await edge.auth()
        answer = await edge.bind("pump-1", "bad")
        whole = policy == "all-or-nothing"
        assert (answer.status >= 0x80) is whole
        assert ("pump-1" in platform.edges) is not whole
        alone = await edge.bind("bad")
        assert alone.status >= 0x80
        assert alone.reason
        assert server.alwayson.counters.refused == {reason: 2}
        assert "bad" not in platform.edges


async def test_first_in_wins_refuses_the_second_connection(server: SimulatorServer) -> None:
    async with Edge(server) as first, Edge(server) as second:
        await first.ready("pump-1")
        await second.auth()
        refused = await second.bind("pump-1")
        assert (refused.status, refused.reason) == (
            Status.CONFLICT,
            "Unable to bind: bound by another connection",
        )
        await first.bind("pump-1", method=Method.UNBIND)
        assert (await second.bind("pump-1")).status == Status.SUCCESS
        assert _transitions(server) == [("pump-1", True), ("pump-1", False), ("pump-1", True)]


async def test_last_in_wins_hands_over_without_a_transition(server: SimulatorServer) -> None:
    server.platform.settings.change({"bind_protection": "last-in-wins"})
    async with Edge(server) as second:
        async with Edge(server) as first:
            await first.ready("pump-1")
            await second.ready("pump-1")
            assert server.alwayson.counters.counts["takeovers"] == 1
            assert [(c["number"], c["bound"]) for c in server.alwayson.connections()] == [(1, 1), (2, 0)]
        await eventually(lambda: len(server.alwayson.connections()) == 1)
        assert _connected(server, "pump-1") is True
        assert _transitions(server) == [("pump-1", True)]
        assert (await second.push("pump-1", ("temp", 5))).status == Status.SUCCESS
        assert server.platform.log.accepted == 1


async def test_one_connection_may_bind_its_thing_again(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        assert (await edge.bind("pump-1")).status == Status.SUCCESS
        await edge.until_asked("SynchronizeModelState", 2)
        assert _transitions(server) == [("pump-1", True)]


async def test_an_unknown_name_waits_and_is_bound_once_a_thing_has_it(
    server: SimulatorServer, client: Client
) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        assert (await edge.bind("later", "*SN-later")).status == Status.SUCCESS
        unbound = await asyncio.to_thread(client.rows, "Resources/DeviceFunctions/GetUnboundRemoteThings")
        assert {"name": "later"} in unbound
        listed = await edge.service("DeviceFunctions", "GetUnboundIdentifiers", EntityType.RESOURCES)
        assert records(listed) == [{"identifier": "SN-later"}]
        await edge.service(
            "EntityServices",
            "CreateThing",
            EntityType.RESOURCES,
            name=text("later"),
            thingTemplateName=text("RemoteThing"),
        )
        assert "later" not in server.platform.edges
        await edge.service("later", "EnableThing")
        server.platform.add_thing("other", identifier="SN-later")
        asked = await edge.until_asked("SynchronizeModelState", 2)
        assert [request.entity_name for request in asked] == ["later", "*SN-later"]
        assert _connected(server, "later") is True
        assert server.platform.unbound == {}


async def test_a_gateway_nobody_has_lives_as_long_as_its_connection(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        gateway = Gateway("gate-1", "SDKGateway")
        assert (await edge.exchange(Bind(edge.ids(), ("pump-1",), gateway))).status == Status.SUCCESS
        assert server.platform.thing("gate-1").template.name == "SDKGateway"
        assert set(server.platform.edges) == {"gate-1", "pump-1"}
        strange = Gateway("gate-2", "RemoteThing")
        assert (await edge.exchange(Bind(edge.ids(), (), strange))).status == Status.SUCCESS
        assert "gate-2" not in server.platform.things
    await eventually(lambda: "gate-1" not in server.platform.things)


async def test_an_invisible_thing_cant_be_asked_for_either(server: SimulatorServer) -> None:
    server.platform.invisible.add("pump-1")
    async with Edge(server) as edge:
        await edge.auth()
        answer = await edge.service("pump-1", "GetPropertySubscriptions")
        assert answer.status == Status.FORBIDDEN
