"""A model changes while its Things are served: values follow it, and none in flight is lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.certificates import Certificates, make_certificates
from sandbox.thingworx.model import remote_property
from tests.integration.whole_stack import HELD, Stack, wait_until, whole_stack
from tests.unit.router.kinesis import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.thingworx.platform import Platform

PUMP = "pump"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with whole_stack(certificates, monkeypatch) as made:
        made.platform.add_template("Pump", properties=[remote_property("temp")])
        made.platform.add_thing(PUMP, "Pump", properties=[remote_property("level", "INTEGER")])
        yield made


def add(platform: Platform) -> None:
    platform.define(platform.thing(PUMP), remote_property("speed"))


def remove(platform: Platform) -> None:
    platform.undefine(platform.thing(PUMP), "level")


def retype(platform: Platform) -> None:
    platform.define(platform.thing(PUMP), remote_property("level", "STRING"))


def recategorise(platform: Platform) -> None:
    platform.define(platform.thing(PUMP), remote_property("level", "INTEGER", category="Other"))


def rename_edge(platform: Platform) -> None:
    platform.define(platform.thing(PUMP), remote_property("level", "INTEGER", edge_name="L1"))


def edit_template(platform: Platform) -> None:
    platform.edit_template("Pump", remote_property("speed"), remote_property("temp", edge_name="T1"))


@pytest.mark.parametrize(
    ("change", "payload", "expected"),
    [
        (add, {"temp": 1.5, "level": 7, "speed": 3.0}, {"temp": 1.5, "level": 7, "speed": 3.0}),
        (remove, {"temp": 1.5, "level": 7}, {"temp": 1.5}),
        (retype, {"temp": 1.5, "level": "full"}, {"temp": 1.5, "level": "full"}),
        (recategorise, {"temp": 1.5, "level": 7}, {"temp": 1.5}),
        (rename_edge, {"temp": 1.5, "level": 7}, {"temp": 1.5, "level": 7}),
        (edit_template, {"temp": 1.5, "level": 7, "speed": 3.0}, {"temp": 1.5, "level": 7, "speed": 3.0}),
    ],
)
def test_values_follow_a_changed_model_and_those_in_flight_arrive_or_are_held_or_were_skipped_by_thingworx(
    stack: Stack,
    change: Callable[[Platform], None],
    payload: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    stack.discover("run-1")
    numbers = itertools.count()
    in_flight: list[float] = []

    def send(content: dict[str, Any]) -> None:
        assert stack.route(telemetry(content, PUMP, next(numbers))) == {"batchItemFailures": []}

    def settled(temp: float) -> bool:
        written = {
            write.value for write in stack.platform.log.since(0, thing=PUMP) if write.property == "temp"
        }
        return temp in written or temp in held()

    def held() -> set[float]:
        items = stack.dynamodb.scan(TableName=HELD)["Items"]
        texts = [
            item.get("values", {}).get("S", "") + str(item.get("payload", {}).get("B", "")) for item in items
        ]
        return {temp for temp in in_flight if any(f"{temp}" in text for text in texts)}

    def skipped() -> int:
        """Rows under a remote name that was changed just before: acknowledged, and stored nowhere."""
        return sum(row["property"].lower() == "temp" for row in list(stack.platform.log.rejected))

    with stack.serving("1"):
        send({"temp": 100.5, "level": 1})
        wait_until(lambda: stack.values(PUMP) == {"temp": 100.5, "level": 1})
        for number in range(20):  # routed by the model as it was
            in_flight.append(200.5 + number)
            send({"temp": in_flight[-1], "level": number})
        change(stack.platform)
        for number in range(20, 40):
            in_flight.append(200.5 + number)
            send({"temp": in_flight[-1], "level": number})
        assert stack.discover("run-2")["changed"] == 1
        before = len(stack.platform.log.since(0, thing=PUMP))
        send(payload)
        wait_until(lambda: stack.values(PUMP).get("temp") == 1.5)
        wait_until(lambda: sum(not settled(temp) for temp in in_flight) == skipped())
        fresh = {w.property: w.value for w in stack.platform.log.since(0, thing=PUMP)[before:]}
        assert {name: fresh.get(name) for name in expected} == expected
        assert set(stack.token.answers) == set()  # the same connector all the time
