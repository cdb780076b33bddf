"""AlwaysOn: faults on demand, counters, and the control API's calls about them."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from lambdas.thingworx.alwayson import Auth, Ids, Method, Status, encode_message
from sandbox.thingworx.settings import Settings
from tests.unit.sandbox.thingworx.alwayson_client import SECONDS, Edge, eventually, number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.thingworx.server import SimulatorServer
    from tests.unit.sandbox.thingworx.simulator_client import Client

PUSH = {"service": "UpdateSubscribedPropertyValues"}
ABNORMAL = {None, aiohttp.WSCloseCode.ABNORMAL_CLOSURE}


async def _end(edge: Edge) -> int | None:
    return await asyncio.wait_for(edge.closed, SECONDS)


async def test_the_handshake_may_be_refused(server: SimulatorServer, client: Client) -> None:
    server.faults.add(method="UPGRADE", times=1, status=503)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with Edge(server):
            pass
    assert refused.value.status == 503
    server.faults.add(method="UPGRADE", times=1, redirect="https://login.example/sso")
    redirected = await asyncio.to_thread(client.call, "GET", "WS")
    assert (redirected.status_code, redirected.headers["Location"]) == (302, "https://login.example/sso")
    assert (await asyncio.to_thread(client.call, "GET", "WS")).status_code == 400
    async with Edge(server) as edge:
        assert (await edge.auth()).status == Status.SUCCESS


async def test_the_handshake_may_be_dropped_or_left_unanswered(server: SimulatorServer) -> None:
    # Without a limit: aiohttp's client tries a dropped GET again.
    dropping = server.faults.add(method="UPGRADE", drop=True)
    with pytest.raises(aiohttp.ClientError):
        async with Edge(server):
            pass
    server.faults.remove(dropping.id)
    server.faults.add(method="UPGRADE", times=1, silent=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), Edge(server):
            pass


async def test_a_starting_platform_refuses_handshakes_and_requests(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        server.faults.starting = True
        assert (await edge.auth()).status == Status.SERVICE_UNAVAILABLE
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with Edge(server):
                pass


async def test_auth_may_be_refused_with_any_status_or_a_close(server: SimulatorServer) -> None:
    server.faults.add(method="AUTH", times=1, status=401, body="who are you")
    server.faults.add(method="AUTH", times=1, status=703)
    server.faults.add(method="AUTH", times=1, close=1008)
    async with Edge(server) as edge:
        refused = await edge.auth()
        assert (refused.status, refused.reason) == (Status.UNAUTHORIZED, "who are you")
        assert (await edge.auth()).status == Status.COMM_TIMEOUT
        with pytest.raises(asyncio.CancelledError):
            await edge.auth()
        assert await _end(edge) == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_a_status_may_hit_one_service_one_thing_or_one_row(server: SimulatorServer) -> None:
    server.platform.add_thing("pump-2", properties=[])
    server.faults.add(**PUSH, row="Spe*", status=400, body="row")
    server.faults.add(thing="pump-2", method="POST", status=404)
    async with Edge(server) as edge:
        await edge.ready("pump-1", "pump-2")
        assert (await edge.push("pump-1", ("temp", 1))).status == Status.SUCCESS
        refused = await edge.push("pump-1", ("temp", 2), ("Speed", 1))
        assert (refused.status, refused.reason) == (Status.BAD_REQUEST, "row")
        assert (await edge.push("pump-2", ("temp", 1))).status == Status.NOT_FOUND
        assert server.platform.log.accepted == 1


async def test_a_rule_may_be_for_one_protocol(server: SimulatorServer, client: Client) -> None:
    server.faults.add(**PUSH, protocol="alwayson", status=500)
    row = {"name": "temp", "value": 1, "time": 1}
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        assert (await edge.push("pump-1", ("temp", 1))).status == Status.INTERNAL_ERROR
        assert (await asyncio.to_thread(client.push, "pump-1", row)).status_code == 200


async def test_an_answer_may_be_lost_while_the_connection_lives(server: SimulatorServer) -> None:
    server.faults.add(**PUSH, times=1, silent=True, when="after")
    server.faults.add(**PUSH, times=1, silent=True)
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        lost = [edge.push_of("pump-1", ("temp", value)) for value in (1, 2)]
        answers = [edge.expect(push) for push in lost]
        for push in lost:
            await edge.send(push)
        assert (await edge.push("pump-1", ("temp", 3))).status == Status.SUCCESS
        assert not any(answer.done() for answer in answers)
        assert [record.value for record in server.platform.log.since()] == [1.0, 3.0]


@pytest.mark.parametrize(("when", "stored"), [("before", 2), ("after", 3), ("answered", 3)])
async def test_a_connection_may_be_cut_at_the_nth_push(
    server: SimulatorServer, when: str, stored: int
) -> None:
    server.faults.add(**PUSH, skip=2, times=1, drop=True, when=when)
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        for value in (1, 2):
            await edge.push("pump-1", ("temp", value))
        if when == "answered":
            assert (await edge.push("pump-1", ("temp", 3))).status == Status.SUCCESS
        else:
            with pytest.raises(asyncio.CancelledError):
                await edge.push("pump-1", ("temp", 3))
        assert await _end(edge) in ABNORMAL
        assert server.platform.log.accepted == stored
        await eventually(lambda: not server.platform.edges)


async def test_what_was_sent_behind_the_cut_is_not_taken(server: SimulatorServer) -> None:
    server.faults.add(**PUSH, times=1, drop=True, when="after")
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        frames = [encode_message(edge.push_of("pump-1", ("temp", value)))[0] for value in (1, 2, 3)]
        await asyncio.gather(*(edge.socket.send_bytes(frame) for frame in frames))
        await _end(edge)
        await eventually(lambda: not server.platform.edges)
        assert [record.value for record in server.platform.log.since()] == [1.0]


async def test_what_was_sent_before_the_client_closed_is_taken(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        for value in range(50):
            await edge.send(edge.push_of("pump-1", ("temp", value)))
        await edge.socket.close()
        await eventually(lambda: not server.platform.edges)
        assert server.platform.log.accepted == 50


@pytest.mark.parametrize("kind", ["AUTH", "BIND", "UNBIND"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_may_be_cut_at_any_kind_of_message(
    server: SimulatorServer, kind: str, when: str
) -> None:
    server.faults.add(method=kind, drop=True, when=when)
    async with Edge(server) as edge:
        steps: list[Callable[[], Awaitable[object]]] = [
            edge.auth,
            partial(edge.bind, "pump-1"),
            partial(edge.bind, "pump-1", method=Method.UNBIND),
        ]
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            for step in steps:
                await step()
        await _end(edge)
        counts = server.alwayson.counters.counts
        happened = {"AUTH": counts["auth_accepted"], "BIND": counts["binds"], "UNBIND": counts["unbinds"]}
        assert happened[kind] == (when == "after")


async def test_a_connection_may_end_in_the_middle_of_a_frame(server: SimulatorServer) -> None:
    server.faults.add(method="AUTH", cut=True, when="after")
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    handshake = (
        "GET /Thingworx/WS HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    writer.write(handshake.encode())
    await reader.readuntil(b"\r\n\r\n")
    frame = encode_message(Auth(Ids(1), {"appKey": server.app_key}))[0]
    writer.write(bytes((0x82, 0x80 | len(frame))) + bytes(4) + frame)
    rest = await asyncio.wait_for(reader.read(), SECONDS)
    writer.close()
    assert rest[:2] == b"\x82\x11"
    assert len(rest) == 9


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ({"drop": True}, []),
        ({"drop": True, "when": "after"}, ["SynchronizeModelState"]),
        ({"cut": True}, []),
        ({"close": 1001}, []),
    ],
)
async def test_a_connection_may_be_cut_where_the_platform_asks(
    server: SimulatorServer, rule: dict[str, Any], asked: list[str]
) -> None:
    server.faults.add(direction="out", service="SynchronizeModelState", **rule)
    async with Edge(server) as edge:
        await edge.auth()
        await edge.bind("pump-1")
        await _end(edge)
        assert [request.target for request in edge.asked] == ["GetMetadata", *asked]
        await eventually(lambda: not server.platform.edges)


async def test_a_request_to_the_edge_may_be_lost_or_answered_for_it(server: SimulatorServer) -> None:
    server.platform.settings.edge_answer_seconds = 0.05
    server.faults.add(direction="out", service="GetMetadata", times=1, silent=True)
    server.faults.add(direction="out", service="SynchronizeModelState", times=1, status=404)
    async with Edge(server) as edge:
        await edge.auth()
        await edge.bind("pump-1")
        await edge.until_asked("NotifyPropertyUpdate")
        assert [request.target for request in edge.asked] == ["NotifyPropertyUpdate"]
        assert server.alwayson.counters.counts["edge_timeouts"] == 1


async def test_a_half_open_connection_reads_and_answers_nothing(server: SimulatorServer) -> None:
    server.faults.add(**PUSH, times=1, freeze=True, when="after")
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        first, second = (edge.push_of("pump-1", ("temp", value)) for value in (1, 2))
        answers = [edge.expect(first), edge.expect(second)]
        await edge.send(first)
        await eventually(lambda: server.alwayson.connections()[0]["frozen"])
        await edge.send(second)
        await edge.socket.ping(b"?")
        async with Edge(server) as other:
            await other.auth()
        assert [record.value for record in server.platform.log.since()] == [1.0]
        assert "pump-1" in server.platform.edges
        assert server.alwayson.act("thaw", 1) == 1
        assert (await asyncio.wait_for(answers[1], SECONDS)).status == Status.SUCCESS
        assert not answers[0].done()
        assert [record.value for record in server.platform.log.since()] == [1.0, 2.0]


async def test_a_half_open_connection_ends_by_the_idle_limit(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        server.alwayson.act("freeze", 1)
        await eventually(lambda: server.alwayson.connections()[0]["frozen"])
        server.platform.settings.idle_seconds = 0.01
        assert await _end(edge) in ABNORMAL
        await eventually(lambda: not server.platform.edges)


async def test_pings_may_stay_unanswered(server: SimulatorServer) -> None:
    server.faults.add(method="PING", times=1, silent=True)
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url, autoping=False) as socket:
        await socket.ping(b"one")
        await socket.ping(b"two")
        assert (await asyncio.wait_for(socket.receive(), SECONDS)).data == b"two"


async def test_a_delayed_request_holds_up_no_other(server: SimulatorServer) -> None:
    server.platform.add_thing("pump-2")
    server.faults.add(**PUSH, thing="pump-1", delay_ms=60_000)
    async with Edge(server) as edge:
        await edge.ready("pump-1", "pump-2")
        await edge.send(edge.push_of("pump-1", ("temp", 1)))
        assert (await edge.push("pump-2", ("temp", 1))).status == Status.SUCCESS
        assert server.platform.log.accepted == 0


async def test_counters_tell_what_went_over_the_wire(server: SimulatorServer, client: Client) -> None:
    server.faults.latency_ms = 100  # so long that a busy machine has sent all three before the first answer
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        pushes = [edge.push_of("pump-1", ("temp", value), ("Speed", 1)) for value in (1, 2, 3)]
        answers = [edge.expect(push) for push in pushes]
        for push in pushes:
            await edge.send(push)
        await asyncio.wait_for(asyncio.gather(*answers), SECONDS)
        await edge.bind("pump-1", method=Method.UNBIND)
        told = await asyncio.to_thread(client.control, "GET", "/alwayson")
        counters = told["counters"]
        expected = {"connections": 1, "binds": 1, "unbinds": 1, "pushes": 3, "pushed_rows": 6}
        assert {name: counters[name] for name in expected} == expected
        assert (counters["edge_requests"], counters["synchronised"]) == (2, 1)
        assert counters["max_in_flight"] == 3
        assert counters["several_in_flight"] == {"pump-1": 3}
        assert told["open"][0]["authenticated"] is True
        by_service = (await asyncio.to_thread(client.control, "GET", "/counters"))["by_service"]
        assert by_service["UpdateSubscribedPropertyValues"] == 3
        assert by_service["AUTH"] == by_service["BIND Things"] == 1
        await asyncio.to_thread(client.control, "DELETE", "/alwayson")
        told = await asyncio.to_thread(client.control, "GET", "/alwayson")
        assert told["counters"]["max_in_flight"] == 0


async def test_transitions_connections_and_visibility_are_steered_from_outside(
    server: SimulatorServer, client: Client
) -> None:
    control = client.control
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        answer = await asyncio.to_thread(control, "POST", "/connections", {"do": "close", "number": 1})
        assert answer == {"connections": 1}
        assert await _end(edge) == aiohttp.WSCloseCode.GOING_AWAY
        await eventually(lambda: not server.platform.edges)
    transitions = await asyncio.to_thread(control, "GET", "/transitions")
    assert [(t["sequence"], t["thing"], t["connected"]) for t in transitions] == [
        (1, "pump-1", True),
        (2, "pump-1", False),
    ]
    assert len(await asyncio.to_thread(control, "GET", "/transitions?since=1&thing=pump-1")) == 1
    hidden = await asyncio.to_thread(control, "PUT", "/invisible", {"add": ["pump-1"]})
    assert hidden == ["pump-1"]
    async with Edge(server) as edge:
        await edge.auth()
        assert (await edge.bind("pump-1")).status == Status.FORBIDDEN
        await edge.property(Method.PUT, "tank-1", "Level", number(1))
    assert await asyncio.to_thread(control, "GET", "/events") == []
    with pytest.raises(AssertionError, match="do is one of"):
        await asyncio.to_thread(control, "POST", "/connections", {"do": "explode"})


@pytest.mark.parametrize(
    "values",
    [{"bind_protection": "frist"}, {"idle_seconds": "soon"}, {"sync_window": True}, {"no_such": 1}],
)
def test_a_setting_with_a_value_it_cant_have_is_refused(values: dict[str, Any]) -> None:
    settings = Settings()
    with pytest.raises(ValueError, match=r"is one of|is of type|unknown"):
        settings.change({"sync_mode": "legacy", **values})
    assert settings == Settings()


def test_settings_take_json_values() -> None:
    settings = Settings()
    settings.change({"idle_seconds": 5, "missing_services": ["A"], "bind_policy": "per-name"})
    assert settings == Settings(idle_seconds=5.0, missing_services=frozenset({"A"}), bind_policy="per-name")
