"""Changed Things are told at once, and the fleet starts one run over them in ten seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError

from lambdas.connector import model_changes as module
from lambdas.connector.model_changes import ModelChanges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.shared.wanted import WantedRuns

MACHINE = "arn:aws:states:us-east-1:1:stateMachine:demo-discovery"


class ExecutionAlreadyExistsError(Exception):
    """As boto3's."""


class Fleet:
    """What all connectors share: wishes and executions; time passes only in sleeps."""

    class exceptions:  # noqa: N801 - boto3's name
        """As boto3's."""

        ExecutionAlreadyExists = ExecutionAlreadyExistsError

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.asked: list[tuple[float, set[str]]] = []
        self.started: list[str] = []
        self.tries = 0
        self.error: ClientError | None = None
        self.counters: Counter[str] = Counter()
        self._sleep = asyncio.sleep
        monkeypatch.setattr(f"{module.__name__}.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Until then, whatever else happens."""
        until = self.now + seconds
        await self._sleep(0.02)  # what is under way in threads comes first
        self.now = max(self.now, until)

    def ask_things(self, names: Iterable[str], now: int) -> None:
        """As WantedRuns'."""
        if self.error:
            raise self.error
        self.asked.append((now / 1000, set(names)))

    def start_execution(self, **request: Any) -> None:
        """As boto3's, with each name at most once."""
        self.tries += 1
        assert (request["stateMachineArn"], request["input"]) == (MACHINE, '{"wanted": true}')
        if request["name"] in self.started:
            raise ExecutionAlreadyExistsError
        self.started.append(request["name"])

    def connector(self, machine: str | None = MACHINE) -> ModelChanges:
        """One of many."""
        wanted, client = cast("WantedRuns", self), cast("SFNClient", self)
        return ModelChanges(wanted, client, machine, self.counters, lambda: self.now)

    async def eventually(self, condition: Any) -> None:
        """Until a condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await self._sleep(0.001)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


async def kept(*connectors: ModelChanges) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(connector.keep()) for connector in connectors]


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_change_is_told_at_once_and_a_run_started_at_the_end_of_the_window(fleet: Fleet) -> None:
    async def play() -> None:
        connector = fleet.connector()
        tasks = await kept(connector)
        fleet.now = 1003.0
        connector.noticed("pump")
        connector.noticed("fan")
        connector.noticed("pump")
        await fleet.eventually(lambda: fleet.started)
        await ended(tasks)

    asyncio.run(play())
    assert fleet.asked == [(1003.0, {"pump", "fan"})]
    assert fleet.started == ["model-100"]
    assert fleet.now == 1010.0
    assert fleet.counters == {"model_changes": 2}


def test_many_connectors_start_one_run_in_ten_seconds(fleet: Fleet) -> None:
    async def play() -> None:
        connectors = [fleet.connector() for _ in range(20)]
        tasks = await kept(*connectors)
        for index, connector in enumerate(connectors):
            connector.noticed(f"pump-{index}")
        await fleet.eventually(lambda: fleet.tries == 20)
        await ended(tasks)

    asyncio.run(play())
    assert fleet.started == ["model-100"]
    assert set[str]().union(*(names for _, names in fleet.asked)) == {f"pump-{index}" for index in range(20)}


def test_nothing_changed_starts_nothing(fleet: Fleet) -> None:
    async def play() -> None:
        tasks = await kept(fleet.connector())
        await fleet._sleep(0.05)
        await ended(tasks)

    asyncio.run(play())
    assert (fleet.asked, fleet.started) == ([], [])


def test_a_change_that_could_not_be_told_is_told_later(fleet: Fleet) -> None:
    async def play() -> None:
        connector = fleet.connector()
        tasks = await kept(connector)
        fleet.error = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "UpdateItem")
        connector.noticed("pump")
        await fleet.eventually(lambda: fleet.tries)
        fleet.error = None
        await fleet.eventually(lambda: fleet.asked)
        await ended(tasks)

    asyncio.run(play())
    assert fleet.asked[0][1] == {"pump"}


def test_without_the_machine_the_wish_is_left_to_the_watch_function(fleet: Fleet) -> None:
    async def play() -> None:
        connector = fleet.connector(machine=None)
        tasks = await kept(connector)
        connector.noticed("pump")
        await fleet.eventually(lambda: fleet.asked)
        await fleet._sleep(0.05)
        await ended(tasks)

    asyncio.run(play())
    assert fleet.started == []
