"""The one way out: nothing passes while it is shut, or after the slot is another's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector.budget import WriteBudget
from lambdas.connector.outlet import Outlet
from lambdas.connector.stop import Stop, Stopped
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.transport import PushResult
from tests.unit.connector.fakes import FakeTransport, until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from lambdas.thingworx.transport import Check

ROWS = [ValueRow("temp", "NUMBER", 1.5, 1)]


class Bench:
    """An outlet to a platform that answers when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.transport = FakeTransport(lambda *_: self.answers.wait())  # type: ignore[arg-type]
        self.stop = Stop()
        self.owns = True
        self.outlet = Outlet(self.transport, WriteBudget(0, self.stop), lambda: self.owns, self.stop)

    def push(self) -> asyncio.Task[Any]:
        """Begin a push."""
        return asyncio.ensure_future(self.outlet.push("pump", ROWS))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


def test_shutting_waits_for_what_is_under_way_and_holds_back_the_rest_until_reopened() -> None:
    async def scenario() -> None:
        bench = Bench()
        first = bench.push()
        await until(lambda: len(bench.transport.tried) == 1)
        shutting = asyncio.ensure_future(bench.outlet.shut(10))
        await asyncio.sleep(0)
        second = bench.push()
        await asyncio.sleep(0.01)
        assert not shutting.done()
        bench.answers.set()
        assert await shutting
        await first
        assert len(bench.transport.tried) == 1
        bench.outlet.reopen()
        await second
        assert len(bench.transport.tried) == 2

    run(scenario())


def test_a_push_that_takes_too_long_is_told() -> None:
    async def scenario() -> None:
        bench = Bench()
        first = bench.push()
        await until(lambda: bool(bench.transport.tried))
        assert not await bench.outlet.shut(0.01)
        bench.answers.set()
        await first

    run(scenario())


def test_what_waited_while_the_slot_went_to_another_is_not_pushed() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.answers.set()
        assert await bench.outlet.shut(1)
        waiting = bench.push()
        await asyncio.sleep(0)
        bench.owns = False
        bench.outlet.reopen()
        with pytest.raises(Stopped):
            await waiting
        assert not bench.transport.tried

    run(scenario())


def test_each_request_of_a_push_is_sent_only_while_the_slot_is_ours() -> None:
    """It may wait for its Thing's turn and for its binding, and be halved: the lease may end meanwhile."""

    async def scenario() -> None:
        bench = Bench()
        bench.answers.set()
        sent = []

        async def halved(thing: str, rows: Sequence[ValueRow], check: Check) -> PushResult:
            for row in rows:
                check()
                sent.append(row)
                bench.owns = False
            return PushResult()

        with pytest.raises(Stopped):
            await bench.outlet.through(halved, "pump", [*ROWS, *ROWS])
        assert len(sent) == 1
        with pytest.raises(Stopped):
            await bench.outlet.ready("pump")  # which would bind it

    run(scenario())


def test_what_waits_gives_up_with_the_connector() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert await bench.outlet.shut(1)
        waiting = bench.push()
        await asyncio.sleep(0)
        bench.stop.abandon()
        with pytest.raises(Stopped):
            await waiting

    run(scenario())
