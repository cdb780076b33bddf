"""Requests of ThingWorx: who answers which, and what a connector leaves behind."""

# ruff: noqa: D102 - names of the stand-ins say what they do
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.connector.handed_on import HandedOn, TimesOnly
from lambdas.connector.kept_values import Kept
from lambdas.connector.push_times import LastTime, PushTimes
from lambdas.connector.requests import PlatformRequests
from lambdas.thingworx.alwayson import BaseType, Characteristic, EntityType, Method, Status, Value
from lambdas.thingworx.alwayson.events import Asked, Reply
from lambdas.thingworx.alwayson.model import NOTHING, Ids, InfoTable, Request
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_800_000_000_000
ROW = ValueRow("quiet", "NUMBER", 1.0, NOW)


class Stand:
    """Everything around the requests, in one."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.owned = True
        self.failing: Exception | None = None
        self.times = PushTimes(lambda: NOW / 1000)
        whole: Any = self
        self.requests = PlatformRequests(
            reads=whole,
            writes=whole,
            echoes=whole,
            handed_on=HandedOn(whole, self.times, owns=lambda: self.owned, values=self),
            close=lambda: self.log.append("close"),
        )

    async def get(self, thing: str, edge: str) -> Reply:
        self.log.append(("get", thing, edge))
        return Reply(Status.SUCCESS)

    async def put(self, thing: str, values: Mapping[str, Value]) -> Reply:
        self.log.append(("put", thing, dict(values)))
        return Reply(Status.SUCCESS)

    async def rest(self, seconds: float) -> None:
        self.log.append("rest")

    def go_on(self) -> None:
        self.log.append("go on")

    async def settle(self, seconds: float) -> None:
        self.log.append("settle")

    def pass_through(self, outlet: Any) -> None:
        self.log.append(("outlet", outlet))

    def forget(self) -> None:
        self.log.append("forget")

    def newest(self, thing: str) -> Mapping[str, ValueRow]:
        return {}

    def unseen(self) -> Mapping[str, Mapping[str, ValueRow]]:
        return {"pump": {"quiet": ROW}}

    async def all(self) -> Mapping[str, Kept]:
        if self.failing:
            raise self.failing
        return {
            "pump": Kept({}, {"temp": NOW + 1000}, 0, {"rpm": LastTime(NOW, NOW + 2)}),
            "fan": Kept({}, {}, 60_000),
        }

    async def leave(self, unseen: Any, newest: Any, ahead: Any, lags: Any, last: Any) -> None:
        if self.failing:
            raise self.failing
        assert newest("stranger") == {}
        self.log.append(("leave", unseen, ahead, lags, last))

    def ask(
        self,
        method: Method,
        target: str,
        params: InfoTable | None = None,
        characteristic: Characteristic = Characteristic.PROPERTIES,
    ) -> Reply:
        request = Request(Ids(1), method, EntityType.THINGS, "pump", characteristic, target, params)
        return asyncio.run(self.requests.answer(Asked("pump", request, 1)))


def number(value: float) -> Value:
    return Value(BaseType.NUMBER, value)


def test_a_get_is_a_read_of_one_property_or_of_all() -> None:
    stand = Stand()
    for target in ("temp", "*", ""):
        assert stand.ask(Method.GET, target).status == Status.SUCCESS
    assert stand.log == [("get", "pump", target) for target in ("temp", "*", "")]


@pytest.mark.parametrize(
    ("target", "params", "written"),
    [
        ("temp", InfoTable.of({"temp": number(1)}), {"temp": number(1)}),
        ("temp", InfoTable.of({"value": number(1)}), {"temp": number(1)}),
        ("temp", InfoTable.of({"temp": NOTHING}), {"temp": NOTHING}),
        ("temp", InfoTable.of({"a": number(1), "b": number(2)}), {"temp": NOTHING}),
        ("*", InfoTable.of({"a": number(1), "b": number(2)}), {"a": number(1), "b": number(2)}),
    ],
)
def test_a_put_is_a_write_of_one_property_or_of_several(
    target: str, params: InfoTable, written: dict[str, Value]
) -> None:
    stand = Stand()
    assert stand.ask(Method.PUT, target, params).status == Status.SUCCESS
    assert stand.log == [("put", "pump", written)]


@pytest.mark.parametrize("params", [None, InfoTable({}), InfoTable.build({"temp": BaseType.NUMBER})])
def test_a_put_without_a_value_is_refused(params: InfoTable | None) -> None:
    stand = Stand()
    reply = stand.ask(Method.PUT, "temp", params)
    assert (reply.status, reply.reason) == (Status.BAD_REQUEST, "temp: the request has no value")
    assert not stand.log


def test_services_and_other_methods_are_not_served() -> None:
    stand = Stand()
    reply = stand.ask(Method.POST, "Reboot", characteristic=Characteristic.SERVICES)
    assert (reply.status, reply.reason) == (
        Status.METHOD_NOT_ALLOWED,
        "POST Reboot: the connector serves properties only",
    )
    assert stand.ask(Method.DELETE, "temp").status == Status.METHOD_NOT_ALLOWED
    assert not stand.log


def test_times_to_come_are_taken_over_at_the_start() -> None:
    stand = Stand()
    outlet: Any = object()
    asyncio.run(stand.requests.begin(outlet))
    assert stand.log == [("outlet", outlet), "forget"]
    assert stand.times.echo("pump", "temp", 1.0) == NOW + 1001
    assert stand.times.echo("fan", "temp", 1.0) == NOW - 60_000
    row = ValueRow("rpm", "NUMBER", 1.0, NOW)
    assert stand.times.arrange("pump", "0:1:0", [row]).rows[0].time == NOW + 3


def test_a_table_that_is_away_stops_neither_the_start_nor_the_end() -> None:
    stand = Stand()
    stand.failing = RuntimeError("away")
    asyncio.run(stand.requests.begin(stand))  # type: ignore[arg-type] # any outlet
    asyncio.run(stand.requests.settle(1))
    asyncio.run(stand.requests.leave())
    assert stand.log[-2:] == ["close", "rest"]


def test_only_an_owner_leaves_something_to_its_successor() -> None:
    stand = Stand()
    stand.times.restore("pump", "temp", NOW + 5)
    stand.times.restore_lag("fan", 60_000)
    last = LastTime(NOW - 1000, NOW - 998, 1.0)
    stand.times.restore_last("fan", "rpm", last)
    asyncio.run(stand.requests.leave())
    times = ({"pump": {"temp": NOW + 5}}, {"fan": 60_000}, {"fan": {"rpm": last}})
    assert stand.log == [("leave", {"pump": {"quiet": ROW}}, *times)]
    stand.owned = False
    asyncio.run(stand.requests.leave())
    assert len(stand.log) == 1


def test_where_thingworx_asks_nothing_times_are_taken_over_and_left_all_the_same() -> None:
    stand = Stand()
    whole: Any = stand
    requests = TimesOnly(HandedOn(whole, stand.times, owns=lambda: stand.owned))
    asyncio.run(requests.begin(whole))
    asyncio.run(requests.leave())
    ahead = {"pump": {"temp": NOW + 1000, "rpm": NOW + 2}}
    last = {"pump": {"temp": LastTime(NOW + 1000, NOW + 1000), "rpm": LastTime(NOW, NOW + 2)}}
    assert stand.log == ["forget", ("leave", {}, ahead, {"fan": 60_000}, last)]
    assert stand.times.echo("pump", "temp", 1.0) == NOW + 1001


def test_at_the_end_all_that_is_open_is_answered() -> None:
    stand = Stand()
    asyncio.run(stand.requests.rest(1))
    stand.requests.go_on()
    asyncio.run(stand.requests.settle(1))
    assert stand.log[:3] == ["rest", "rest", "go on"]
    assert [entry if isinstance(entry, str) else entry[0] for entry in stand.log[3:]] == [
        "settle",
        "close",
        "rest",
    ]
