"""How parts of a connector learn that it stops."""

from __future__ import annotations

import asyncio

import pytest

from lambdas.connector.stop import Stop, Stopped, StopReason


def test_the_first_reason_counts() -> None:
    stop = Stop()
    assert not stop.asked
    stop.ask(StopReason.SUCCESSOR_READY)
    stop.ask(StopReason.END_OF_LIFE)
    assert stop.asked
    assert stop.reason is StopReason.SUCCESSOR_READY


def test_only_a_slot_that_ends_or_a_newer_epoch_ends_the_chain() -> None:
    assert {reason for reason in StopReason if reason.ends_the_chain} == {
        StopReason.SLOT_STOPPING,
        StopReason.SUPERSEDED,
    }


def test_asking_ends_the_wait_for_it_but_not_pauses_of_work() -> None:
    async def scenario() -> None:
        stop = Stop()
        assert not await stop.wait_asked(0.001)
        waiting = asyncio.ensure_future(stop.wait_asked(60))
        pausing = asyncio.ensure_future(stop.pause(60))
        await asyncio.sleep(0)
        stop.ask(StopReason.END_OF_LIFE)
        assert await waiting
        stop.check()
        assert not pausing.done()
        stop.abandon()
        with pytest.raises(Stopped):
            await pausing
        with pytest.raises(Stopped):
            stop.check()

    asyncio.run(scenario())


def test_a_lost_lease_gives_up_work_at_once_even_when_stopping_already() -> None:
    stop = Stop()
    stop.ask(StopReason.SUCCESSOR_READY)
    stop.ask(StopReason.LEASE_LOST)
    with pytest.raises(Stopped):
        stop.check()


def test_a_pause_that_nothing_ends_ends_by_itself() -> None:
    asyncio.run(Stop().pause(0.001))
