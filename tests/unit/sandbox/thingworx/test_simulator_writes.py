"""How values are stored, forwarded to an edge, or refused."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.thingworx.edges import QueuedEdge
from sandbox.thingworx.model import PropertyDefinition, RemoteBinding, remote_property
from tests.unit.sandbox.thingworx.simulator_client import vtq_table

if TYPE_CHECKING:
    from sandbox.thingworx.platform import EdgeWrite
    from tests.unit.sandbox.thingworx.simulator_client import Client

UPDATE = "Things/tank-1/UpdatePropertyValues"


def named_vtq(client: Client, thing: str, name: str) -> dict[str, Any]:
    rows = client.rows(f"Things/{thing}/GetNamedPropertyValuesVTQ", propertyNames={"rows": [{"name": name}]})
    return rows[0]


def test_put_writes_one_property_with_the_platforms_time(client: Client) -> None:
    before = client.server.platform.now()
    answer = client.call("PUT", "Things/tank-1/Properties/Level", {"Level": 3.5})
    assert (answer.status_code, answer.content) == (200, b"")
    row = named_vtq(client, "tank-1", "Level")
    assert (row["value"], row["quality"]) == (3.5, "GOOD")
    assert before <= row["time"] <= client.server.platform.now()


def test_put_takes_only_the_property_its_url_names(client: Client) -> None:
    client.server.platform.define(
        client.server.platform.thing("tank-1"), PropertyDefinition("Other", "NUMBER")
    )
    client.call("PUT", "Things/tank-1/Properties/Level", {"Level": 1, "Other": 2})
    assert client.value("tank-1", "Other") == 0
    client.call("PUT", "Things/tank-1/Properties/*", {"Level": 5, "Other": 6})
    assert (client.value("tank-1", "Level"), client.value("tank-1", "Other")) == (5, 6)
    assert client.call("PUT", "Things/tank-1/Properties/Level", {"Other": 2}).status_code == 404


def test_set_property_values_writes_the_columns_of_a_row(client: Client) -> None:
    answer = client.service("Things/tank-1/SetPropertyValues", values={"rows": [{"Level": 8}]})
    assert answer.status_code == 200
    assert client.value("tank-1", "Level") == 8


def test_a_read_only_property_takes_no_write(client: Client) -> None:
    assert (
        client.call("PUT", "Things/pump-1/Properties/isConnected", {"isConnected": True}).status_code == 403
    )


@pytest.mark.parametrize("value", [21.5, {"value": 21.5, "baseType": "NUMBER"}])
@pytest.mark.parametrize(
    "time", [1_700_000_000_123, "2023-11-14T22:13:20.123Z", "2023-11-14T23:13:20.123+01:00"]
)
def test_update_property_values_keeps_time_and_quality(client: Client, value: Any, time: Any) -> None:
    row = {"name": "Level", "time": time, "value": value, "quality": "BAD"}
    answer = client.service(UPDATE, values=vtq_table(row))
    assert (answer.status_code, answer.content) == (200, b"")
    assert named_vtq(client, "tank-1", "Level") == {
        "name": "Level", "value": 21.5, "time": 1_700_000_000_123, "quality": "BAD",
    }  # fmt: skip


def test_the_current_value_only_moves_forward_in_time(client: Client) -> None:
    client.push("pump-1", *({"name": "temp", "value": t, "time": t} for t in (1000, 3000, 2000)))
    assert client.value("pump-1", "Temp") == 3000
    client.push("pump-1", {"name": "temp", "value": -1, "time": 3000})
    assert client.value("pump-1", "Temp") == -1
    found = client.rows("Things/pump-1/QueryNumberPropertyHistory", propertyName="Temp", oldestFirst=True)
    assert [(row["timestamp"], row["value"]) for row in found] == [(1000, 1000), (2000, 2000), (3000, -1)]


def test_a_subscribed_update_stores_value_time_and_quality_by_edge_name(client: Client) -> None:
    answer = client.push("pump-1", {"name": "temp", "value": 20, "time": 5000, "quality": "OUT_OF_RANGE"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert named_vtq(client, "pump-1", "Temp") == {
        "name": "Temp", "value": 20, "time": 5000, "quality": "OUT_OF_RANGE",
    }  # fmt: skip


def test_a_subscribed_update_exists_on_remote_things_only(client: Client) -> None:
    answer = client.push("tank-1", {"name": "Level", "value": 1})
    assert answer.status_code == 404
    assert answer.text.startswith("No service handler defined for service UpdateSubscribedPropertyValues")


def test_a_row_of_an_unknown_edge_name_is_skipped_without_a_word(client: Client) -> None:
    answer = client.push("pump-1", {"name": "Temp", "value": 1}, {"name": "Speed", "value": 2})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (client.value("pump-1", "Temp"), client.value("pump-1", "Speed")) == (0, 2)
    (refused,) = client.control("GET", "/rejected")
    assert refused["property"] == "Temp"


def test_a_row_of_an_unknown_edge_name_fails_the_call_when_the_platform_is_set_so(client: Client) -> None:
    client.server.platform.settings.unknown_edge_name = "fail"
    answer = client.push("pump-1", {"name": "Temp", "value": 1})
    assert answer.status_code == 500
    assert "Property [Temp] Does Not Exist On Thing [pump-1]" in answer.text


@pytest.mark.parametrize("value", [None, "hot", True, {"a": 1}, [1]])
def test_a_row_whose_value_does_not_fit_is_skipped_or_fails_the_call(client: Client, value: Any) -> None:
    rows = {"name": "Level", "value": value, "time": 1}, {"name": "Level", "value": 4, "time": 2}
    assert client.service(UPDATE, values=vtq_table(*rows)).status_code == 200
    assert client.value("tank-1", "Level") == 4
    client.server.platform.settings.bad_value = "fail"
    assert client.service(UPDATE, values=vtq_table(*rows)).status_code == 500


@pytest.mark.parametrize("time", ["soon", True, {"a": 1}, 1e300, -1e18])
def test_a_row_whose_time_is_none_is_skipped(client: Client, time: Any) -> None:
    assert client.push("pump-1", {"name": "temp", "value": 1, "time": time}).status_code == 200
    assert client.control("GET", "/writes") == []
    assert len(client.control("GET", "/rejected")) == 1


def test_an_unknown_quality_is_kept_as_unknown(client: Client) -> None:
    client.push("pump-1", {"name": "temp", "value": 1, "quality": ["odd"]})
    assert named_vtq(client, "pump-1", "Temp")["quality"] == "UNKNOWN"


def test_a_bulk_update_needs_its_table(client: Client) -> None:
    assert client.service(UPDATE).status_code == 500
    assert client.service(UPDATE, values=[1]).status_code == 500


REMOTE_WRITES = (
    ("PUT", "Things/pump-1/Properties/Temp", {"Temp": 7}),
    ("PUT", "Things/pump-1/Properties/*", {"Temp": 7}),
    ("POST", "Things/pump-1/Services/SetPropertyValues", {"values": {"rows": [{"Temp": 7}]}}),
    (
        "POST",
        "Things/pump-1/Services/UpdatePropertyValues",
        {"values": vtq_table({"name": "Temp", "value": 7})},
    ),
)


@pytest.mark.parametrize(("method", "path", "body"), REMOTE_WRITES)
def test_a_write_to_a_bound_property_is_forwarded_under_the_edge_name_and_stored_nowhere(
    client: Client, method: str, path: str, body: Any
) -> None:
    edge = QueuedEdge()
    client.server.platform.bind_edge("pump-1", edge)
    assert client.call(method, path, body).status_code == 200
    (write,) = edge.take()
    assert (write.thing, write.property, write.edge_name, write.base_type, write.value) == (
        "pump-1", "Temp", "temp", "NUMBER", 7.0,
    )  # fmt: skip
    assert client.value("pump-1", "Temp") == 0
    assert client.rows("Things/pump-1/QueryPropertyHistory") == []
    assert client.control("GET", "/writes") == []


@pytest.mark.parametrize(("method", "path", "body"), REMOTE_WRITES)
def test_without_an_edge_a_write_to_a_bound_property_fails(
    client: Client, method: str, path: str, body: Any
) -> None:
    answer = client.call(method, path, body)
    assert answer.status_code == (503 if method == "PUT" else 500)
    assert "Thing [pump-1] is not connected" in answer.text


def test_the_edges_refusal_is_the_clients(client: Client) -> None:
    client.server.platform.bind_edge("pump-1", QueuedEdge(refusal=RuntimeError("valve is locked")))
    answer = client.call("PUT", "Things/pump-1/Properties/Temp", {"Temp": 7})
    assert (answer.status_code, answer.text) == (500, "valve is locked")
    answer = client.service("Things/pump-1/SetPropertyValues", values={"rows": [{"Temp": 7}]})
    assert answer.text == "Unable to Invoke Service SetPropertyValues on pump-1 : valve is locked"


def test_the_answer_waits_for_the_edges_answer(client: Client) -> None:
    class SlowEdge(QueuedEdge):
        def __init__(self) -> None:
            super().__init__()
            self.asked: Future[Future[None]] = Future()

        def write(self, write: EdgeWrite) -> Future[None]:
            answer: Future[None] = Future()
            self.asked.set_result(answer)
            return answer

    edge = SlowEdge()
    client.server.platform.bind_edge("pump-1", edge)
    outcome: Future[int] = Future()

    def put() -> None:
        body = {"Temp": 7}
        outcome.set_result(client.call("PUT", "Things/pump-1/Properties/Temp", body).status_code)

    thread = threading.Thread(target=put)
    thread.start()
    answer = edge.asked.result(timeout=10)
    assert not outcome.done()
    answer.set_result(None)
    assert outcome.result(timeout=10) == 200
    thread.join()


@pytest.mark.parametrize(("fold_type", "expected"), [("QUEUE", [1, 2, 3]), ("FOLD", [3])])
def test_folded_and_queued_writes_wait_for_the_edge(
    client: Client, fold_type: str, expected: list[int]
) -> None:
    answer = client.service(
        "Things/pump-1/SetRemotePropertyBinding", propertyName="Speed", foldType=fold_type
    )
    assert answer.status_code == 200
    for value in (1, 2, 3):
        body = {"Speed": value}
        assert client.call("PUT", "Things/pump-1/Properties/Speed", body).status_code == 200
    edge = QueuedEdge()
    client.server.platform.bind_edge("pump-1", edge)
    assert [write.value for write in edge.take()] == expected


def test_binding_an_edge_shows_in_is_connected(client: Client) -> None:
    edge = QueuedEdge()
    client.server.platform.bind_edge("pump-1", edge)
    assert client.value("pump-1", "isConnected") is True
    assert client.value("pump-1", "lastConnection") > 0
    client.server.platform.unbind_edge("pump-1", QueuedEdge())  # not the one that is bound
    assert client.value("pump-1", "isConnected") is True
    client.server.platform.unbind_edge("pump-1", edge)
    assert client.value("pump-1", "isConnected") is False


@pytest.mark.parametrize(
    ("base_type", "sent", "read"),
    [
        ("STRING", "warm", "warm"),
        ("INTEGER", 7, 7),
        ("LONG", 2**53 + 1, 2**53 + 1),
        ("BOOLEAN", True, True),
        ("DATETIME", "2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("JSON", {"a": [1, None]}, {"a": [1, None]}),
        ("VARIANT", {"value": 3, "baseType": "INTEGER"}, 3),
        ("BLOB", "AAE=", "AAE="),
        ("TAGS", "V:t", [{"vocabulary": "V", "vocabularyTerm": "t"}]),
        (
            "LOCATION",
            {"latitude": 1.5, "longitude": -2, "elevation": 0},
            {"latitude": 1.5, "longitude": -2.0, "elevation": 0.0, "units": "WGS84"},
        ),
    ],
)
def test_every_base_type_is_read_back_as_it_was_written(
    client: Client, base_type: str, sent: Any, read: Any
) -> None:
    platform = client.server.platform
    platform.define(platform.thing("pump-1"), remote_property("P", base_type))
    assert client.push("pump-1", {"name": "P", "value": sent, "time": 1}).status_code == 200
    assert client.value("pump-1", "P") == read


def test_an_infotable_is_read_back_with_its_columns(client: Client) -> None:
    platform = client.server.platform
    platform.define(platform.thing("pump-1"), remote_property("P", "INFOTABLE"))
    table = {
        "dataShape": {"fieldDefinitions": {"x": {"name": "x", "baseType": "NUMBER"}}},
        "rows": [{"x": 1}],
    }
    client.push("pump-1", {"name": "P", "value": table, "time": 1})
    read = client.value("pump-1", "P")
    assert read["rows"] == [{"x": 1}]
    assert read["dataShape"]["fieldDefinitions"]["x"]["baseType"] == "NUMBER"


def test_a_thing_that_is_switched_off_takes_and_gives_no_values(client: Client) -> None:
    client.service("Things/pump-1/DisableThing")
    assert client.push("pump-1", {"name": "temp", "value": 1}).status_code == 500
    answer = client.call("GET", "Things/pump-1/Properties/Temp")
    assert (answer.status_code, answer.text) == (503, "Thing [pump-1] is not enabled")
    assert client.service("Things/pump-1/GetPropertyDefinitions").status_code == 200
    client.service("Things/pump-1/EnableThing")
    assert client.push("pump-1", {"name": "temp", "value": 1}).status_code == 200


def test_accepted_writes_are_logged_in_order_without_gaps(client: Client) -> None:
    rows = [{"name": "temp", "value": n, "time": 1000 + n} for n in range(500)]
    client.push("pump-1", *rows)
    log = client.control("GET", "/writes")
    assert [record["sequence"] for record in log] == list(range(1, 501))
    assert [record["value"] for record in log] == list(range(500))
    assert {record["service"] for record in log} == {"UpdateSubscribedPropertyValues"}


def test_a_binding_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Exception, match="not a push type"):
        RemoteBinding("x", "SOMETIMES")
    with pytest.raises(Exception, match="not a base type"):
        PropertyDefinition("x", "FLOAT")


def test_changed_since_compares_with_the_newest_value(client: Client) -> None:
    client.push("pump-1", {"name": "temp", "value": 1, "time": 5000})
    path = "Things/pump-1/HavePropertiesChangedSince"
    assert client.rows(path, timestamp=4999) == [{"result": True}]
    assert client.rows(path, timestamp=5000) == [{"result": False}]
