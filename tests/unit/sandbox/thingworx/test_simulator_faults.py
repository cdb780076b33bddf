"""Faults on demand, as a client meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from sandbox.thingworx.faults import FaultRule, Faults, Request

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client

PUSH: dict[str, Any] = {"service": "UpdateSubscribedPropertyValues"}
ROW = {"name": "temp", "value": 1, "time": 1}


def test_a_fault_acts_as_often_as_told(client: Client) -> None:
    client.server.faults.add(**PUSH, times=2, status=503, body="busy", headers={"Retry-After": "1"})
    answers = [client.push("pump-1", ROW) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert (answers[0].text, answers[0].headers["Retry-After"]) == ("busy", "1")


def test_a_fault_lets_the_first_requests_through(client: Client) -> None:
    client.server.faults.add(**PUSH, skip=1, times=1, status=500)
    assert [client.push("pump-1", ROW).status_code for _ in range(3)] == [200, 500, 200]


def test_a_fault_acts_for_ever_until_removed(client: Client) -> None:
    rule = client.server.faults.add(thing="pump-*", status=500)
    assert [client.push("pump-1", ROW).status_code for _ in range(3)] == [500] * 3
    assert client.call("GET", "Things/tank-1").status_code == 200
    assert client.server.faults.remove(rule.id)
    assert not client.server.faults.remove(rule.id)
    assert client.push("pump-1", ROW).status_code == 200


@pytest.mark.parametrize(
    "match", [{"method": "PUT"}, {"thing": "tank-?"}, {"collection": "Things"}, {"path": "*/Properties/*"}]
)
def test_a_fault_matches_by_method_thing_collection_and_path(client: Client, match: dict[str, Any]) -> None:
    client.server.faults.add(**match, status=500)
    assert client.call("PUT", "Things/tank-1/Properties/Level", {"Level": 1}).status_code == 500
    assert client.service("Resources/EntityServices/GetEntityList", type="Thing").status_code == 200


def test_a_fault_before_the_request_keeps_it_from_happening(client: Client) -> None:
    client.server.faults.add(**PUSH, times=1, status=500)
    client.push("pump-1", ROW)
    assert client.server.platform.log.accepted == 0


def test_a_fault_after_the_request_loses_only_the_answer(client: Client) -> None:
    client.server.faults.add(**PUSH, times=1, drop=True, when="after")
    with pytest.raises(requests.ConnectionError):
        client.push("pump-1", ROW)
    assert client.server.platform.log.accepted == 1


def test_a_dropped_connection_gives_no_answer_and_the_next_request_works(client: Client) -> None:
    client.server.faults.add(times=1, drop=True)
    with pytest.raises(requests.ConnectionError):
        client.call("GET", "Things")
    assert client.call("GET", "Things").status_code == 200


def test_a_fault_may_answer_with_a_page_a_redirect_or_broken_json(client: Client) -> None:
    faults = client.server.faults
    faults.add(times=1, status=502, html=True, body="bad <gateway>")
    faults.add(times=1, redirect="https://login.example/sso")
    faults.add(times=1, bad_json=True)
    page = client.call("GET", "Things")
    assert page.status_code == 502
    assert page.headers["Content-Type"].startswith("text/html")
    assert "bad &lt;gateway&gt;" in page.text
    login = client.call("GET", "Things")
    assert (login.status_code, login.headers["Location"]) == (302, "https://login.example/sso")
    broken = client.call("GET", "Things")
    assert broken.status_code == 200
    assert broken.headers["Content-Type"].startswith("application/json")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        broken.json()


def test_a_delay_alone_changes_nothing_else(client: Client) -> None:
    rule = client.server.faults.add(delay_ms=1)
    assert client.push("pump-1", ROW).status_code == 200
    assert rule.hits == 1


def test_a_delay_lets_other_requests_pass(client: Client) -> None:
    client.server.faults.add(thing="pump-1", delay_ms=60_000)
    late = client.session.get
    with pytest.raises(requests.Timeout):
        late(f"{client.server.url}/Thingworx/Things/pump-1", headers=client.headers, timeout=0.2)
    assert client.call("GET", "Things/tank-1").status_code == 200


def test_a_starting_platform_answers_503_with_a_page_to_everything(client: Client) -> None:
    client.server.faults.starting = True
    answer = client.call("GET", "Things", appKey="wrong")
    assert answer.status_code == 503
    assert "<html" in answer.text
    client.server.faults.clear()
    assert client.call("GET", "Things").status_code == 200


def test_counters_tell_services_and_statuses(client: Client) -> None:
    client.call("GET", "Things/tank-1")
    client.push("pump-1", ROW)
    client.push("nobody", ROW)
    counters = client.server.faults.counters()
    assert counters["by_service"] == {"GET Things": 1, "UpdateSubscribedPropertyValues": 2}
    assert counters["by_status"] == {"200": 2, "404": 1}
    assert counters["requests"] == 3


def test_concurrency_is_the_most_requests_at_one_time() -> None:
    faults, request = Faults(), Request("GET", "/x")
    for _ in range(3):
        faults.began(request)
    faults.ended(200)
    faults.ended(0)
    faults.began(request)
    counters = faults.counters()
    assert (counters["running"], counters["max_concurrency"]) == (2, 3)
    faults.reset_counters()
    assert (faults.counters()["requests"], faults.counters()["max_concurrency"]) == (0, 2)


def test_the_first_rule_that_matches_acts_alone() -> None:
    faults = Faults()
    first, second = faults.add(service="A*", times=1, status=500), faults.add(status=503)
    request = Request("POST", "/x", "Things", "t", "AddTags")
    assert faults.take(request) is first
    assert faults.take(request) is second
    assert faults.take(Request("GET", "/x")) is second
    assert (first.hits, second.hits) == (1, 2)


@pytest.mark.parametrize("values", [{"statsu": 500}, {"when": "later"}])
def test_a_rule_with_an_unknown_field_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fault has no|before or after"):
        FaultRule.from_json(values)
