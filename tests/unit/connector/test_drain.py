"""From the queue to delivery: a lane is one unit, acknowledged after delivery, bounded in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from lambdas.connector.deliver import Delivery
from lambdas.connector.drain import Drain
from lambdas.connector.slot_queue import Message, SlotQueue
from lambdas.connector.stop import Stop, StopReason
from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxUnavailable
from tests.unit.connector.fakes import (
    FakeBacklog,
    FakeHeld,
    FakeSqs,
    FakeTransport,
    backlog_of,
    message,
    reading,
    refused,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from lambdas.shared.held_store import HeldReading
    from lambdas.thingworx.infotable import ValueRow


class Bench:
    """A drain between a queue and a platform in memory."""

    def __init__(
        self,
        *messages: Message,
        answer: Callable[[str, Sequence[ValueRow]], Awaitable[None] | None] | None = None,
        visibility: float = 60,
        held: FakeHeld | None = None,
        thing_retry_seconds: float = 60,
    ) -> None:
        self.sqs = FakeSqs(*messages)
        self.transport = FakeTransport(answer)
        self.stop = Stop()
        self.owner = True
        self.counters: Counter[str] = Counter()
        held = held or FakeHeld()
        self.delivery = Delivery(
            self.transport,
            held,  # type: ignore[arg-type] # a stand-in
            stop=self.stop,
            owns=lambda: self.owner,
            backlog=backlog_of(FakeBacklog(held), self.stop, thing_retry_seconds, lambda: self.owner),
            concurrency=16,
            thing_retry_seconds=thing_retry_seconds,
            counters=self.counters,
        )
        self.queue = SlotQueue(self.sqs, "https://q", visibility=60, stop=self.stop)  # type: ignore[arg-type]
        self.queue.visibility = visibility  # type: ignore[assignment] # parts of a second, in tests
        self.drain = Drain(
            self.queue, self.delivery, stop=self.stop, poll_seconds=lambda: 1, counters=self.counters
        )

    async def end(self, reason: StopReason = StopReason.END_OF_LIFE, *, settle: float = 5) -> None:
        """Stop, and wait for what is under way."""
        self.stop.ask(reason)
        await self.running
        await self.drain.settled(settle, 5)

    def start(self) -> None:
        """Receive from now on."""
        self.running = asyncio.ensure_future(self.drain.run())


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_messages_are_delivered_and_then_deleted() -> None:
    async def scenario() -> None:
        bench = Bench(*(message(f"lane-{at % 3}", reading(f"thing-{at % 3}", at)) for at in range(30)))
        bench.start()
        await until(lambda: len(bench.sqs.deleted) == 30)
        await bench.end()
        for thing in range(3):
            assert bench.transport.times(f"thing-{thing}") == list(range(thing, 30, 3))
        assert bench.counters["messages_deleted"] == 30
        assert bench.counters["taken"] == bench.counters["delivered"] == 30

    run(scenario)


def test_nothing_is_deleted_before_the_platform_has_answered_for_all_its_readings() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()

        def answer(thing: str, _: Any) -> Awaitable[None] | None:
            return answered.wait() if thing == "slow" else None  # type: ignore[return-value]

        bench = Bench(message("lane-0", reading("quick", 1), reading("slow", 1)), answer=answer)
        bench.start()
        await until(lambda: bool(bench.transport.accepted) and len(bench.transport.tried) == 2)
        assert not bench.sqs.of("delete")
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 1)
        await bench.end()

    run(scenario)


def test_one_stuck_lane_does_not_stop_the_others_and_is_kept_hidden_as_a_whole() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()

        def answer(thing: str, _: Any) -> Awaitable[None] | None:
            return answered.wait() if thing == "slow" else None  # type: ignore[return-value]

        stuck = [message("lane-0", reading("slow", at)) for at in range(3)]
        others = [message("lane-1", reading("quick", at)) for at in range(20)]
        bench = Bench(*stuck, *others, answer=answer, visibility=0.1)
        bench.start()
        await until(lambda: len(bench.sqs.deleted) == 20 and bool(bench.sqs.of("extend")))
        extension = bench.sqs.of("extend")[0]["Entries"]
        assert [entry["ReceiptHandle"] for entry in extension] == [entry.receipt for entry in stuck]
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 23)
        await bench.end()

    run(scenario)


def test_a_lane_is_hidden_anew_when_half_of_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(message("lane-0", reading("slow", 1)), answer=lambda *_: answered.wait(), visibility=60)  # type: ignore[arg-type]
        bench.start()
        await until(lambda: len(bench.sqs.of("extend")) == 2)
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 1)
        await bench.end()
        assert {
            entry["VisibilityTimeout"] for call in bench.sqs.of("extend") for entry in call["Entries"]
        } == {60}
        assert max(slept) == 30

    slept: list[float] = []
    sleep = asyncio.sleep

    async def shortened(seconds: float) -> None:
        slept.append(seconds)
        await sleep(min(seconds, 0.001))

    monkeypatch.setattr(asyncio, "sleep", shortened)
    run(scenario)


def test_a_lane_whose_visibility_is_lost_is_dropped_without_deleting_anything() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(
            *(message("lane-0", reading("slow", at)) for at in range(2)),
            answer=lambda *_: answered.wait(),  # type: ignore[arg-type]
            visibility=0.05,
        )
        bench.sqs.refusing["extend"] = 1
        bench.start()
        await until(lambda: bool(bench.sqs.of("extend")))
        answered.set()
        await until(lambda: bench.counters["lanes_dropped"] == 1)
        await bench.end()
        assert not bench.sqs.of("delete")

    run(scenario)


def test_messages_that_come_again_wait_for_the_call_of_the_first_time() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        again = [message("lane-0", reading("slow", at)) for at in range(2)]
        bench = Bench(*again, answer=lambda *_: answered.wait(), visibility=0.05)  # type: ignore[arg-type]
        bench.sqs.refusing["extend"] = 1
        bench.start()
        await until(lambda: bool(bench.sqs.of("extend")))
        bench.sqs.hidden.clear()
        bench.sqs.visible.extend([*again, message("lane-0", reading("slow", 2))])
        await until(lambda: bool(bench.sqs.hidden))
        for _ in range(30):
            await asyncio.sleep(0.001)
        assert len(bench.transport.tried) == 1
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 3)
        await bench.end()
        assert bench.transport.most_under_way["slow"] == 1
        assert bench.transport.times("slow") == [0, 1, 0, 1, 2], "the repeat comes whole, after the first"

    run(scenario)


def test_polls_are_short_while_lanes_are_at_work_and_a_full_one_is_followed_at_once() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(
            *(message("lane-0", reading("slow", at)) for at in range(10)),
            message("lane-1", reading("slow too", 1)),
            answer=lambda *_: answered.wait(),  # type: ignore[arg-type]
        )
        bench.drain._poll_seconds = lambda: 7
        bench.start()
        await until(lambda: len(bench.sqs.of("receive")) == 4)
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 11)
        received = len(bench.sqs.of("receive"))
        await until(lambda: len(bench.sqs.of("receive")) > received + 1)
        await bench.end()
        waits = [call["WaitTimeSeconds"] for call in bench.sqs.of("receive")]
        assert waits[:4] == [7, 0, 1, 1]
        assert waits[-1] == 7

    run(scenario)


def test_what_is_held_in_memory_is_bounded() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(
            *(message(f"lane-{index}", reading(f"thing-{index}", 1)) for index in range(200)),
            answer=lambda *_: answered.wait(),  # type: ignore[arg-type]
        )
        bench.start()
        await until(lambda: len(bench.sqs.hidden) >= 60)
        received = len(bench.sqs.of("receive"))
        await asyncio.sleep(0.15)  # longer than the pause between two looks
        assert len(bench.sqs.of("receive")) == received
        assert len(bench.sqs.hidden) < 70
        answered.set()
        await until(lambda: len(bench.sqs.deleted) == 200)
        await bench.end()

    run(scenario)


@pytest.mark.parametrize("error", [ThingworxUnavailable("503"), TypeError("nobody foresaw this")])
def test_a_thing_that_fails_at_once_keeps_nothing_waiting_that_comes_later(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def scenario() -> None:
        def answer(thing: str, _: Any) -> None:
            if thing == "pump":
                raise error

        held = FakeHeld()
        bench = Bench(
            message("lane-0", reading("pump", 1)), answer=answer, held=held, thing_retry_seconds=0.1
        )
        bench.start()
        await until(lambda: bench.delivery.gate.closed)
        at = 0
        while not held.held:
            at += 1
            bench.sqs.visible.append(message("lane-1", reading("fan", at)))
            await until(lambda: len(bench.transport.times("fan")) == at)  # noqa: B023 - awaited here
        await bench.end()
        assert [(entry.thing, entry.state) for entry in held.held] == [("pump", "parked")]

    # Closed for much longer than the moment between two tries, as in production.
    monkeypatch.setattr("lambdas.connector.gate._FIRST_SECONDS", 0.4)
    monkeypatch.setattr("lambdas.connector.gate._MOST_SECONDS", 0.4)
    run(scenario)


def test_stopping_gives_back_what_waits_and_finishes_what_is_under_way() -> None:
    async def scenario() -> None:
        def answer(thing: str, _: Any) -> Awaitable[None] | None:
            if thing == "slow":
                return asyncio.sleep(0.05)
            raise ThingworxCallFailed(500, "locked")

        waits = message("lane-0", reading("pump", 1))
        bench = Bench(waits, message("lane-1", reading("slow", 1)), answer=answer)
        bench.start()
        await until(lambda: len(bench.transport.tried) >= 2)
        await bench.end(settle=0.3)
        assert bench.sqs.visible == [waits]
        assert not bench.sqs.hidden
        assert bench.sqs.deleted == ["m-0:slow:1"]

    run(scenario)


def test_calls_that_do_not_end_are_left_behind_with_their_messages_hidden() -> None:
    async def scenario() -> None:
        never = asyncio.Event()
        bench = Bench(
            message("lane-0", reading("stuck", 1)),
            answer=lambda *_: never.wait(),  # type: ignore[arg-type]
        )
        bench.start()
        await until(lambda: bool(bench.transport.tried))
        bench.stop.ask(StopReason.SUCCESSOR_READY)
        await bench.running
        await bench.drain.settled(0.01, 0.01)
        assert bench.counters["lanes_left_behind"] == 1
        never.set()
        await until(lambda: not bench.drain._units)
        assert len(bench.sqs.hidden) == 1
        assert not bench.sqs.of("delete")
        assert not bench.sqs.of("extend")

    run(scenario)


def test_after_a_lost_lease_messages_at_work_are_neither_deleted_nor_given_back() -> None:
    async def scenario() -> None:
        def answer(*_: Any) -> None:
            bench.owner = False
            raise ThingworxCallFailed(500, "locked")

        bench = Bench(message("lane-0", reading("pump", 1)), answer=answer)
        bench.start()
        await bench.running
        await bench.drain.settled(5, 5)
        assert bench.stop.reason is StopReason.LEASE_LOST
        assert len(bench.sqs.hidden) == 1
        assert not bench.sqs.of("delete")

    run(scenario)


def test_what_was_held_only_after_the_lease_had_ended_stays_in_the_queue() -> None:
    """The new owner may have found nothing parked and deliver directly: only the queue knows of it then."""

    async def scenario() -> None:
        def refuse(*_: Any) -> None:
            raise ThingNotServed("switched off")

        held = FakeHeld()
        bench = Bench(message("lane-0", reading("pump", 1)), answer=refuse, held=held)
        hold = held.hold

        def slow(items: Sequence[HeldReading]) -> dict[str, int]:
            bench.owner = False
            return hold(items)

        held.hold = slow  # type: ignore[method-assign]
        bench.start()
        await until(lambda: bool(held.held) and not bench.drain.busy)
        await bench.end(StopReason.LEASE_LOST)
        assert not bench.sqs.deleted

    run(scenario)


def test_what_is_received_without_the_lease_is_given_back_untouched() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.owner = False
        bench.start()
        await bench.running
        await bench.drain.settled(0, 0)
        assert bench.stop.reason is StopReason.LEASE_LOST
        assert len(bench.sqs.visible) == 1
        assert not bench.transport.tried

    run(scenario)


def test_a_lane_that_fails_in_an_unforeseen_way_does_not_stop_the_others() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)), message("lane-1", reading("fan", 1)))
        settle = bench.delivery.settle

        async def breaking(messages: Sequence[Message]) -> None:
            if messages[0].lane == "lane-0":
                raise KeyError("unforeseen")
            await settle(messages)

        bench.delivery.settle = breaking  # type: ignore[method-assign]
        bench.start()
        await until(lambda: bench.sqs.deleted == ["m-0:fan:1"] and bench.counters["lanes_failed"] == 1)
        await bench.end()
        assert len(bench.sqs.hidden) == 1, "it comes again after its visibility timeout"

    run(scenario)


def test_a_parcel_of_a_later_release_stays_in_the_queue_for_a_successor() -> None:
    async def scenario() -> None:
        bench = Bench(
            message("lane-0", reading("pump", 1)),
            Message("m-2", "lane-0", '{"v": 2, "anything": []}', "receipt-m-2"),
            message("lane-1", reading("fan", 1)),
        )
        bench.start()
        await until(lambda: bench.sqs.deleted == ["m-0:fan:1"] and bench.counters["lanes_failed"] == 1)
        await bench.end()
        assert len(bench.sqs.hidden) == 2
        assert not bench.transport.times("pump")

    run(scenario)


def test_a_queue_that_is_gone_ends_receiving_with_an_error() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.sqs.failing["receive"] = [refused("QueueDoesNotExist")]
        bench.start()
        with pytest.raises(ClientError):
            await bench.running

    run(scenario)


def test_while_the_held_store_fails_nothing_is_deleted() -> None:
    async def scenario() -> None:
        def answer(*_: Any) -> None:
            raise ThingworxCallFailed(404, "none")

        held = FakeHeld(failures=10**9)
        bench = Bench(message("lane-0", reading("pump", 1)), answer=answer, held=held)
        bench.start()
        await until(lambda: held.calls >= 3)
        await bench.end(settle=0.05)
        assert not bench.sqs.of("delete")
        assert len(bench.sqs.visible) == 1

    run(scenario)


def test_at_rest_nothing_is_received_and_nothing_is_at_work_until_it_goes_on() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(message("lane-0", reading("pump", 1)), answer=lambda *_: answered.wait())  # type: ignore[arg-type]
        bench.start()
        await until(lambda: bool(bench.transport.tried))
        assert bench.drain.busy
        resting = asyncio.ensure_future(bench.drain.rest(10))
        await asyncio.sleep(0.01)
        assert not resting.done()
        answered.set()
        assert await resting
        assert bench.sqs.deleted == ["m-0:pump:1"]
        assert not bench.drain.busy
        received = len(bench.sqs.of("receive"))
        bench.sqs.visible.append(message("lane-0", reading("pump", 2)))
        await asyncio.sleep(0.05)
        assert len(bench.sqs.of("receive")) == received
        bench.drain.go_on()
        await until(lambda: len(bench.sqs.deleted) == 2)
        await bench.end()

    run(scenario)


def test_what_takes_too_long_to_come_to_rest_is_told() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        bench = Bench(message("lane-0", reading("pump", 1)), answer=lambda *_: answered.wait())  # type: ignore[arg-type]
        bench.start()
        await until(lambda: bool(bench.transport.tried))
        assert not await bench.drain.rest(0.05)
        answered.set()
        bench.drain.go_on()
        await until(lambda: len(bench.sqs.deleted) == 1)
        await bench.end()

    run(scenario)
