"""The platform is left alone while it serves nobody."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from lambdas.connector import gate as gate_module
from lambdas.connector.gate import Gate, backoff
from lambdas.connector.stop import Stop, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the gate's clock; its delays are 1, 2, 3, ... seconds, without chance."""
    now = [100.0]

    def monotonic() -> float:
        return now[0]

    def move(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("lambdas.connector.gate.time.monotonic", monotonic)
    monkeypatch.setattr(gate_module, "backoff", lambda: itertools.count(1.0))
    return move


def test_delays_grow_from_half_a_second_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_FIRST_SECONDS", 0.5)
    monkeypatch.setattr(gate_module, "_MOST_SECONDS", 30.0)
    for turn, delay in enumerate(itertools.islice(backoff(), 2000)):
        most = min(30.0, 0.5 * 2 ** min(turn, 10))
        assert most / 2 <= delay <= most


def test_an_open_gate_lets_pass_and_a_closed_one_waits(clock: Callable[[float], None]) -> None:
    async def scenario() -> None:
        stop = Stop()
        gate = Gate(stop)
        await gate.passed()
        gate.failed("503")
        assert gate.closed
        waiting = asyncio.ensure_future(gate.passed())
        await asyncio.sleep(0)
        assert not waiting.done()
        stop.abandon()
        with pytest.raises(Stopped):
            await waiting

    asyncio.run(scenario())


def test_failures_of_one_window_close_it_once(clock: Callable[[float], None]) -> None:
    gate = Gate(Stop())
    for _ in range(16):
        gate.failed("503")
    clock(1.01)
    assert not gate.closed
    gate.failed("503")
    clock(1.99)
    assert gate.closed
    clock(0.02)
    assert not gate.closed


def test_success_opens_it_and_starts_the_delays_anew(clock: Callable[[float], None]) -> None:
    gate = Gate(Stop())
    gate.failed("503")
    clock(1.01)
    gate.failed("503")
    gate.succeeded()
    assert not gate.closed
    gate.failed("503")
    clock(1.01)
    assert not gate.closed


def test_it_knows_whether_somebody_was_served_since(clock: Callable[[float], None]) -> None:
    gate = Gate(Stop())
    assert not gate.served_since(0.0)
    gate.succeeded()
    assert gate.served_since(99.0)
    assert not gate.served_since(100.0)


def test_nobody_passes_once_work_is_given_up() -> None:
    async def scenario() -> None:
        stop = Stop()
        stop.abandon()
        with pytest.raises(Stopped):
            await Gate(stop).passed()

    asyncio.run(scenario())


def test_it_knows_whether_another_thing_has_failed_since_anybody_was_served(
    clock: Callable[[float], None],
) -> None:
    gate = Gate(Stop())
    gate.failed("503", "pump")
    assert gate.failed_for_others("fan", 99.0)
    assert not gate.failed_for_others("pump", 99.0)
    assert not gate.failed_for_others("fan", 100.0), "not since then"
    clock(1)
    gate.failed("503", "fan")
    assert gate.failed_for_others("pump", 100.0)
    gate.succeeded()
    assert not gate.failed_for_others("pump", 0.0)
