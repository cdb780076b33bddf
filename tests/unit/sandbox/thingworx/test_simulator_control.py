"""The control API: guarded, and complete enough to drive a test from another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client


def control(client: Client, method: str, path: str, **options: object) -> requests.Response:
    url = f"{client.server.control_url}/simulator{path}"
    return requests.request(method, url, timeout=10, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/faults"), ("PUT", "/state"), ("DELETE", "/writes"), ("POST", "/fleet")]
)
def test_a_change_needs_the_control_header(client: Client, method: str, path: str) -> None:
    assert control(client, method, path, json={}).status_code == 403


def test_every_answer_says_that_it_is_a_simulator(client: Client) -> None:
    for path in ("", "/faults", "/nonsense"):
        assert control(client, "GET", path).headers["X-Simulator"] == "thingworx"
    assert "X-Simulator" not in client.call("GET", "Things").headers


def test_the_control_port_does_not_speak_thingworx(client: Client) -> None:
    answer = requests.get(f"{client.server.control_url}/Thingworx/Things", headers=client.headers, timeout=10)
    assert answer.status_code == 404


def test_faults_are_added_listed_and_removed(client: Client) -> None:
    rule = client.control("POST", "/faults", {"service": "GetTags", "status": 503, "times": 5})
    assert client.service("Things/pump-1/GetTags").status_code == 503
    (listed,) = client.control("GET", "/faults")
    assert (listed["id"], listed["hits"], listed["times"]) == (rule["id"], 1, 5)
    client.control("DELETE", f"/faults/{rule['id']}")
    assert client.service("Things/pump-1/GetTags").status_code == 200
    client.control("POST", "/faults", {"status": 500})
    client.control("DELETE", "/faults")
    assert client.service("Things/pump-1/GetTags").status_code == 200


def test_a_wrong_call_is_400_and_says_why(client: Client) -> None:
    headers = {"X-Simulator-Control": "1"}
    answer = control(client, "POST", "/faults", json={"statsu": 500}, headers=headers)
    assert answer.status_code == 400
    assert "statsu" in answer.json()["error"]
    assert control(client, "PUT", "/state", data="{", headers=headers).status_code == 400
    assert control(client, "PUT", "/settings", json={"log_limit": 1}, headers=headers).status_code == 400
    assert control(client, "DELETE", "/faults/77", headers=headers).status_code == 404


def test_state_sets_latency_and_starting(client: Client) -> None:
    client.control("PUT", "/state", {"starting": True, "latency_ms": 1})
    assert client.call("GET", "Things").status_code == 503
    assert client.control("GET", "")["starting"] is True
    client.control("PUT", "/state", {"starting": False})
    assert client.call("GET", "Things").status_code == 200
    assert client.server.faults.latency_ms == 1


def test_settings_switch_services_off(client: Client) -> None:
    client.control("PUT", "/settings", {"missing_services": ["GetTags"], "strict_base_types": True})
    assert client.service("Things/pump-1/GetTags").status_code == 404
    assert client.call("PUT", "Things/tank-1/Properties/Level", {"Level": "5"}).status_code == 500


def test_counters_include_writes(client: Client) -> None:
    client.push("pump-1", {"name": "temp", "value": 1}, {"name": "nothing", "value": 1})
    counters = client.control("GET", "/counters")
    assert (counters["writes_accepted"], counters["writes_rejected"]) == (1, 1)
    client.control("DELETE", "/counters")
    assert client.control("GET", "/counters")["requests"] == 0


def test_writes_are_read_in_pieces_and_by_thing(client: Client) -> None:
    for number in range(3):
        client.push("pump-1", {"name": "temp", "value": number, "time": number, "quality": "BAD"})
        client.call("PUT", "Things/tank-1/Properties/Level", {"Level": number})
    first = client.control("GET", "/writes?limit=4")
    rest = client.control("GET", f"/writes?since={first[-1]['sequence']}")
    assert [record["sequence"] for record in first + rest] == [1, 2, 3, 4, 5, 6]
    tank = client.control("GET", "/writes?thing=tank-1")
    assert [(record["property"], record["value"], record["service"]) for record in tank] == [
        ("Level", 0, "PUT"), ("Level", 1, "PUT"), ("Level", 2, "PUT"),
    ]  # fmt: skip
    assert {key: first[0][key] for key in ("thing", "property", "time", "quality")} == {
        "thing": "pump-1", "property": "Temp", "time": 0, "quality": "BAD",
    }  # fmt: skip
    client.control("DELETE", "/writes")
    assert client.control("GET", "/writes") == []


def test_values_and_history_are_read_out(client: Client) -> None:
    for time in (1, 2):
        client.push("pump-1", {"name": "temp", "value": time, "time": time})
    values = client.control("GET", "/things")
    assert values["pump-1"]["Temp"] == {"value": 2, "time": 2, "quality": "GOOD"}
    history = client.control("GET", "/things/pump-1")["history"]
    assert [vtq["value"] for vtq in history["Temp"]] == [1, 2]


def test_a_fleet_is_added(client: Client) -> None:
    fleet = {
        "templates": [{"name": "Pump", "properties": [{"name": "Rate", "remote": False}]}],
        "things": [
            {
                "name": "p-{}",
                "count": 3,
                "first": 7,
                "template": "Pump",
                "tags": ["Plant:Line1"],
                "identifier": "SN-{}",
                "properties": [{"name": "T", "edgeName": "t", "baseType": "INTEGER", "pushType": "VALUE"}],
            }
        ],
    }
    assert client.control("POST", "/fleet", fleet) == {"things": 3}
    assert client.rows("Things/p-9/GetIdentifier") == [{"result": "SN-9"}]
    assert client.rows("Things/p-7/GetPropertySubscriptions") == [
        {"edgeName": "t", "pushType": "VALUE", "pushThreshold": 0}
    ]
    headers = {"X-Simulator-Control": "1"}
    assert control(client, "POST", "/fleet", json=fleet, headers=headers).status_code == 400


def test_an_edge_is_bound_and_its_writes_taken(client: Client) -> None:
    client.control("PUT", "/edges/pump-1")
    assert client.call("PUT", "Things/pump-1/Properties/Temp", {"Temp": 5}).status_code == 200
    assert client.control("GET", "/edges/pump-1") == [{"edge_name": "temp", "property": "Temp", "value": 5}]
    assert client.control("GET", "/edges/pump-1") == []
    client.control("DELETE", "/edges/pump-1")
    assert client.call("PUT", "Things/pump-1/Properties/Temp", {"Temp": 5}).status_code == 503
