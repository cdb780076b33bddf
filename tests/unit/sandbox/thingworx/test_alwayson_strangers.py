"""AlwaysOn: the very bytes that the vendor's SDKs send are served."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.thingworx.alwayson import Ids, Response, Status, decode_message
from sandbox.thingworx.model import remote_property
from tests.unit.sandbox.thingworx.alwayson_client import SECONDS, Edge, records
from tests.unit.thingworx.alwayson.corpus import BY_NAME, MESSAGES

if TYPE_CHECKING:
    from sandbox.thingworx.server import SimulatorServer

C_PUSHES = (
    "POST UpdateSubscribedPropertyValues 3 rows mixed types",
    "POST UpdateSubscribedPropertyValues INTEGER,DATETIME,LOCATION,JSON,INFOTABLE",
)
JAVA_PUSH = "[java] POST svc UpdateSubscribedPropertyValues"


async def _send(edge: Edge, *names: str) -> Response:
    """Send a message of the corpus, frame by frame, in this session; its answer."""
    frames = [BY_NAME[name].data for name in names]
    number = int.from_bytes(frames[0][2:6], "big")
    waiting = edge._waiting[number] = asyncio.get_running_loop().create_future()
    for frame in frames:
        await edge.socket.send_bytes(frame[:10] + edge.session.to_bytes(4, "big") + frame[14:])
    return await asyncio.wait_for(waiting, SECONDS)


def _rows(name: str) -> list[dict[str, Any]]:
    table = BY_NAME[name].decode["params"]["rows"][0]["values"]["value"]
    rows: list[dict[str, Any]] = table["rows"]
    return rows


def _thing_for(server: SimulatorServer, push: str) -> None:
    kinds: dict[str, str] = {}
    for row in _rows(push):
        value = row["value"]
        while value["baseType"] == "VARIANT":
            value = value["value"]
        kinds[row["name"]["value"]] = value["baseType"]
    properties = [remote_property(name, kind) for name, kind in kinds.items()]
    server.platform.add_thing("ThingA", properties=properties)


async def test_the_c_sdks_auth_opens_a_session(server: SimulatorServer) -> None:
    vector = BY_NAME["AUTH request appKey"]
    server.platform.app_keys.add(vector.decode["claims"]["appKey"])
    async with Edge(server) as edge:
        waiting = edge._waiting[1] = asyncio.get_running_loop().create_future()
        await edge.socket.send_bytes(vector.data)
        answer: Response = await asyncio.wait_for(waiting, SECONDS)
        assert answer.status == Status.SUCCESS
        assert answer.ids == Ids(1, 0, answer.ids.session)
        assert 0 < answer.ids.session < 0xFFFF_FFFF


@pytest.mark.parametrize("push", [*C_PUSHES, JAVA_PUSH])
async def test_pushes_of_the_sdks_are_stored_row_by_row(server: SimulatorServer, push: str) -> None:
    _thing_for(server, push)
    async with Edge(server) as edge:
        await edge.ready("ThingA")
        assert (await _send(edge, push)).status == Status.SUCCESS
        stored = [record.property for record in server.platform.log.since()]
        assert stored == [row["name"]["value"] for row in _rows(push)]
        assert server.platform.log.rejected_count == 0


async def test_requests_of_the_sdks_are_answered_with_their_ids(server: SimulatorServer) -> None:
    server.platform.add_thing("ThingA", properties=[remote_property("Temp"), remote_property("SetPoint")])
    async with Edge(server) as edge:
        await edge.ready("ThingA")
        subscribed = await _send(edge, "POST GetPropertySubscriptions with options {hasDeadband:true}")
        assert [row["edgeName"] for row in records(subscribed)] == ["Temp", "SetPoint"]
        read = await _send(edge, "GET property (edge reads platform property)")
        assert records(read) == [{"Temp": 0.0}]
        listed = await _send(edge, "[java] POST svc resource GetEntityList")
        assert {"name": "ThingA"}.items() <= records(listed)[0].items()
        assert (await _send(edge, "POST Resources/EntityServices/GetEntityList")).status == Status.SUCCESS
        assert (await _send(edge, "POST service no params")).status == Status.NOT_FOUND
        put = await _send(edge, "[java] PUT prop")
        assert (put.status, put.ids) == (Status.SUCCESS, Ids(11, 6, edge.session))
        assert server.platform.thing("ThingA").values["SetPoint"].value == 42.0


async def test_binds_of_the_sdks_are_served_whole_and_in_chunks(server: SimulatorServer) -> None:
    server.platform.add_thing("ThingA")
    server.platform.add_thing("behind", identifier="SN-0001")
    async with Edge(server) as edge:
        await edge.auth()
        assert (await _send(edge, "[java] BIND 3 names no gateway")).status == Status.SUCCESS
        assert set(server.platform.edges) == {"ThingA", "behind"}
        assert set(server.platform.unbound) == {"ThingB"}
        assert (await _send(edge, "[java] UNBIND")).status == Status.SUCCESS
        assert set(server.platform.edges) == {"behind"}
        chunks = [f"MULTIPART BIND of 2000 names #{number}" for number in (2, 3, 1)]
        assert (await _send(edge, *chunks)).status == Status.SUCCESS
        assert len(server.platform.unbound) == 2001


async def test_a_padded_reply_without_reason_is_a_refusal(server: SimulatorServer) -> None:
    """As the C SDK answers what it doesn't know."""
    vector = BY_NAME["edge reply service error with reason (C SDK quirk: reason lost, trailing padding)"]
    async with Edge(server) as edge:
        edge.answers["SynchronizeModelState"] = lambda _: None
        await edge.auth()
        await edge.bind("pump-1")
        (asked,) = await edge.until_asked("SynchronizeModelState")
        ids = b"".join(number.to_bytes(4, "big") for number in asked.ids)
        reply = vector.data[:2] + ids + vector.data[14:]
        assert isinstance(decode_message(reply), Response)
        await edge.socket.send_bytes(reply)
        await edge.until_asked("NotifyPropertyUpdate")
        assert server.alwayson.counters.counts["sync_fallbacks"] == 1


async def test_no_message_whole_or_broken_ends_a_connection(server: SimulatorServer) -> None:
    server.platform.add_thing("ThingA")
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        # Away from the request ids of the corpus, whose answers come too.
        edge._numbers = itertools.count(90_000)
        for vector in MESSAGES:
            for frame in (vector.data, vector.data[: len(vector.data) * 2 // 3], vector.data[:15]):
                if vector.decode.get("code") != "0x15":
                    patched = frame[:10] + edge.session.to_bytes(4, "big") + frame[14:]
                    await edge.socket.send_bytes(patched)
        assert (await edge.bind("pump-1")).status == Status.SUCCESS
        assert server.alwayson.counters.counts["malformed"] > 20
        assert (await edge.push("pump-1", ("temp", 1))).status == Status.SUCCESS
