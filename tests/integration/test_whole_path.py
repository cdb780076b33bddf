"""From a tagged Thing and Kinesis records to values in ThingWorx, through all functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.certificates import Certificates, make_certificates
from tests.integration.whole_stack import Stack, whole_stack
from tests.unit.router.kinesis import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_PAYLOAD = {"temp": 10, "waterLevel": 12, "state": "reporting"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with whole_stack(certificates, monkeypatch) as made:
        yield made


def test_a_reading_goes_from_the_device_to_thingworx_with_its_time(stack: Stack) -> None:
    for name in ("MyTestDevice1", "Pump1", "Pump2"):
        stack.add_thing(name)
    plan = stack.discover("run-1")
    assert (plan["added"], plan["slots"]) == (3, 2)

    answer = stack.route(
        telemetry(TEST_PAYLOAD, "MyTestDevice1", 0),
        telemetry({"temp": 1.5, "on": True}, "Pump1", 1),
        telemetry({"temp": 1}, "Stranger", 2),
        telemetry(b"not json", "Pump1", 3),
        telemetry({"temp": "warm", "state": "neighbour"}, "Pump1", 4),
    )
    assert answer == {"batchItemFailures": []}
    assert stack.held() == [
        ("rejected#Pump1", "not_json"),
        ("rejected#Pump1", "value_refused"),
        ("unrouted#Stranger", "unknown_thing"),
    ]

    stack.serve("1", until=lambda: "state" in stack.values("Pump1") and bool(stack.values("MyTestDevice1")))
    assert stack.values("MyTestDevice1") == TEST_PAYLOAD
    assert stack.values("Pump1") == {"temp": 1.5, "on": True, "state": "neighbour"}
    assert len(stack.token.answers) == 1
