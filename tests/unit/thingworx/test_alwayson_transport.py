"""What becomes of pushed rows: stored, kept back, refused one by one, or all raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxUnavailable
from lambdas.thingworx.alwayson import Status
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.transport import PushResult
from tests.unit.connector.fakes import until
from tests.unit.thingworx.alwayson.dialogue import row
from tests.unit.thingworx.alwayson.peer import Peer, subscriptions
from tests.unit.thingworx.alwayson.serving import connected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def push(peer: Peer, *calls: Sequence[ValueRow], **options: Any) -> list[PushResult]:
    """Results of these calls for the Thing `pump`, one after the other."""

    async def scenario() -> list[PushResult]:
        async with asyncio.timeout(20), connected(peer, **options) as (_, transport):
            return [await transport.push("pump", rows) for rows in calls]

    return asyncio.run(scenario())


def times(peer: Peer) -> list[int]:
    return [time for _, _, time, _ in peer.stored]


def refusing(status: int, *bad: int) -> Callable[[str, list[dict[str, Any]]], int]:
    """A platform that refuses a call as a whole when a row has one of these times."""

    def judge(_: str, rows: list[dict[str, Any]]) -> int:
        return status if any(row["time"].value in bad for row in rows) else Status.SUCCESS

    return judge


def test_suppressed_rows_are_counted_and_not_sent() -> None:
    peer = Peer(default=subscriptions(temp=("VALUE", 0.5)))
    results = push(peer, [row(1, 1.0), row(2, 1.2)], [row(3, 1.4)], [row(4, 2.0)])
    assert [result.suppressed for result in results] == [1, 1, 0]
    assert times(peer) == [1, 4]
    assert peer.calls("UpdateSubscribedPropertyValues") == ["pump"] * 2


def test_push_types_are_ignored_where_the_setting_says_so() -> None:
    peer = Peer(default=subscriptions(temp="NEVER"))
    [result] = push(peer, [row(1), row(2)], honour_push_type=False)
    assert result == PushResult()
    assert times(peer) == [1, 2]


def test_a_row_without_binding_is_refused_and_the_others_are_stored() -> None:
    peer = Peer()
    [result] = push(peer, [row(1), row(2, name="other"), row(3)])
    [refused] = result.refused
    assert refused.row.time == 2
    assert refused[1:] == ("not_bound", "no remote binding of pump has the edge name other")
    assert times(peer) == [1, 3]


@given(
    count=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=5),
    status=st.sampled_from([Status.BAD_REQUEST, Status.NOT_ACCEPTABLE]),
)
@settings(max_examples=25, deadline=None)
def test_exactly_the_rows_that_the_platform_refuses_are_refused_in_time_order(
    count: int, bad: set[int], status: Status
) -> None:
    peer = Peer(judge=refusing(status, *bad))
    [result] = push(peer, [row(time) for time in range(count)])
    assert [entry.row.time for entry in result.refused] == sorted(time for time in bad if time < count)
    assert times(peer) == [time for time in range(count) if time not in bad]


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.INTERNAL_ERROR])
def test_one_bad_row_is_found_also_when_the_status_could_mean_the_whole_thing(status: Status) -> None:
    peer = Peer(judge=refusing(status, 99))
    [result] = push(peer, [row(time) for time in range(100)])
    assert [entry.row.time for entry in result.refused] == [99]
    peer = Peer(judge=refusing(status, 0))
    [result] = push(peer, [row(time) for time in range(100)])
    assert [entry.row.time for entry in result.refused] == [0]


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.INTERNAL_ERROR])
@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_a_thing_that_takes_nothing_is_a_failed_call_after_few_tries(status: Status, count: int) -> None:
    peer = Peer(judge=lambda *_: status)
    with pytest.raises(ThingworxCallFailed) as caught:
        push(peer, [row(time) for time in range(count)])
    assert caught.value.status in (404, 500)
    assert len(peer.calls("UpdateSubscribedPropertyValues")) <= 25


def test_a_refusal_of_the_thing_is_not_searched_for_in_its_rows() -> None:
    peer = Peer(judge=lambda *_: Status.FORBIDDEN)
    with pytest.raises(ThingworxCallFailed) as caught:
        push(peer, [row(time) for time in range(100)])
    assert caught.value.status == 403
    assert peer.calls("UpdateSubscribedPropertyValues") == ["pump"]


@pytest.mark.parametrize("status", [0x88, 0xA2, 0xA3, 0xA4, 0xE0, 0xE2, Status.UNAUTHORIZED])
def test_a_platform_that_is_busy_or_away_is_unavailable(status: int) -> None:
    with pytest.raises(ThingworxUnavailable):
        push(Peer(judge=lambda *_: status), [row(1), row(2)])


def test_a_value_that_has_no_form_on_the_wire_is_refused_alone() -> None:
    peer = Peer()
    [result] = push(peer, [row(1), row(2, "warm"), row(3)])
    [refused] = result.refused
    assert (refused.row.time, refused.detail[:23]) == (2, "has no form on the wire")
    assert times(peer) == [1, 3]


def test_rows_larger_than_a_message_are_sent_in_several() -> None:
    peer = Peer()
    rows = [ValueRow("temp", "STRING", "x" * 100_000, time) for time in range(20)]
    [result] = push(peer, rows)
    assert result == PushResult()
    assert times(peer) == list(range(20))


def test_what_was_stored_before_a_failure_counts_as_pushed() -> None:
    peer = Peer(default=subscriptions(temp="VALUE"))

    def judge(_: str, rows: list[dict[str, Any]]) -> int:
        if len(rows) == 2:
            return Status.BAD_REQUEST
        return Status.SUCCESS if rows[0]["time"].value == 1 else Status.SERVICE_UNAVAILABLE

    async def scenario() -> PushResult:
        async with asyncio.timeout(20), connected(peer) as (_, transport):
            peer.judge = judge
            with pytest.raises(ThingworxUnavailable):
                await transport.push("pump", [row(1, 1.0), row(2, 2.0)])
            peer.judge = lambda *_: Status.SUCCESS
            return await transport.push("pump", [row(3, 1.0)])

    assert asyncio.run(scenario()).suppressed == 1


def losing_the_slot(after: int) -> Callable[[], None]:
    """A check that passes so many times."""
    left = [after]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise PermissionError("the slot is another's")

    return check


@pytest.mark.parametrize("way", ["push", "echo"])
def test_what_waited_for_its_thing_to_be_bound_is_sent_only_when_it_still_may_be(way: str) -> None:
    async def scenario() -> None:
        peer = Peer(mode="silent")
        async with asyncio.timeout(20), connected(peer) as (platform, transport):
            owner = [True]

            def check() -> None:
                if not owner[0]:
                    raise PermissionError("the slot is another's")

            transport.bind(["pump"])
            waiting = asyncio.create_task(getattr(transport, way)("pump", [row(1)], check))
            await until(lambda: bool(peer.binds()))
            owner[0] = False
            assert platform.connection
            for frame in peer.ask("pump", "NotifyPropertyUpdate"):
                await platform.connection.send(frame)
            with pytest.raises(PermissionError):
                await waiting
            assert not times(peer)

    asyncio.run(scenario())


def test_a_halved_call_ends_where_it_may_not_be_sent_any_more() -> None:
    async def scenario() -> None:
        peer = Peer()
        peer.judge = refusing(Status.BAD_REQUEST, 4)
        async with asyncio.timeout(20), connected(peer) as (_, transport):
            with pytest.raises(PermissionError):
                await transport.push("pump", [row(at) for at in (1, 2, 3, 4)], losing_the_slot(2))
            assert times(peer) == [1, 2]
            assert len(peer.calls("UpdateSubscribedPropertyValues")) == 2

    asyncio.run(scenario())


def test_one_request_is_in_flight_a_thing_and_many_things_at_once() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20), connected() as (platform, transport):
            for thing in ("a", "b"):
                await transport.push(thing, [row(0)])
            platform.peer.heard.clear()
            platform.peer.silent_services = {"UpdateSubscribedPropertyValues"}
            calls = [
                asyncio.create_task(transport.push(thing, [row(time)]))
                for time in (1, 2)
                for thing in ("a", "b")
            ]
            # A round trip on the same connection: whatever would follow the two has come before its end.
            await until(lambda: len(platform.peer.heard) >= 2)
            assert platform.connection
            await (await platform.connection.ping())
            assert platform.peer.calls("UpdateSubscribedPropertyValues") == ["a", "b"]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(scenario())


def test_an_echo_goes_to_things_that_are_to_be_bound_and_binds_none() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20), connected() as (platform, transport):
            with pytest.raises(ThingNotServed):
                await transport.echo("pump", [row(1)])
            await transport.push("pump", [row(2, 5.0)])
            assert await transport.echo("pump", [row(3, 6.0)]) == PushResult()
            assert await transport.echo("pump", [row(4, 6.0)]) == PushResult(suppressed=1)
            assert times(platform.peer) == [2, 3]
            assert transport.newest("pump")["temp"].time == 4
            assert transport.newest("fan") == {}
            assert transport.unseen() == {}
            transport.unbind(["pump"])
            with pytest.raises(ThingNotServed):
                await transport.echo("pump", [row(5)])

    asyncio.run(scenario())
