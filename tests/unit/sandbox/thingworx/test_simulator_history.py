"""Logged values: one row per time, filled gaps, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.thingworx.history import History, WriteLog
from sandbox.thingworx.model import VTQ, PropertyDefinition

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client

QUERY = "Things/pump-1/QueryPropertyHistory"
NAMED = "Things/pump-1/QueryNamedPropertyHistory"
TEMP = {"rows": [{"name": "Temp"}]}


@pytest.fixture
def logged(client: Client) -> Client:
    client.push(
        "pump-1",
        {"name": "temp", "value": 1, "time": 1000},
        {"name": "Speed", "value": 10, "time": 2000, "quality": "BAD"},
        {"name": "temp", "value": 3, "time": 3000},
    )
    return client


def test_history_is_one_row_per_time_with_gaps_filled_newest_first(logged: Client) -> None:
    assert logged.rows(QUERY) == [
        {"timestamp": 3000, "Temp": 3, "Speed": 10},
        {"timestamp": 2000, "Temp": 1, "Speed": 10},
        {"timestamp": 1000, "Temp": 1},
    ]


def test_fill_option_none_leaves_gaps(logged: Client) -> None:
    assert logged.rows(QUERY, fillOption="None", oldestFirst=True) == [
        {"timestamp": 1000, "Temp": 1},
        {"timestamp": 2000, "Speed": 10},
        {"timestamp": 3000, "Temp": 3},
    ]


def test_max_items_counts_per_property_in_the_wide_query(logged: Client) -> None:
    assert [row["timestamp"] for row in logged.rows(QUERY, maxItems=1)] == [3000, 2000]
    assert [row["timestamp"] for row in logged.rows(QUERY, maxItems=1, oldestFirst=True)] == [1000, 2000]


def test_max_items_counts_rows_in_the_named_query(logged: Client) -> None:
    both = {"rows": [{"name": "Temp"}, {"name": "Speed"}]}
    assert len(logged.rows(NAMED, propertyNames=both, maxItems=2)) == 2


def test_a_range_includes_its_ends(logged: Client) -> None:
    found = logged.rows(NAMED, propertyNames=TEMP, startDate=1000, endDate="1970-01-01T00:00:01Z")
    assert found == [{"timestamp": 1000, "Temp": 1, "Temp_quality": "GOOD"}]


def test_the_named_query_filters_by_quality(logged: Client) -> None:
    names = {"rows": [{"name": "Speed"}, {"name": "Temp"}]}
    found = logged.rows(NAMED, propertyNames=names, quality="BAD|UNKNOWN")
    assert found == [{"timestamp": 2000, "Speed": 10, "Speed_quality": "BAD"}]


def test_the_named_query_ends_silently_at_500(client: Client) -> None:
    client.push("pump-1", *({"name": "temp", "value": n, "time": n} for n in range(1, 701)))
    assert len(client.rows(NAMED, propertyNames=TEMP)) == 500
    assert len(client.rows(NAMED, propertyNames=TEMP, maxItems=10_000)) == 700
    assert client.rows(NAMED, propertyNames=TEMP, maxItems=1)[0]["timestamp"] == 700


def test_a_named_query_of_an_unknown_property_fails(client: Client) -> None:
    assert client.service(NAMED, propertyNames={"rows": [{"name": "None"}]}).status_code == 500
    assert client.service(NAMED).status_code == 500


def test_a_typed_query_refuses_a_property_of_another_type(logged: Client) -> None:
    path = "Things/pump-1/QueryNumberPropertyHistory"
    assert logged.service(path, propertyName="Speed").status_code == 500
    found = logged.rows(path, propertyName="Temp", maxItems=1)
    assert found == [{"id": "Temp-3000", "timestamp": 3000, "value": 3, "quality": "GOOD"}]


def test_only_logged_properties_have_a_history(client: Client) -> None:
    platform = client.server.platform
    platform.define(platform.thing("tank-1"), PropertyDefinition("Note", "STRING"))
    client.call("PUT", "Things/tank-1/Properties/Note", {"Note": "x"})
    assert client.rows("Things/tank-1/QueryPropertyHistory") == []


def test_a_limited_history_keeps_the_newest_values() -> None:
    history = History(limit=3)
    for time in (5, 1, 4, 2, 3, 9, 8, 7):
        history.add("P", VTQ(time, time, "GOOD"))
    assert [vtq.time for vtq in history.of("P")] == [7, 8, 9]


def test_a_limited_history_stays_bounded() -> None:
    history = History(limit=10)
    for time in range(1000):
        history.add("P", VTQ(time, time, "GOOD"))
    assert len(history._series["P"].values) <= 20
    assert [vtq.time for vtq in history.of("P")] == list(range(990, 1000))


def test_a_limited_log_counts_all_and_keeps_the_newest() -> None:
    log = WriteLog(limit=2)
    for number in range(5):
        log.accept(0, "t", "p", VTQ(number, number, "GOOD"), "PUT")
    assert log.accepted == 5
    assert [record.sequence for record in log.since()] == [4, 5]
    assert [record.sequence for record in log.since(4)] == [5]
    assert [record.sequence for record in log.since(limit=1)] == [4]
    assert log.since(thing="other") == []
