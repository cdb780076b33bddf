"""The slot's Things are bound from the start, and follow the control table."""

# ruff: noqa: D102 - the methods are those of what they stand for
from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector import assigned as module
from lambdas.connector.assigned import AssignedThings, Binds
from lambdas.shared.errors import ThingNotServed
from lambdas.shared.observability import logger
from tests.unit.connector.fakes import refused, until

if TYPE_CHECKING:
    from collections.abc import Iterable


class FakeBinder:
    """Binds at once, but for the Things it refuses."""

    def __init__(self, **refusals: str) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.bound: set[str] = set()
        self.refusals = refusals

    def bind(self, things: Iterable[str]) -> None:
        self.bound |= set(things)

    def unbind(self, things: Iterable[str]) -> None:
        self.bound -= set(things)

    def retry_parked(self, things: Iterable[str] | None = None) -> None:
        self.calls.append(("retry_parked", sorted(self.bound)))

    def parked(self) -> dict[str, str]:
        return {name: reason for name, reason in self.refusals.items() if name in self.bound}

    async def ready(self, thing: str) -> None:
        if thing in self.refusals:
            raise ThingNotServed(self.refusals[thing])


class Table:
    """What the control table assigns; it fails first as often as it is told to."""

    def __init__(self, *names: str, failures: int = 0) -> None:
        self.names = set(names)
        self.failures = failures
        self.reads = 0
        self.run: str | None = "run-1"

    def __call__(self) -> list[str]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise refused("ThrottlingException", "Query")
        return sorted(self.names)


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "warning", lambda text, **more: found.append({"text": text, **more}))
    return found


@contextlib.asynccontextmanager
async def kept(binder: FakeBinder, table: Table) -> Any:
    task = asyncio.get_running_loop().create_task(
        AssignedThings("1", binder, table, lambda: table.run).keep()
    )
    async with asyncio.timeout(10):
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def test_new_things_are_bound_and_vanished_ones_unbound() -> None:
    async def scenario() -> None:
        binder, table = FakeBinder(), Table("a", "b")
        async with kept(binder, table):
            await until(lambda: binder.bound == {"a", "b"})
            table.names = {"b", "c"}
            await until(lambda: binder.bound == {"b", "c"})

    asyncio.run(scenario())


def test_refused_things_are_told_when_others_are_than_before() -> None:
    async def scenario() -> None:
        binder, table = FakeBinder(b="bound elsewhere"), Table("a", "b")
        told: list[dict[str, str]] = []
        failures = [refused("ThrottlingException", "UpdateItem")]

        def tell(things: dict[str, str]) -> None:
            if failures:
                raise failures.pop()
            told.append(things)

        task = asyncio.get_running_loop().create_task(
            AssignedThings("1", binder, table, lambda: table.run, tell_refused=tell).keep()
        )
        async with asyncio.timeout(10):
            await until(lambda: table.reads > 4)
            assert told == [{"b": "bound elsewhere"}]
            binder.refusals.clear()
            await until(lambda: len(told) > 1)
            assert told[1] == {}
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_parked_things_are_tried_again_after_each_discovery_run_and_only_then() -> None:
    async def scenario() -> None:
        binder, table = FakeBinder(), Table("a")
        async with kept(binder, table):
            await until(lambda: table.reads > 3)
            assert len(binder.calls) == 1
            table.run = None  # the next one is under way
            await until(lambda: table.reads > 6)
            assert len(binder.calls) == 1
            table.names, table.run = {"a", "b"}, "run-2"
            await until(lambda: len(binder.calls) > 1)
            reads = table.reads
            await until(lambda: table.reads > reads + 3)
            assert binder.calls[1:] == [("retry_parked", ["a", "b"])]

    asyncio.run(scenario())


def test_a_table_that_can_not_be_read_changes_nothing_and_is_read_again() -> None:
    async def scenario() -> None:
        binder, table = FakeBinder(), Table("a", failures=2)
        async with kept(binder, table):
            await until(lambda: binder.bound == {"a"})
            table.failures, reads = 3, table.reads
            await until(lambda: table.reads > reads + 4)
            assert binder.bound == {"a"}

    asyncio.run(scenario())


def test_one_line_tells_how_many_are_bound_and_parked_and_the_first_reasons(
    lines: list[dict[str, Any]],
) -> None:
    refusals = {f"bad-{number}": f"reason {number}" for number in range(7)}

    async def scenario() -> None:
        binder, table = FakeBinder(**refusals), Table("a", "b", *refusals)
        async with kept(binder, table):
            await until(lambda: table.reads > 3)

    asyncio.run(scenario())
    (line,) = lines
    assert (line["bound"], line["parked"], line["waiting"]) == (2, 7, 0)
    assert line["first_reasons"] == {f"bad-{number}": f"reason {number}" for number in range(5)}


def test_a_transport_that_binds_nothing_is_told_apart() -> None:
    assert isinstance(FakeBinder(), Binds)
    assert not isinstance(object(), Binds)
