"""The lock of publishers: one at a time, and none that died keeps the others out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import boto3
import pytest

from lambdas.shared import publishing as module
from lambdas.shared.errors import Conflict, RegistryUnavailable
from lambdas.shared.publishing import LEASE, Publishing
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000


class Clock:
    """Milliseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publishing(clock: Clock) -> Iterator[Publishing]:
    with aws():
        create_control_table()
        yield Publishing(CONTROL_TABLE, boto3.client("dynamodb"), clock)


def test_nothing_was_published_at_first(publishing: Publishing) -> None:
    assert publishing.last() == 0


def test_the_last_good_publisher_counts_from_its_beginning(publishing: Publishing, clock: Clock) -> None:
    with publishing.hold("a", 0):
        clock.now += 500
    assert publishing.last() == NOW


def test_a_publisher_that_failed_counts_for_nothing_and_keeps_nobody_out(publishing: Publishing) -> None:
    def fail() -> None:
        with publishing.hold("a", 0):
            raise RegistryUnavailable("away")

    with pytest.raises(RegistryUnavailable, match="away"):
        fail()
    assert publishing.last() == 0
    with publishing.hold("b", 0):
        pass
    assert publishing.last() == NOW


def test_a_second_publisher_waits_for_the_first(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    order: list[str] = []

    def second() -> None:
        with publishing.hold("b", 60):
            order.append("b")

    waiting = threading.Thread(target=second)
    with publishing.hold("a", 0):
        waiting.start()
        order.append("a")
    waiting.join()
    assert order == ["a", "b"]


def test_a_publisher_that_takes_too_long_is_a_conflict_to_retry(publishing: Publishing) -> None:
    with (
        publishing.hold("a", 0),
        pytest.raises(Conflict, match="another run publishes"),
        publishing.hold("b", 0),
    ):
        pass


def test_a_publisher_whose_answer_got_lost_does_not_wait_for_itself(publishing: Publishing) -> None:
    assert publishing._taken("a")
    with publishing.hold("a", 0):
        assert not publishing._taken("b")


def test_a_dead_publisher_is_replaced_after_its_lease(publishing: Publishing, clock: Clock) -> None:
    publishing._taken("dead")
    clock.now += LEASE
    assert not publishing._taken("b")
    clock.now += 1
    with publishing.hold("b", 0):
        pass
    assert publishing.last() == clock.now


def test_a_long_publisher_stays_the_only_one(
    publishing: Publishing, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RENEWALS", LEASE / 10)  # every hundredth of a second
    renewed = threading.Event()
    update = publishing._update

    def seen(*arguments: object) -> None:
        update(*arguments)  # type: ignore[arg-type] # passed on as they came
        renewed.set()

    monkeypatch.setattr(publishing, "_update", seen)
    with publishing.hold("a", 0):
        clock.now += LEASE
        for _ in range(2):  # the first may have read the clock before
            renewed.clear()
            assert renewed.wait(10)
        clock.now += LEASE
        assert not publishing._taken("b")


def test_a_publisher_that_was_overtaken_does_not_count(publishing: Publishing, clock: Clock) -> None:
    def overtaken() -> None:
        with publishing.hold("a", 0):
            clock.now += LEASE + 1
            assert publishing._taken("b")

    with pytest.raises(Conflict):
        overtaken()
    assert publishing.last() == 0
