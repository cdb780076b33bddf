"""What every REST request must carry, and how refusals look."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sandbox.thingworx.model import VTQ

if TYPE_CHECKING:
    from sandbox.thingworx.server import SimulatorServer
    from tests.unit.sandbox.thingworx.simulator_client import Client

VERSION = "Subsystems/PlatformSubsystem/Services/GetThingworxVersion"


@pytest.mark.parametrize("header", ["appKey", "AppKey", "appkey", "APPKEY"])
def test_the_app_key_header_is_case_insensitive(client: Client, header: str) -> None:
    answer = client.call("GET", "Things", **{"appKey": None, header: client.server.app_key})
    assert answer.status_code == 200


@pytest.mark.parametrize("key", [None, "wrong", ""])
def test_a_missing_or_unknown_app_key_is_answered_401_with_a_page(client: Client, key: str | None) -> None:
    answer = client.call("POST", VERSION, {}, appKey=key)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/html")


def test_an_app_key_in_the_url_is_refused_even_beside_a_good_header(client: Client) -> None:
    answer = client.call("POST", f"{VERSION}?appKey={client.server.app_key}", {})
    assert answer.status_code == 401


def test_platforms_before_8_0_take_the_app_key_from_the_url(client: Client) -> None:
    client.server.platform.settings.allow_app_key_in_url = True
    assert client.call("GET", f"Things?appKey={client.server.app_key}", appKey=None).status_code == 200


def test_a_revoked_app_key_stops_working(client: Client) -> None:
    client.control("POST", "/app-keys", {"revoke": [client.server.app_key], "add": ["next"]})
    assert client.call("GET", "Things").status_code == 401
    assert client.call("GET", "Things", appKey="next").status_code == 200


@pytest.mark.parametrize("accept", [None, "text/html", "*/*"])
def test_without_accept_json_the_answer_is_html(server: SimulatorServer, accept: str | None) -> None:
    headers = {"appKey": server.app_key, "Accept": accept}
    answer = requests.get(f"{server.url}/Thingworx/Things", headers=headers, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "pump-1" in answer.text


def test_json_is_found_among_several_accepted_types(client: Client) -> None:
    assert client.call("GET", "Things", Accept="text/html, application/json;q=0.9").json()["rows"]


def test_an_unavailable_answer_type_is_406(client: Client) -> None:
    assert client.call("GET", "Things", Accept="image/png").status_code == 406


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", VERSION), ("PUT", "Things/tank-1/Properties/Level"), ("DELETE", "Things/tank-1")],
)
@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_post_put_and_delete_need_a_json_or_xml_content_type(
    client: Client, method: str, path: str, content_type: str | None
) -> None:
    answer = client.call(method, path, Content_Type=content_type)
    assert answer.status_code == 403


def test_a_content_type_may_carry_a_charset(client: Client) -> None:
    assert client.call("POST", VERSION, Content_Type="application/json; charset=utf-8").status_code == 200


def test_a_service_without_parameters_takes_an_empty_body(client: Client) -> None:
    assert client.call("POST", VERSION).json()["rows"] == [{"result": "9.7.0"}]


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"a": NaN}'])
def test_a_body_that_is_no_json_object_is_406(client: Client, body: bytes) -> None:
    url = f"{client.server.url}/Thingworx/{VERSION}"
    answer = requests.post(url, data=body, headers=client.headers, timeout=10)
    assert answer.status_code == 406


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", VERSION),
        ("PUT", VERSION),
        ("POST", "Things/tank-1/Properties/Level"),
        ("POST", "Things"),
        ("PUT", "Things/tank-1"),
    ],
)
def test_the_wrong_verb_is_405(client: Client, method: str, path: str) -> None:
    assert client.call(method, path, {} if method != "GET" else None).status_code == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "Things/nobody"),
        ("GET", "Things/nobody/Properties"),
        ("GET", "Things/tank-1/Properties/Nothing"),
        ("PUT", "Things/tank-1/Properties/Nothing"),
        ("GET", "Gadgets"),
        ("GET", "Gadgets/tank-1"),
        ("POST", "Gadgets/tank-1/Services/GetTags"),
        ("POST", "Things/nobody/Services/GetTags"),
        ("POST", "ThingTemplates/nobody/Services/QueryImplementingThings"),
        ("POST", "Resources/nobody/Services/GetEntityList"),
        ("POST", "Things/tank-1/Services/NoSuchService"),
        ("GET", "Things/tank-1/Nonsense"),
        ("GET", ""),
    ],
)
def test_what_does_not_exist_is_404(client: Client, method: str, path: str) -> None:
    assert client.call(method, path, {} if method != "GET" else None).status_code == 404


def test_an_unknown_property_is_named(client: Client) -> None:
    answer = client.call("GET", "Things/tank-1/Properties/Nothing")
    assert answer.text == "Property [Nothing] Does Not Exist On Thing [tank-1]"


def test_an_unknown_service_has_no_handler(client: Client) -> None:
    answer = client.service("Things/tank-1/NoSuchService")
    assert answer.text == "No service handler defined for service NoSuchService on thing tank-1"
    client.server.platform.settings.unknown_service_status = 500
    assert client.service("Things/tank-1/NoSuchService").status_code == 500


def test_a_failing_service_is_500_with_its_cause_as_text(client: Client) -> None:
    answer = client.service("Things/tank-1/GetPropertyDefinition")
    assert answer.status_code == 500
    assert answer.text == (
        "Unable to Invoke Service GetPropertyDefinition on tank-1 : Required parameter [name] is missing"
    )
    assert not answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("Resources/EntityServices/GetEntityList", {"type": "Thing", "tags": 5}),
        ("Resources/EntityServices/GetEntityList", {"type": "Thing", "maxItems": "many"}),
        ("Resources/EntityServices/GetEntityList", {"type": "Thing", "maxItems": -1}),
        ("Resources/SearchFunctions/SearchModelTags", {"types": 5}),
        ("ThingTemplates/RemoteThing/QueryImplementingThings", {"query": {"sorts": {"fieldName": 1}}}),
        ("ThingTemplates/RemoteThing/QueryImplementingThings", {"query": 5}),
        (
            "Things/pump-1/AddPropertyDefinition",
            {"name": "P", "type": "NUMBER", "pushThreshold": "x", "remote": True},
        ),
        ("Things/pump-1/QueryPropertyHistory", {"startDate": "soon"}),
        ("Things/pump-1/GetNamedPropertyValuesVTQ", {"propertyNames": [1]}),
    ],
)
def test_parameters_of_another_shape_fail_the_service(
    client: Client, path: str, params: dict[str, Any]
) -> None:
    answer = client.service(path, **params)
    assert answer.status_code == 500
    assert answer.text.startswith("Unable to Invoke Service")


def test_a_failing_service_shows_a_page_to_who_does_not_ask_for_json(client: Client) -> None:
    answer = client.call("POST", "Things/tank-1/Services/GetPropertyDefinition", {}, Accept="text/html")
    assert answer.status_code == 500
    assert "<html" in answer.text
    assert "Required parameter" in answer.text


def test_http_delete_of_an_entity_is_500_with_a_page(client: Client) -> None:
    answer = client.call("DELETE", "Things/tank-1")
    assert answer.status_code == 500
    assert "<html" in answer.text
    assert client.call("GET", "Things/tank-1").status_code == 200


def test_names_in_urls_are_percent_encoded(client: Client) -> None:
    client.server.platform.add_thing("line 1/pump äß%")
    answer = client.call("GET", "Things/line%201%2Fpump%20%C3%A4%C3%9F%25")
    assert answer.json()["name"] == "line 1/pump äß%"


def test_a_session_is_opened_unless_declined(client: Client) -> None:
    assert "Set-Cookie" not in client.call("GET", "Things").headers
    assert client.control("GET", "/counters")["sessions"] == 0
    assert "JSESSIONID" in client.call("GET", "Things", x_thingworx_session=None).headers["Set-Cookie"]
    assert client.control("GET", "/counters")["sessions"] == 1


def test_a_number_that_json_cannot_carry_fails_the_whole_call(client: Client) -> None:
    thing = client.server.platform.thing("tank-1")
    thing.values["Level"] = VTQ(float("nan"), 1, "GOOD")
    answer = client.service("Things/tank-1/GetPropertyValues")
    assert answer.status_code == 500
    assert "JSON does not allow non-finite numbers" in answer.text
    assert answer.text.startswith("Unable to Invoke Service GetPropertyValues on tank-1")


def test_the_connection_is_kept_between_requests(server: SimulatorServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    request = f"GET /Thingworx/Things HTTP/1.1\r\nHost: {host}\r\nappKey: {server.app_key}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_the_platform_port_knows_nothing_of_the_control_api(client: Client) -> None:
    answer = requests.get(f"{client.server.url}/simulator", headers=client.headers, timeout=10)
    assert answer.status_code == 404
