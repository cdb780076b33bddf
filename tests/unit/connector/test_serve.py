"""One connector's life, with a token, a lease, a queue and a platform in memory."""

# ruff: noqa: D102 - same as in fakes.py: stand-ins
from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lambdas.connector import life, tenure
from lambdas.connector.asked import NoRequests
from lambdas.connector.handover import Patience
from lambdas.connector.lease import LeaseLost, Taken
from lambdas.connector.serve import Connector, Parts, State
from lambdas.connector.slot_view import Offer, SlotView
from lambdas.connector.stop import StopReason
from lambdas.connector.timing import Timing
from lambdas.connector.token import TokenClosed
from lambdas.shared.errors import (
    ConnectorError,
    ThingworxCallFailed,
    ThingworxRefused,
    ThingworxUnavailable,
)
from lambdas.shared.settings import ConnectorSettings
from tests.unit.connector.fakes import (
    FakeBacklog,
    FakeHeld,
    FakeSqs,
    FakeTransport,
    message,
    reading,
    refused,
    until,
)
from tests.unit.connector.test_timing import REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lambdas.connector.asked import Requests
    from lambdas.connector.outlet import Outlet
    from lambdas.connector.slot_queue import Message

LEASE = 0.3


class FakeToken:
    """A task token: closed from outside, or by its one answer."""

    def __init__(self) -> None:
        self.answered = self.closed = False
        self.beats = 0
        self.answers: list[str] = []
        self.failing: list[Exception] = []

    def beat(self) -> None:
        if not self.answered:
            self.beats += 1
            self._call()

    def answer(self, follow_up: str, reason: str) -> None:
        assert reason
        self._end(follow_up)

    def fail(self, error: BaseException) -> None:
        self._end(f"failed: {error}")

    def _end(self, answer: str) -> None:
        self._call()
        self.answers.append(answer)
        self.answered = self.closed = True

    def _call(self) -> None:
        if self.failing:
            raise self.failing.pop(0)
        if self.closed:
            raise TokenClosed


class FakeLease:
    """A lease on a slot of its own; `slot` may be changed from outside.

    Attributes:
        lasts: seconds of a renewal; long, so that a slow machine loses no lease.
        held: it was acquired once.
    """

    owner = "me"
    epoch = 1

    def __init__(self) -> None:
        self.lasts = 60.0
        self.held = False
        self.slot = SlotView("active", 1, "https://q", "me", 0, None, leaving=False)
        self.calls: list[str] = []
        self.taken = Taken.HELD
        self.failing: dict[str, list[Exception]] = {}
        self.broken: Exception | None = None
        self._deadline = 0.0

    def _begin(self, name: str) -> None:
        self.calls.append(name)
        if self.broken:
            raise self.broken
        if self.failing.get(name):
            raise self.failing[name].pop(0)

    def valid(self) -> bool:
        return time.monotonic() < self._deadline

    def view(self) -> SlotView:
        self._begin("view")
        return self.slot

    def acquire(self) -> Taken:
        self._begin("acquire")
        if self.taken is Taken.HELD:
            self.held = True
            self._prolong()
        return self.taken

    def renew(self) -> SlotView:
        self._begin("renew")
        self._prolong()
        return self.slot

    def leave(self) -> None:
        self._begin("leave")
        self.slot = self.slot._replace(leaving=True)

    def release(self) -> None:
        self._deadline = 0.0
        self._begin("release")

    def offer(self, offer: Offer) -> None:
        self._deadline = 0.0
        self._begin("offer")
        self.slot = self.slot._replace(offer=offer)

    def take_back(self) -> None:
        self._begin("take_back")
        if self.slot.owner != "me":
            raise LeaseLost
        self.slot = self.slot._replace(offer=None, successor=None, takes=False)
        self._prolong()

    def ask(self, *, takes: bool = True) -> None:
        """As a successor does."""
        self.slot = self.slot._replace(successor="other", takes=takes)

    def _prolong(self) -> None:
        if self.slot.offer is None:
            self._deadline = time.monotonic() + self.lasts


class Bench:
    """A connector and what it is made of."""

    def __init__(self, *messages: Message, transport: FakeTransport | None = None) -> None:
        self.token = FakeToken()
        self.lease = FakeLease()
        self.transport = transport or FakeTransport()
        self.held = FakeHeld()
        self.sqs = FakeSqs(*messages)
        self.handover = self.end = 60.0
        self.rest = 5.0
        self.settle = 5.0
        self.requests: Requests = NoRequests()
        self.settings = {"BEAT_SECONDS": "0.02", "LEASE_SECONDS": str(LEASE), "THING_RETRY_SECONDS": "60"}
        self.connector: Connector

    async def run(self) -> None:
        settings = ConnectorSettings.from_env(REQUIRED | self.settings)
        backlog = FakeBacklog(self.held)
        parts = Parts(self.token, self.lease, self.transport, self.held, self.sqs, backlog)  # type: ignore[arg-type]
        parts = parts._replace(requests=self.requests)
        self.connector = Connector("1", settings, parts, 900)
        self.connector._life.patience = Patience(sign=0.1, poll=0.002)
        now = time.monotonic()
        self.connector._life.timing = Timing(
            now + self.handover,
            now + self.end,
            settle=self.settle,
            grace=1,
            poll=1,
            tick=0.01,
            quick=0.005,
            rest=self.rest,
        )
        await self.connector.run()

    def start(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self.run())

    def deliver(self, thing: str, at: int) -> None:
        with self.sqs.lock:
            self.sqs.visible.append(message(f"lane-{thing}", reading(thing, at)))

    def check_ended(self) -> None:
        assert self.connector.state is State.ENDED
        assert self.transport.closed
        assert not self.lease.valid()
        if self.lease.held:
            assert self.lease.calls[-1] == "release"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"left at work: {left}"

    before = set(threading.enumerate())
    asyncio.run(bounded())
    assert set(threading.enumerate()) <= before, "threads left"


def test_a_closed_token_at_the_first_beat_ends_it_without_touching_the_slot() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.token.closed = True
        await bench.run()
        assert bench.token.beats == 1
        assert not bench.lease.calls
        assert not bench.sqs.calls
        assert not bench.transport.opened
        bench.check_ended()

    run(scenario)


def test_without_a_first_beat_it_does_not_serve() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.token.failing = [EndpointConnectionError(endpoint_url="https://states")]
        with pytest.raises(EndpointConnectionError):
            await bench.run()
        assert not bench.lease.calls
        assert len(bench.token.answers) == 1
        bench.check_ended()

    run(scenario)


def test_it_delivers_and_at_the_end_of_its_life_asks_to_be_followed() -> None:
    async def scenario() -> None:
        bench = Bench(*(message("lane-0", reading("pump", at)) for at in range(20)))
        bench.end = 0.3
        await bench.run()
        assert bench.transport.times("pump") == list(range(20))
        assert len(bench.sqs.deleted) == 20
        assert bench.token.answers == ["again"]
        assert bench.token.beats > 1
        bench.check_ended()

    run(scenario)


def test_nothing_is_delivered_before_what_the_predecessor_left_nor_after_what_is_left() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        delivered = []

        class Slow(NoRequests):
            """Takes its time."""

            async def begin(self, outlet: Outlet) -> None:
                """Note what has been delivered then."""
                await asyncio.sleep(0.2)
                delivered.append(bench.transport.times("pump"))

            async def leave(self) -> None:
                """Note what has been delivered then."""
                delivered.append(bench.transport.times("pump"))

        bench.requests = Slow()
        bench.end = 0.5
        await bench.run()
        assert delivered == [[], [1]]
        bench.check_ended()

    run(scenario)


def test_what_a_connector_is_left_is_not_waited_for_endlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenure, "_TAKE_OVER_SECONDS", 0.05)

    class Stuck(NoRequests):
        """Never begins."""

        async def begin(self, outlet: Outlet) -> None:
            """Wait for ever."""
            await asyncio.Event().wait()

    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.requests = Stuck()
        bench.end = 0.5
        await bench.run()
        assert bench.transport.times("pump") == [1]
        bench.check_ended()

    run(scenario)


def test_hand_over_answers_serves_on_until_the_successor_asks_then_settles_and_releases() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.05
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        assert bench.token.answers == ["handover"]
        bench.deliver("pump", 1)
        await until(lambda: len(bench.sqs.deleted) == 1)
        assert not running.done()
        bench.lease.slot = bench.lease.slot._replace(successor="other")
        await running
        assert bench.token.answers == ["handover"]
        bench.check_ended()

    run(scenario)


def test_a_successor_nobody_called_for_is_not_obeyed() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.end = 0.3
        bench.lease.slot = bench.lease.slot._replace(successor="left over from before")
        await bench.run()
        assert bench.token.answers == ["again"]

    run(scenario)


def test_no_successor_by_the_end_means_settle_release_and_go() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover, bench.end = 0.05, 0.2
        await bench.run()
        assert bench.token.answers == ["handover"]
        bench.check_ended()

    run(scenario)


def test_a_hand_over_whose_second_half_failed_is_not_answered_twice() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        bench.lease.failing["leave"] = [refused("ThrottlingException")]
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        assert bench.token.answers == ["handover"]
        bench.lease.slot = bench.lease.slot._replace(successor="other")
        await running
        bench.check_ended()

    run(scenario)


def test_the_lease_is_kept_while_what_is_under_way_is_settled() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        slow = FakeTransport(lambda *_: answered.wait())  # type: ignore[arg-type]
        bench = Bench(message("lane-0", reading("pump", 1)), transport=slow)
        running = bench.start()
        await until(lambda: bool(bench.transport.tried))
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await until(lambda: bench.connector.state is State.SETTLING)
        renewals = bench.lease.calls.count("renew")
        await until(lambda: bench.lease.calls.count("renew") > renewals + 3)
        assert bench.lease.valid()
        answered.set()
        await running
        assert len(bench.sqs.deleted) == 1
        bench.check_ended()

    run(scenario)


def test_a_hand_over_that_can_not_be_announced_yet_keeps_the_lease() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        hangs, go_on = threading.Event(), threading.Event()
        answer = bench.token.answer

        def hanging(follow_up: str, reason: str) -> None:
            hangs.set()
            go_on.wait(10)
            answer(follow_up, reason)

        bench.token.answer = hanging  # type: ignore[method-assign]
        running = bench.start()
        await until(hangs.is_set)
        try:
            renewals = bench.lease.calls.count("renew")
            await until(lambda: bench.lease.calls.count("renew") > renewals + 5)
            assert bench.lease.valid()
        finally:
            go_on.set()
        await until(lambda: bench.lease.slot.leaving)
        bench.lease.slot = bench.lease.slot._replace(successor="other")
        await running
        assert bench.token.answers == ["handover"]
        bench.check_ended()

    run(scenario)


def test_after_a_lost_lease_nothing_is_pushed_or_deleted() -> None:
    async def scenario() -> None:
        def answer(*_: Any) -> None:
            raise ThingworxCallFailed(500, "locked")

        bench = Bench(message("lane-0", reading("pump", 1)), transport=FakeTransport(answer))
        running = bench.start()
        await until(lambda: bool(bench.transport.tried))
        bench.lease.failing["renew"] = [LeaseLost("another owns it")]
        await until(lambda: not bench.lease.failing["renew"])
        await asyncio.sleep(0)
        tried = len(bench.transport.tried)
        await running
        assert len(bench.transport.tried) <= tried + 1, "one may have passed the check before"
        assert not bench.sqs.of("delete")
        assert bench.token.answers == ["again"]
        bench.check_ended()

    run(scenario)


def test_a_table_that_fails_for_less_than_the_lease_changes_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        running = bench.start()
        bench.lease.failing["renew"] = [refused("InternalServerError")]
        await until(lambda: bench.lease.calls.count("renew") > 3)
        bench.deliver("pump", 1)
        await until(lambda: len(bench.sqs.deleted) == 1)
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running

    run(scenario)


def test_a_table_that_fails_for_longer_ends_it_at_the_deadline_of_the_lease() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.lease.lasts = LEASE
        running = bench.start()
        await until(lambda: "renew" in bench.lease.calls)
        bench.lease.broken = EndpointConnectionError(endpoint_url="https://dynamodb")
        await running
        assert bench.token.answers == ["again"]
        assert not bench.lease.valid()
        bench.deliver("pump", 1)
        assert not bench.transport.tried

    run(scenario)


def test_a_renewal_that_hangs_does_not_keep_it_receiving_beyond_the_deadline() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.lease.lasts = LEASE
        hangs, go_on = threading.Event(), threading.Event()

        def renew() -> SlotView:
            hangs.set()
            go_on.wait(10)
            raise LeaseLost

        bench.lease.renew = renew  # type: ignore[method-assign]
        running = bench.start()
        await until(hangs.is_set)
        await until(lambda: not bench.lease.valid())
        bench.deliver("pump", 1)
        await until(lambda: bench.connector.state is State.SETTLING or running.done())
        go_on.set()
        await running
        assert not bench.transport.tried
        assert len(bench.sqs.visible) == 1, "its owner may have it at once"

    run(scenario)


@pytest.mark.parametrize("breaks", ["open", "no queue", "queue gone", "view", "acquire"])
def test_what_makes_serving_impossible_is_told_and_the_slot_is_free(breaks: str) -> None:
    async def scenario() -> None:
        bench = Bench()
        error: type[Exception] = ClientError
        match breaks:
            case "open":
                error = ThingworxRefused

                async def refuse() -> None:
                    raise ThingworxRefused("401")

                bench.transport.open = refuse  # type: ignore[method-assign]
            case "no queue":
                error = ConnectorError
                bench.lease.slot = bench.lease.slot._replace(queue_url=None)
            case "queue gone":
                bench.sqs.failing["receive"] = [refused("QueueDoesNotExist")]
            case _:
                bench.lease.failing[breaks] = [refused("AccessDeniedException")]
        with pytest.raises(error):
            await bench.run()
        (answer,) = bench.token.answers
        assert answer.startswith("failed: ")
        bench.check_ended()

    run(scenario)


def test_an_unforeseen_fault_of_the_lease_keeper_ends_it_as_a_failure() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.lease.failing["renew"] = [KeyError("unforeseen")]
        with pytest.raises(KeyError):
            await bench.run()
        assert bench.token.answers == ["failed: 'unforeseen'"]
        bench.check_ended()

    run(scenario)


@pytest.mark.parametrize("taken", [Taken.STOPPING, Taken.SUPERSEDED])
def test_a_slot_that_is_not_to_be_served_ends_the_chain(taken: Taken) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.lease.taken = taken
        await bench.run()
        assert bench.token.answers == ["stop"]
        assert not bench.sqs.calls
        bench.check_ended()

    run(scenario)


@pytest.mark.parametrize("change", [{"state": "stopping"}, {"state": "gone", "epoch": 0}, {"epoch": 2}])
def test_a_chain_that_nobody_wants_ends_also_while_the_platform_is_away(change: dict[str, Any]) -> None:
    async def away() -> None:
        raise ThingworxUnavailable("no answer")

    async def scenario() -> None:
        bench = Bench()
        bench.transport.open = away  # type: ignore[method-assign] # it is a stand-in
        bench.lease.slot = bench.lease.slot._replace(**change)
        await bench.run()
        assert bench.token.answers == ["stop"]
        assert bench.lease.calls == ["view"]
        bench.check_ended()

    run(scenario)


@pytest.mark.parametrize("state", ["stopping", "gone"])
def test_a_slot_that_stops_while_served_ends_the_chain(state: str) -> None:
    async def scenario() -> None:
        bench = Bench()
        running = bench.start()
        await until(lambda: "renew" in bench.lease.calls)
        bench.lease.slot = bench.lease.slot._replace(state=state)
        await running
        assert bench.token.answers == ["stop"]
        bench.check_ended()

    run(scenario)


def test_a_stopped_execution_is_noticed_by_the_next_beat() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        running = bench.start()
        await until(lambda: len(bench.sqs.deleted) == 1)
        bench.token.closed = True
        await running
        assert not bench.token.answers
        bench.check_ended()

    run(scenario)


def test_after_hand_over_a_closed_token_means_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        beats = bench.token.beats
        renewals = len(bench.lease.calls)
        await until(lambda: len(bench.lease.calls) > renewals + 5)
        assert not running.done()
        assert bench.token.beats <= beats + 1
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running
        bench.check_ended()

    run(scenario)


def test_heartbeats_go_on_after_failures_of_any_kind() -> None:
    async def scenario() -> None:
        bench = Bench()
        running = bench.start()
        await until(lambda: bench.token.beats >= 1)
        bench.token.failing = [refused("ThrottlingException"), OSError("unforeseen")]
        await until(lambda: bench.token.beats >= 5)
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running
        assert bench.token.answers == ["stop"]

    run(scenario)


def test_work_that_hangs_keeps_neither_beats_nor_the_lease_waiting() -> None:
    async def scenario() -> None:
        bench, go_on = Bench(), threading.Event()
        running = bench.start()
        await until(lambda: "renew" in bench.lease.calls)
        hanging = [asyncio.ensure_future(asyncio.to_thread(go_on.wait, 10)) for _ in range(100)]
        try:
            beats, renewals = bench.token.beats, bench.lease.calls.count("renew")
            await until(
                lambda: bench.token.beats > beats + 2 and bench.lease.calls.count("renew") > renewals + 2
            )
        finally:
            go_on.set()
        await asyncio.gather(*hanging)
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running

    run(scenario)


def test_it_waits_for_a_slot_that_is_busy() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.lease.taken = Taken.BUSY
        running = bench.start()
        await until(lambda: bench.lease.calls.count("acquire") > 3)
        assert bench.connector.state is State.WAITING
        assert not bench.sqs.calls
        bench.lease.taken = Taken.HELD
        await until(lambda: len(bench.sqs.deleted) == 1)
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running

    run(scenario)


def test_a_slot_that_stays_busy_is_left_to_the_next_one() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.lease.taken = Taken.BUSY
        bench.end = 0.1
        await bench.run()
        assert bench.token.answers == ["again"]
        assert not bench.sqs.calls
        bench.check_ended()

    run(scenario)


def test_an_answer_that_can_not_be_sent_does_not_make_the_end_a_failure() -> None:
    async def scenario() -> None:
        bench = Bench()
        running = bench.start()
        await until(lambda: "renew" in bench.lease.calls)

        def unsendable(*_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://states")

        bench.token.answer = unsendable  # type: ignore[method-assign, assignment]
        bench.lease.failing["release"] = [refused("InternalServerError")]
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running
        bench.check_ended()

    run(scenario)


def test_an_offer_that_is_taken_ends_it_without_touching_the_slot_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        bench.lease.ask()
        await until(lambda: bench.lease.slot.offer is not None)
        assert not bench.lease.valid()
        bench.deliver("pump", 1)
        bench.lease.slot = bench.lease.slot._replace(owner="other", offer=None, successor=None)
        await running
        assert bench.token.answers == ["handover"]
        assert not bench.transport.tried
        assert not bench.connector._life.counters["handover_transitions"]
        bench.check_ended()

    run(scenario)


def test_an_offer_that_nobody_takes_is_taken_back_and_the_slot_is_served_on() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        bench.lease.ask()
        await until(lambda: "take_back" in bench.lease.calls)
        bench.deliver("pump", 1)
        await until(lambda: len(bench.sqs.deleted) == 1)
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running
        bench.check_ended()

    run(scenario)


def test_after_two_offers_that_nobody_took_the_slot_is_given_up() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        for turn in (1, 2):
            bench.lease.ask()
            await until(lambda turn=turn: bench.lease.calls.count("take_back") == turn)  # type: ignore[misc]
            await until(lambda: bench.lease.slot.successor is None)
        bench.lease.ask()
        await running
        assert bench.lease.calls.count("offer") == 2
        bench.check_ended()

    run(scenario)


def test_a_successor_that_takes_no_offers_gets_the_slot_by_its_release() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        bench.lease.ask(takes=False)
        await running
        assert "offer" not in bench.lease.calls
        bench.check_ended()

    run(scenario)


def test_a_push_that_hangs_is_left_behind_before_the_slot_is_offered() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        hanging = FakeTransport(lambda *_: answered.wait())  # type: ignore[arg-type]
        bench = Bench(message("lane-0", reading("pump", 1)), transport=hanging)
        bench.handover, bench.rest, bench.settle = 0.02, 0.05, 0.05
        running = bench.start()
        await until(lambda: bool(bench.transport.tried) and bench.lease.slot.leaving)
        bench.lease.ask()
        await until(lambda: bench.lease.slot.offer is not None)
        assert bench.connector.state is State.SETTLING
        bench.lease.slot = bench.lease.slot._replace(owner="other", offer=None, successor=None)
        answered.set()
        await running
        assert not bench.sqs.deleted
        bench.check_ended()

    run(scenario)


def test_a_slot_is_offered_only_when_every_push_has_been_answered() -> None:
    async def scenario() -> None:
        answered = asyncio.Event()
        slow = FakeTransport(lambda *_: answered.wait())  # type: ignore[arg-type]
        bench = Bench(message("lane-0", reading("pump", 1)), transport=slow)
        bench.handover = 0.02
        running = bench.start()
        await until(lambda: bool(bench.transport.tried) and bench.lease.slot.leaving)
        bench.lease.ask()
        renewals = bench.lease.calls.count("renew")
        await until(lambda: bench.lease.calls.count("renew") > renewals + 5)
        assert "offer" not in bench.lease.calls
        assert bench.lease.valid()
        answered.set()
        await until(lambda: bench.lease.slot.offer is not None)
        assert len(bench.sqs.deleted) == 1
        bench.lease.slot = bench.lease.slot._replace(owner="other", offer=None, successor=None)
        await running
        bench.check_ended()

    run(scenario)


def test_a_fault_while_the_slot_is_handed_over_ends_it_as_a_failure() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.handover = 0.02
        bench.lease.failing["offer"] = [KeyError("unforeseen")]
        running = bench.start()
        await until(lambda: bench.lease.slot.leaving)
        bench.lease.ask()
        with pytest.raises(KeyError):
            await running
        bench.check_ended()

    run(scenario)


def test_the_second_invocation_of_an_event_leaves_slot_and_token_to_the_first() -> None:
    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.lease.taken = Taken.TWIN
        await bench.run()
        assert not bench.token.answers
        assert not bench.sqs.calls
        bench.check_ended()

    run(scenario)


def test_one_that_settles_nothing_of_what_it_holds_is_replaced() -> None:
    async def scenario() -> None:
        closed = asyncio.Event()
        hanging = FakeTransport(lambda *_: closed.wait())  # type: ignore[arg-type]
        bench = Bench(message("lane-0", reading("pump", 1)), transport=hanging)
        bench.settings["STALL_SECONDS"] = "0.2"
        bench.settle = 0.05
        close, answer = bench.transport.close, bench.token.answer
        reasons: list[str] = []

        async def closing() -> None:
            closed.set()
            await close()

        def noted(follow_up: str, reason: str) -> None:
            reasons.append(reason)
            answer(follow_up, reason)

        bench.transport.close = closing  # type: ignore[method-assign]
        bench.token.answer = noted  # type: ignore[method-assign]
        await bench.run()
        assert bench.token.answers == ["again"]
        assert reasons == [StopReason.STALLED.value]
        assert not bench.sqs.deleted
        bench.check_ended()

    run(scenario)


def test_a_platform_that_is_down_is_no_stall() -> None:
    async def scenario() -> None:
        def away(*_: Any) -> None:
            raise ThingworxUnavailable("connection refused")

        bench = Bench(message("lane-0", reading("pump", 1)), transport=FakeTransport(away))
        bench.settings["STALL_SECONDS"] = "0.3"
        bench.settle = 0.05
        running = bench.start()
        await until(lambda: bool(bench.transport.tried))
        renewals = bench.lease.calls.count("renew")
        await until(lambda: bench.lease.calls.count("renew") > renewals + 6)
        assert bench.connector.state is State.SERVING
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        await running
        assert bench.token.answers == ["stop"]

    run(scenario)


def test_what_happened_is_told_before_it_closes_and_what_happens_then_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[dict[str, int]] = []
    monkeypatch.setattr(life, "count", lambda _stack, _stage, counters: told.append(counters))

    async def scenario() -> None:
        bench = Bench(message("lane-0", reading("pump", 1)))
        bench.end = 0.3
        close = bench.transport.close

        async def closing() -> None:
            assert sum(entry.get("delivered", 0) for entry in told) == 1
            bench.connector._life.counters["closed"] += 1
            await close()

        bench.transport.close = closing  # type: ignore[method-assign]
        await bench.run()
        assert sum(entry.get("closed", 0) for entry in told) == 2
        assert sum(entry.get("delivered", 0) for entry in told) == 1

    run(scenario)


def test_writes_of_a_slot_keep_to_its_share_of_the_budget() -> None:
    async def scenario() -> None:
        bench = Bench(*(message("lane-0", reading("pump", at)) for at in range(20)))
        bench.settings["MAX_WRITES_PER_SECOND"] = "1"
        running = bench.start()
        await until(lambda: bool(bench.transport.accepted))
        renewals = bench.lease.calls.count("renew")
        await until(lambda: bench.lease.calls.count("renew") > renewals + 2)
        assert len(bench.transport.accepted) < 10
        bench.lease.slot = bench.lease.slot._replace(state="stopping")
        bench.connector._life.stop.abandon()
        await running

    run(scenario)
