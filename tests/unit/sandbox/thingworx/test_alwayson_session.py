"""AlwaysOn: handshake, AUTH, keepalive, frames, as strangers' clients need them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
import trustme

from lambdas.thingworx.alwayson import (
    NO_REQUEST,
    Auth,
    BaseType,
    EntityType,
    Ids,
    InfoTable,
    Method,
    Other,
    Status,
    Value,
    encode_message,
)
from sandbox.thingworx.model import PropertyDefinition, remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.unit.sandbox.thingworx.alwayson_client import SECONDS, Edge, eventually, number, records, text

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(b"0123456789abcdef").decode()


async def _raw(server: SimulatorServer, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    return reader, writer


async def test_the_handshake_of_the_vendors_c_client_is_answered_as_it_needs(server: SimulatorServer) -> None:
    reader, writer = await _raw(
        server,
        "GET /Thingworx/WS HTTP/1.1\nUser-Agent: ThingWorx C SDK\nUpgrade: websocket\nConnection: Upgrade\n"
        "Host: 127.0.0.1\nSec-WebSocket-Version: 13\nSec-WebSocket-Extensions: permessage-deflate\n"
        f"Sec-WebSocket-Key: {KEY}\nMax-Frame-Size: 8192\nappKey: {server.app_key}",
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert lines[0][9:12] == "101"
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    digest = hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455
    assert headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
    assert not headers.keys() & {"sec-websocket-extensions", "sec-websocket-protocol"}
    # The client masks with zeros; the first bytes after the handshake answer its AUTH.
    frame = encode_message(Auth(Ids(1), {"appKey": server.app_key}))[0]
    writer.write(bytes((0x82, 0x80 | len(frame))) + bytes(4) + frame)
    answer = await asyncio.wait_for(reader.readexactly(19), SECONDS)
    assert (answer[0], answer[1], answer[3]) == (0x82, 17, Status.SUCCESS)
    writer.close()


async def test_nothing_is_sent_before_auth(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.socket.ping(b"still there?")
        await edge.auth()
        assert len(edge.frames) == 1


async def test_nothing_is_served_before_auth(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        for answer in (
            await edge.bind("pump-1"),
            await edge.push("pump-1", ("temp", 1)),
            await edge.service("EntityServices", "GetEntityList", EntityType.RESOURCES, type=text("Thing")),
            await edge.property(Method.PUT, "tank-1", "Level", number(1)),
        ):
            assert answer.status == Status.UNAUTHORIZED
        assert server.platform.edges == {}
        assert server.platform.log.accepted == 0
        assert server.alwayson.counters.counts["not_authenticated"] == 4


async def test_auth_gives_a_session_that_later_requests_must_have(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        answer = await edge.auth()
        assert (answer.status, answer.ids.request) == (Status.SUCCESS, 1)
        assert 0 < edge.session < 0xFFFF_FFFF
        assert (await edge.bind("pump-1")).status == Status.SUCCESS
        edge.session += 1
        assert (await edge.bind("pump-1")).status == Status.INVALID_SESSION
        server.platform.settings.check_session = False
        assert (await edge.bind("pump-1")).status == Status.SUCCESS


async def test_a_wrong_key_in_auth_is_refused_and_may_be_corrected(server: SimulatorServer) -> None:
    async with Edge(server, headers={}) as edge:
        assert (await edge.auth("wrong")).status == Status.UNAUTHORIZED
        assert (await edge.bind("pump-1")).status == Status.UNAUTHORIZED
        assert (await edge.auth()).status == Status.SUCCESS


@pytest.mark.parametrize(("policy", "key", "status"), [("check", "wrong", 401), ("require", None, 401)])
async def test_the_handshake_may_be_refused_for_its_key(
    server: SimulatorServer, policy: str, key: str | None, status: int
) -> None:
    server.platform.settings.change({"upgrade_key": policy})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with Edge(server, headers={"appKey": key} if key else {}):
            pass
    assert refused.value.status == status
    server.platform.settings.change({"upgrade_key": "ignore"})
    async with Edge(server, headers={"appKey": key} if key else {}) as edge:
        assert (await edge.auth()).status == Status.SUCCESS


async def test_clearauth_ends_the_session_and_its_binds(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        answer = await edge.exchange(Auth(edge.ids(), {"appKey": server.app_key}, Method.CLEARAUTH))
        assert answer.status == Status.SUCCESS
        assert server.platform.edges == {}
        assert (await edge.bind("pump-1")).status == Status.UNAUTHORIZED


async def test_pings_are_answered_with_their_payload(server: SimulatorServer) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url, autoping=False) as socket:
        for payload in (b"12:34:56", b""):
            await socket.ping(payload)
            pong = await asyncio.wait_for(socket.receive(), SECONDS)
            assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, payload)


async def test_a_silent_connection_is_closed_and_its_things_disconnect(server: SimulatorServer) -> None:
    server.platform.settings.idle_seconds = 0.2
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        assert await asyncio.wait_for(edge.closed, SECONDS) == aiohttp.WSCloseCode.GOING_AWAY
    await eventually(lambda: not server.platform.edges)
    assert [t.connected for t in server.platform.transitions] == [True, False]
    assert server.alwayson.counters.counts["idle_closed"] == 1


async def test_requests_and_answers_larger_than_a_frame_go_in_chunks(server: SimulatorServer) -> None:
    server.platform.add_thing("big", properties=[remote_property(f"P{n}", "STRING") for n in range(400)])
    async with Edge(server) as edge:
        await edge.ready("big")
        rows = [(f"P{n}", text("é" * 100)) for n in range(400)]
        assert (await edge.push("big", *rows)).status == Status.SUCCESS
        assert server.platform.log.accepted == 400
        everything = await edge.property(Method.GET, "big", "*")
        assert records(everything)[0]["P399"] == "é" * 100
        assert any(frame[14] == 1 for frame in edge.frames)
        assert max(len(frame) for frame in edge.frames) == 8192
        assert server.alwayson.counters.largest_frame == 8192


async def test_a_client_that_takes_smaller_frames_gets_them(server: SimulatorServer) -> None:
    headers = {"appKey": server.app_key, "Max-Frame-Size": "512"}
    async with Edge(server, headers=headers) as edge:
        await edge.auth()
        answer = await edge.service("pump-1", "GetPropertyDefinitions")
        assert {row["name"] for row in records(answer)} >= {"Temp", "Speed"}
        assert max(len(frame) for frame in edge.frames) == 512


async def test_a_frame_of_more_than_8192_bytes_ends_the_connection(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        await edge.socket.send_bytes(bytes(8193))
        assert await asyncio.wait_for(edge.closed, SECONDS) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_an_answer_beyond_the_message_limit_is_an_error(server: SimulatorServer) -> None:
    platform = server.platform
    text_property = PropertyDefinition("Text", "STRING", default_value="x" * 1_100_000)
    platform.add_thing("huge", "GenericThing", properties=[text_property])
    async with Edge(server) as edge:
        await edge.auth()
        answer = await edge.property(Method.GET, "huge", "Text")
        assert answer.status == Status.ENTITY_TOO_LARGE


async def test_malformed_and_unknown_messages_are_refused_and_harm_nothing(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        await edge.send(Other(edge.ids(), Method.KEEP_ALIVE))
        await edge.socket.send_str("not for here")
        await edge.socket.send_bytes(b"\x01\x03\x00\x00\x00\x63" + bytes(9))
        await edge.socket.send_bytes(b"\x09")
        await edge.send(Other(Ids(98, 7, edge.session), 0x2A))
        await edge.until(lambda: len(edge.unmatched) >= 2)
        refusals = [(answer.ids.request, answer.status) for answer in edge.unmatched]
        assert refusals == [(99, Status.BAD_REQUEST), (98, Status.BAD_REQUEST)]
        assert (await edge.bind("pump-1")).status == Status.SUCCESS
        counts = server.alwayson.counters.counts
        assert (counts["malformed"], counts["unknown_messages"]) == (2, 2)


async def test_a_session_may_be_announced_by_an_answer_to_nothing(server: SimulatorServer) -> None:
    server.platform.settings.change({"announce_session": True})
    async with Edge(server) as edge:
        await edge.auth()
        await edge.until(lambda: bool(edge.unmatched))
        assert edge.unmatched[0].ids == Ids(NO_REQUEST, 1, edge.session)


async def test_services_of_the_catalogue_are_served_without_a_bind(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        listed = await edge.service(
            "EntityServices",
            "GetEntityList",
            EntityType.RESOURCES,
            type=text("Thing"),
            maxItems=number(10),
            tags=Value(BaseType.TAGS, "Plant:Line1"),
        )
        assert [row["name"] for row in records(listed)] == ["tank-1"]
        by_template = await edge.service(
            "RemoteThing", "QueryImplementingThingsOptimized", EntityType.THING_TEMPLATES
        )
        assert [row["name"] for row in records(by_template)] == ["pump-1"]
        defined = await edge.service("pump-1", "GetPropertyDefinitions", category=text("AWSConnectorBound"))
        assert [row["name"] for row in records(defined)] == ["Temp", "Speed"]
        subscribed = await edge.service(
            "pump-1", "GetPropertySubscriptions", options=Value(BaseType.JSON, '{"hasDeadband":true}')
        )
        row = {"edgeName": "temp", "pushType": "ALWAYS", "pushThreshold": 0.0}
        assert records(subscribed)[0] == row
        missing = await edge.service("nobody", "GetPropertyDefinitions")
        assert missing.status == Status.NOT_FOUND
        unknown = await edge.service("pump-1", "Explode")
        assert (unknown.status, "Explode" in (unknown.reason or "")) == (Status.NOT_FOUND, True)
        nowhere = await edge.service("x", "y", kind=77)
        assert nowhere.status == Status.NOT_FOUND


async def test_parameters_may_come_as_one_json_object(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()
        content = Value(BaseType.JSON, '{"category": "AWSConnectorBound"}')
        request = edge.call("pump-1", "GetPropertyDefinitions", InfoTable.of({"_content_": content}))
        assert len(records(await edge.exchange(request))) == 2


async def test_tls_is_spoken_on_the_same_port(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with SimulatorServer(tls=(chain, key)) as server:
        assert server.ws_url.startswith("wss://")
        server.platform.add_thing("p", properties=[remote_property("T")])
        async with Edge(server, ssl=context) as edge:
            await edge.ready("p")
            assert (await edge.push("p", ("T", 1))).status == Status.SUCCESS
            server.alwayson.act("freeze")
            server.alwayson.act("drop")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(edge.closed, SECONDS)


async def test_a_stopping_platform_closes_its_connections(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        await asyncio.to_thread(server.stop)
        assert await asyncio.wait_for(edge.closed, SECONDS) == aiohttp.WSCloseCode.GOING_AWAY
        assert server.platform.edges == {}
