"""AlwaysOn: synchronisation, pushed values, and what travels to the edge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.thingworx.alwayson import (
    NAMED_VTQ,
    NOTHING,
    BaseType,
    Characteristic,
    EntityType,
    InfoTable,
    Location,
    Method,
    Request,
    Response,
    Status,
    ThingCode,
    Timespan,
    Value,
)
from sandbox.thingworx.alwayson_calls import Question
from sandbox.thingworx.alwayson_values import native_value, wire_value
from sandbox.thingworx.errors import EdgeUnavailableError
from sandbox.thingworx.model import PropertyDefinition, remote_property
from tests.unit.sandbox.thingworx.alwayson_client import Edge, eventually, number, records, text

if TYPE_CHECKING:
    import requests

    from sandbox.thingworx.server import SimulatorServer
    from tests.unit.sandbox.thingworx.simulator_client import Client

MOMENT = 1_700_000_000_000


def _values(server: SimulatorServer, thing: str = "pump-1") -> dict[str, Any]:
    kept = server.platform.thing(thing).values
    return {name: vtq.value for name, vtq in kept.items() if not name.startswith(("is", "last"))}


def _refuse(status: int, reason: str | None = None) -> Any:
    return lambda request: Response(request.ids, status, reason)


async def test_a_current_platform_asks_for_metadata_and_state(server: SimulatorServer) -> None:
    state = InfoTable.build(
        NAMED_VTQ, [{"name": "temp", "value": number(3), "time": MOMENT, "quality": "GOOD"}]
    )
    async with Edge(server) as edge:
        edge.answers["SynchronizeModelState"] = lambda r: Response(r.ids, Status.SUCCESS, None, state)
        await edge.ready("pump-1")
        assert [request.target for request in edge.asked] == ["GetMetadata", "SynchronizeModelState"]
        told = edge.asked[1].params
        assert told is not None
        info = told.first("propertyInfo").value
        assert [row["edgeName"].value for row in info.records()] == ["temp", "Speed"]
        assert set(info.fields) == {"edgeName", "pushType", "pushThreshold", "startType"}
        assert told.first("eventInfo").value.rows == []
        assert (await edge.push("pump-1", ("Speed", 1))).status == Status.SUCCESS
        assert _values(server) == {"Temp": 3.0, "Speed": 1}
        assert server.platform.thing("pump-1").values["Temp"].time == MOMENT


async def test_a_platform_falls_back_when_the_state_is_refused(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        for service in ("GetMetadata", "SynchronizeModelState"):
            edge.answers[service] = _refuse(Status.NOT_FOUND)
        await edge.ready("pump-1")
        await edge.until_asked("NotifyPropertyUpdate")
        assert (await edge.push("pump-1", ("temp", 1))).status == Status.SUCCESS
        assert server.platform.log.accepted == 0
        await edge.service("pump-1", "GetPropertySubscriptions")
        await edge.push("pump-1", ("temp", 1))
        assert server.platform.log.accepted == 1


async def test_an_older_platform_notifies_and_waits_for_the_subscriptions(server: SimulatorServer) -> None:
    server.platform.settings.change({"sync_mode": "legacy"})
    async with Edge(server) as edge:
        await edge.auth()
        await edge.bind("pump-1")
        await edge.until_asked("NotifyPropertyUpdate")
        await edge.push("pump-1", ("temp", 1))
        await edge.service("pump-1", "GetPropertySubscriptions")
        await edge.push("pump-1", ("temp", 2))
        assert [record.value for record in server.platform.log.since()] == [2.0]
        assert server.alwayson.counters.counts["lost_rows"] == 1


async def test_values_pushed_before_synchronisation_are_answered_and_lost(server: SimulatorServer) -> None:
    server.platform.settings.change({"sync_mode": "none"})
    async with Edge(server) as edge:
        await edge.auth()
        assert (await edge.push("pump-1", ("temp", 1))).status == Status.SUCCESS
        await edge.bind("pump-1")
        assert (await edge.push("pump-1", ("temp", 1), ("Speed", 2))).status == Status.SUCCESS
        assert server.platform.log.accepted == 0
        assert {row["why"] for row in server.platform.log.rejected} == {"pushed before synchronisation"}
        server.platform.settings.change({"unsynchronised_push": "store"})
        await edge.push("pump-1", ("temp", 1))
        assert server.platform.log.accepted == 1
        assert edge.asked == []


async def test_values_that_follow_the_state_at_once_are_taken(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.auth()

        def state_and_push(request: Request) -> None:
            push = edge.push_of("pump-1", ("temp", 9))
            waiting.append(edge.expect(push))
            tasks.append(asyncio.create_task(_in_order(request, push)))

        async def _in_order(request: Request, push: Request) -> None:
            await edge.send(Response(request.ids, Status.SUCCESS, None, InfoTable.build(NAMED_VTQ)))
            await edge.send(push)

        waiting: list[asyncio.Future[Response]] = []
        tasks: list[asyncio.Task[None]] = []
        edge.answers["SynchronizeModelState"] = state_and_push
        await edge.bind("pump-1")
        await edge.until_asked("SynchronizeModelState")
        assert (await asyncio.wait_for(waiting[0], 10)).status == Status.SUCCESS
        assert _values(server)["Temp"] == 9.0


async def test_at_most_a_window_of_things_is_synchronised_at_one_time(server: SimulatorServer) -> None:
    server.platform.settings.change({"sync_window": 2})
    for name in ("a", "b", "c"):
        server.platform.add_thing(name)
    async with Edge(server) as edge:
        edge.answers["GetMetadata"] = lambda _: None
        await edge.auth()
        await edge.bind("a", "b", "c")
        first, _ = await edge.until_asked("GetMetadata", 2)
        await edge.service("a", "GetPropertySubscriptions")
        assert len(edge.asked) == 2
        await edge.send(Response(first.ids, Status.NOT_FOUND))
        assert [r.entity_name for r in await edge.until_asked("GetMetadata", 3)] == ["a", "b", "c"]


async def test_a_changed_or_restarted_thing_is_notified(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        await edge.service("pump-1", "RestartThing")
        await edge.until_asked("NotifyPropertyUpdate", 1)
        server.platform.define(server.platform.thing("pump-1"), remote_property("New"))
        await edge.until_asked("NotifyPropertyUpdate", 2)
        await edge.service(
            "pump-1", "SetRemotePropertyBinding", propertyName=text("New"), sourcePropertyName=text("neu")
        )
        await edge.until_asked("NotifyPropertyUpdate", 3)
        assert (await edge.push("pump-1", ("neu", 1))).status == Status.SUCCESS
        assert _values(server)["New"] == 1.0


async def test_rows_at_several_times_move_the_current_value_forward_only(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        await edge.push(
            "pump-1", ("temp", 1, MOMENT), ("temp", 3, MOMENT + 2, "BAD"), ("temp", 2, MOMENT + 1)
        )
        await edge.push("pump-1", ("temp", 0, MOMENT - 5), ("temp", 7, MOMENT))
        thing = server.platform.thing("pump-1")
        assert thing.values["Temp"] == (3.0, MOMENT + 2, "BAD")
        assert thing.history is not None
        times = [(vtq.time - MOMENT, vtq.value) for vtq in thing.history.of("Temp")]
        assert times == [(-5, 0.0), (0, 7.0), (1, 2.0), (2, 3.0)]


@pytest.mark.parametrize("row", [("nobody", 1), ("Speed", text("fast"))])
@pytest.mark.parametrize("policy", ["skip", "fail"])
async def test_a_bad_row_is_skipped_or_fails_the_call(
    server: SimulatorServer, row: tuple[Any, ...], policy: str
) -> None:
    server.platform.settings.change({"unknown_edge_name": policy, "bad_value": policy})
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        answer = await edge.push("pump-1", ("temp", 1), row, ("temp", 2, MOMENT + 1))
        assert (answer.status == Status.SUCCESS) is (policy == "skip")
        assert bool(answer.reason) is (policy == "fail")
        assert [r.value for r in server.platform.log.since()] == ([1.0, 2.0] if policy == "skip" else [1.0])


async def test_a_disabled_thing_takes_no_values(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        await edge.service("pump-1", "DisableThing")
        answer = await edge.push("pump-1", ("temp", 1))
        assert answer.status == Status.INTERNAL_ERROR
        assert str(answer.reason).startswith(
            "Unable to Invoke Service UpdateSubscribedPropertyValues on pump-1"
        )
        assert str(answer.reason).endswith(" : Thing [pump-1] is not enabled")


async def test_what_the_edge_writes_itself_is_stored_and_not_sent_back(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        assert (await edge.property(Method.PUT, "pump-1", "temp", number(4))).status == Status.SUCCESS
        rows = InfoTable.build(NAMED_VTQ, [{"name": "Speed", "value": number(5)}])
        table = Value(BaseType.INFOTABLE, rows)
        assert (await edge.service("pump-1", "UpdatePropertyValues", values=table)).status == Status.SUCCESS
        assert _values(server) == {"Temp": 4.0, "Speed": 5}
        read = await edge.property(Method.GET, "pump-1", "Temp")
        assert records(read) == [{"Temp": 4.0}]
        for method in (Method.GET, Method.PUT):
            unknown = await edge.property(method, "pump-1", "Nothing", number(1))
            assert unknown.status == Status.NOT_FOUND
        empty = await edge.property(Method.PUT, "pump-1", "Temp", NOTHING)
        assert (empty.status, "cannot be null" in str(empty.reason)) == (Status.INTERNAL_ERROR, True)
        assert all(request.method is not Method.PUT for request in edge.asked)


async def test_a_rest_write_waits_for_the_edges_answer_and_stores_nothing(
    server: SimulatorServer, client: Client
) -> None:
    def put(value: Any) -> requests.Response:
        return client.call("PUT", "Things/pump-1/Properties/Temp", {"Temp": value})

    async with Edge(server) as edge:
        await edge.ready("pump-1")
        edge.answers["temp"] = lambda _: None
        writing = asyncio.create_task(asyncio.to_thread(put, 42))
        (asked,) = await edge.until_asked("temp")
        assert (asked.method, asked.entity_name, asked.characteristic) == (Method.PUT, "pump-1", 1)
        assert asked.params is not None
        assert asked.params.first("temp") == number(42)
        await edge.service("pump-1", "GetPropertySubscriptions")
        assert not writing.done()
        await edge.send(Response(asked.ids, Status.SUCCESS))
        assert (await writing).status_code == 200
        assert _values(server) == {}
        edge.answers["temp"] = _refuse(Status.FORBIDDEN, "valve is locked")
        refused = await asyncio.to_thread(put, 43)
        assert (refused.status_code, refused.text) == (403, "valve is locked")
        edge.answers["temp"] = _refuse(Status.COMM_ERROR)
        assert (await asyncio.to_thread(put, 43)).status_code == 502
        edge.answers["temp"] = lambda _: None
        server.platform.settings.edge_answer_seconds = 0.05
        late = await asyncio.to_thread(put, 44)
        assert late.status_code == 503
        await eventually(lambda: server.alwayson.counters.counts["edge_timeouts"] == 1)
        await edge.send(Response(edge.asked[-1].ids, Status.SUCCESS))
        await edge.service("pump-1", "GetPropertySubscriptions")
        assert server.alwayson.counters.counts["unmatched_answers"] == 1


async def test_a_write_over_another_connection_travels_to_the_edge(server: SimulatorServer) -> None:
    async with Edge(server) as edge, Edge(server) as other:
        await edge.ready("pump-1")
        await other.auth()
        assert (await other.property(Method.PUT, "pump-1", "Temp", number(4))).status == Status.SUCCESS
        assert [r.target for r in edge.asked if r.method is Method.PUT] == ["temp"]
        edge.answers["temp"] = _refuse(Status.FORBIDDEN, "locked")
        refused = await other.property(Method.PUT, "pump-1", "Temp", number(4))
        assert (refused.status, refused.reason) == (Status.FORBIDDEN, "locked")


async def test_writes_that_waited_come_after_the_bind(server: SimulatorServer, client: Client) -> None:
    server.platform.add_thing("q", properties=[remote_property("T", fold_type="QUEUE")])
    for value in (1, 2):
        put = client.call
        await asyncio.to_thread(put, "PUT", "Things/q/Properties/T", {"T": value})
    async with Edge(server) as edge:
        await edge.auth()
        await edge.bind("q")
        puts = await edge.until_asked("T", 2)
        assert [request.params and request.params.first("T").value for request in puts] == [1.0, 2.0]


async def test_request_numbers_may_have_the_top_bit_set(server: SimulatorServer) -> None:
    server.platform.settings.change({"first_request_id": 0xFFFF_FFFD})
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        await edge.service("pump-1", "RestartThing")
        await edge.until_asked("NotifyPropertyUpdate")
        assert [request.ids.request for request in edge.asked] == [0xFFFF_FFFD, 0xFFFF_FFFE, 0]


async def test_a_property_without_cache_is_read_from_the_edge(
    server: SimulatorServer, client: Client
) -> None:
    server.platform.add_thing("live", properties=[remote_property("T", edge_name="t", cache_time=0)])

    def get() -> requests.Response:
        return client.call("GET", "Things/live/Properties/T")

    async with Edge(server) as edge:
        await edge.ready("live")
        answer = InfoTable.of({"t": number(21.5)})
        edge.answers["t"] = lambda r: Response(r.ids, Status.SUCCESS, None, answer)
        assert (await asyncio.to_thread(get)).json()["rows"] == [{"T": 21.5}]
        assert edge.asked[-1].method is Method.GET
        edge.answers["t"] = _refuse(Status.NOT_FOUND, "never seen")
        refused = await asyncio.to_thread(get)
        assert (refused.status_code, refused.text) == (404, "never seen")
    await eventually(lambda: not server.platform.edges)
    assert (await asyncio.to_thread(get)).json()["rows"] == [{"T": 21.5}]


async def test_a_test_may_ask_the_edge_anything(server: SimulatorServer, client: Client) -> None:
    async with Edge(server) as edge:
        with pytest.raises(EdgeUnavailableError):
            server.alwayson.request("pump-1", Question(Method.GET, Characteristic.PROPERTIES, "*"))
        await edge.ready("pump-1")
        edge.answers["Add"] = lambda r: Response(
            r.ids, Status.SUCCESS, None, InfoTable.of({"result": number(sum(_numbers(r)))})
        )
        table = {
            "dataShape": {"fieldDefinitions": {"a": {"baseType": "NUMBER"}, "b": {"baseType": "NUMBER"}}},
            "rows": [{"a": 1, "b": 2}],
        }
        body = {"method": "POST", "service": "Add", "params": table}
        answer = await asyncio.to_thread(client.control, "POST", "/edges/pump-1/request", body)
        assert answer["status"] == 200
        assert answer["content"]["rows"] == [{"result": {"baseType": "NUMBER", "value": 3.0}}]
        edge.answers["gone"] = _refuse(Status.NOT_FOUND, "no such property")
        body = {"method": "GET", "property": "gone"}
        answer = await asyncio.to_thread(client.control, "POST", "/edges/pump-1/request", body)
        assert (answer["status"], answer["reason"]) == (404, "no such property")


def _numbers(request: Request) -> list[float]:
    assert request.params is not None
    return [cell.value for cell in request.params.rows[0]]


async def test_events_of_both_sdks_are_kept(server: SimulatorServer) -> None:
    async with Edge(server) as edge:
        await edge.ready("pump-1")
        params = InfoTable.of({"level": number(3)})
        event = Request(
            edge.ids(), Method.POST, EntityType.THINGS, "pump-1", Characteristic.EVENTS, "Leak", params
        )
        assert (await edge.exchange(event)).status == Status.SUCCESS
        rows = InfoTable.build(
            {"eventName": BaseType.STRING, "eventData": BaseType.INFOTABLE},
            [{"eventName": "Leak", "eventData": params}],
        )
        values = Value(BaseType.INFOTABLE, rows)
        assert (await edge.service("pump-1", "ProcessRemoteEvents", values=values)).status == Status.SUCCESS
        assert (await edge.service("pump-1", "GetEventSubscriptions")).status == Status.SUCCESS
        assert [(thing, name) for thing, name, _ in server.platform.events] == [("pump-1", "Leak")] * 2


WIRE = [
    ("STRING", text("ä")),
    ("NUMBER", number(1.5)),
    ("INTEGER", Value(BaseType.INTEGER, -7)),
    ("LONG", Value(BaseType.LONG, 2**40)),
    ("BOOLEAN", Value(BaseType.BOOLEAN, True)),  # noqa: FBT003 - the value itself
    ("DATETIME", Value(BaseType.DATETIME, MOMENT)),
    ("LOCATION", Value(BaseType.LOCATION, Location(5.1, 52.1, 2.0))),
    ("JSON", Value(BaseType.JSON, '{"a": [1, "é"]}')),
    ("TAGS", Value(BaseType.TAGS, "V:t;V2:t2")),
    ("IMAGE", Value(BaseType.IMAGE, b"\x01\x02")),
    ("GUID", Value(BaseType.GUID, "c0ffee")),
    ("VEC3", Value(BaseType.VEC3, (1.0, 2.0, 3.0))),
    ("TIMESPAN", Value(BaseType.TIMESPAN, Timespan(1, 2, "00:01"))),
    ("THINGCODE", Value(BaseType.THINGCODE, ThingCode(5, 77))),
    ("VARIANT", Value(BaseType.VARIANT, text("x"))),
    ("INFOTABLE", Value(BaseType.INFOTABLE, InfoTable.of({"x": number(1)}))),
]


@pytest.mark.parametrize(("kind", "value"), WIRE, ids=[kind for kind, _ in WIRE])
async def test_every_base_type_is_pushed_stored_read_and_written(
    server: SimulatorServer, kind: str, value: Value
) -> None:
    server.platform.add_thing("all", properties=[remote_property("P", kind)])
    async with Edge(server) as edge:
        await edge.ready("all")
        assert (await edge.push("all", ("P", value))).status == Status.SUCCESS
        assert server.platform.log.accepted == 1
        read = await edge.property(Method.GET, "all", "P")
        assert read.content is not None
        assert read.content.first("P") == value
        async with Edge(server) as other:
            await other.auth()
            assert (await other.property(Method.PUT, "all", "P", value)).status == Status.SUCCESS
        (put,) = [request for request in edge.asked if request.method is Method.PUT]
        assert put.params is not None
        assert put.params.first("P") == value


@pytest.mark.parametrize("kind", ["TEXT", "THINGNAME", "HYPERLINK", "HTML"])
def test_names_links_and_texts_travel_as_string(kind: str) -> None:
    assert wire_value("x", kind) == text("x")


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_any_json_value_survives_a_variant(value: Any) -> None:
    assert native_value(wire_value(value, "VARIANT")) == value


async def test_a_value_too_strange_to_send_is_a_readable_error(
    server: SimulatorServer, client: Client
) -> None:
    server.platform.add_thing("odd", properties=[remote_property("P", "INFOTABLE")])
    table = {"dataShape": {"fieldDefinitions": {"a": {"baseType": "NO SUCH TYPE"}}}, "rows": []}
    async with Edge(server) as edge:
        await edge.ready("odd")
        answer = await asyncio.to_thread(client.call, "PUT", "Things/odd/Properties/P", {"P": table})
        assert answer.status_code == 500
        assert "can't be sent" in answer.text


async def test_a_thing_without_remote_properties_has_an_empty_model(server: SimulatorServer) -> None:
    server.platform.add_thing("bare", properties=[PropertyDefinition("Local", "NUMBER")])
    async with Edge(server) as edge:
        await edge.ready("bare")
        told = edge.asked[-1].params
        assert told is not None
        assert told.first("propertyInfo").value.rows == []
