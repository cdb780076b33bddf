"""The slot's queue: nothing hidden by accident, nothing deleted twice, nothing waited for in vain."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lambdas.connector.slot_queue import Message, SlotQueue, VisibilityLost
from lambdas.connector.stop import Stop, StopReason
from tests.unit.connector.fakes import FakeSqs, message, reading, refused

if TYPE_CHECKING:
    from collections.abc import Coroutine


def queue_of(sqs: FakeSqs, *, visibility: int = 60, stop: Stop | None = None) -> SlotQueue:
    return SlotQueue(sqs, "https://q", visibility=visibility, stop=stop or Stop())  # type: ignore[arg-type]


def lane(name: str, count: int) -> list[Message]:
    return [message(name, reading(f"{name}-thing", at)) for at in range(count)]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_failed_receive_is_repeated_with_its_attempt_id_and_the_next_has_another() -> None:
    async def scenario() -> None:
        sqs = FakeSqs(*lane("lane-0", 2))
        sqs.failing["receive"] = [refused("InternalError"), ReadTimeoutError(endpoint_url="https://q")]
        queue = queue_of(sqs)
        messages = await queue.receive(0)
        await queue.receive(0)
        assert [entry.lane for entry in messages] == ["lane-0", "lane-0"]
        attempts = [call["ReceiveRequestAttemptId"] for call in sqs.of("receive")]
        assert attempts[0] == attempts[1] == attempts[2] != attempts[3]

    run(scenario())


def test_received_messages_are_hidden_for_the_visibility_timeout_and_name_their_lane() -> None:
    async def scenario() -> None:
        sqs = FakeSqs(*lane("lane-7", 1))
        (received,) = await queue_of(sqs, visibility=42).receive(3)
        (call,) = sqs.of("receive")
        assert (call["VisibilityTimeout"], call["WaitTimeSeconds"]) == (42, 3)
        assert call["AttributeNames"] == ["MessageGroupId", "SentTimestamp", "ApproximateReceiveCount"]
        assert received == message("lane-7", reading("lane-7-thing", 0))

    run(scenario())


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
def test_a_queue_that_is_not_there_is_an_error_at_once(code: str) -> None:
    async def scenario() -> None:
        sqs = FakeSqs()
        sqs.failing["receive"] = [refused(code)]
        with pytest.raises(ClientError):
            await queue_of(sqs).receive(0)

    run(scenario())


def test_receiving_gives_up_when_told_to_stop() -> None:
    async def scenario() -> None:
        sqs, stop = FakeSqs(), Stop()
        sqs.failing["receive"] = [refused("InternalError")] * 1000
        stop.ask(StopReason.END_OF_LIFE)
        assert await queue_of(sqs, stop=stop).receive(0) == []
        assert len(sqs.of("receive")) == 1

    run(scenario())


@pytest.mark.parametrize("refusals", [0, 1, 10])
def test_a_lane_is_kept_hidden_in_one_call_all_or_none(refusals: int) -> None:
    async def scenario() -> None:
        sqs = FakeSqs()
        sqs.refusing["extend"] = refusals
        messages = lane("lane-0", 10)
        if refusals:
            with pytest.raises(VisibilityLost):
                await queue_of(sqs).extend(messages)
        else:
            await queue_of(sqs).extend(messages)
        (call,) = sqs.of("extend")
        assert [entry["ReceiptHandle"] for entry in call["Entries"]] == [entry.receipt for entry in messages]
        assert {entry["VisibilityTimeout"] for entry in call["Entries"]} == {60}

    run(scenario())


def test_a_failed_extension_means_that_the_lane_is_lost() -> None:
    async def scenario() -> None:
        sqs = FakeSqs()
        sqs.failing["extend"] = [refused("InternalError")]
        with pytest.raises(VisibilityLost):
            await queue_of(sqs).extend(lane("lane-0", 1))

    run(scenario())


def test_an_extension_that_is_answered_too_late_counts_as_lost() -> None:
    answered = threading.Event()

    class Late(FakeSqs):
        def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
            answered.wait(10)
            return {}

    async def scenario() -> None:
        queue = queue_of(Late())
        queue.visibility = 0  # what is left of it when the call begins
        try:
            with pytest.raises(VisibilityLost):
                await queue.extend(lane("lane-0", 1))
        finally:
            answered.set()

    run(scenario())


def test_released_messages_can_be_received_again_at_once() -> None:
    async def scenario() -> None:
        sqs = FakeSqs(*lane("lane-0", 3))
        queue = queue_of(sqs)
        messages = await queue.receive(0)
        await queue.release(messages)
        assert {entry["VisibilityTimeout"] for call in sqs.of("extend") for entry in call["Entries"]} == {0}
        sqs.failing["extend"] = [refused("InternalError")]
        await queue.release(messages)  # they come back later by themselves: no error

    run(scenario())


def test_deletes_of_several_lanes_share_calls_of_ten() -> None:
    async def scenario() -> None:
        lanes = [lane(f"lane-{index}", 3) for index in range(8)]
        sqs = FakeSqs()
        sqs.hidden = {entry.receipt: entry for messages in lanes for entry in messages}
        queue = queue_of(sqs)
        assert await asyncio.gather(*(queue.delete(messages) for messages in lanes)) == [0] * 8
        assert len(sqs.deleted) == len(set(sqs.deleted)) == 24
        assert len(sqs.of("delete")) == 3
        assert all(len(call["Entries"]) <= 10 for call in sqs.of("delete"))

    run(scenario())


def test_what_could_not_be_deleted_is_tried_again_alone() -> None:
    async def scenario() -> None:
        messages = lane("lane-0", 4)
        sqs = FakeSqs()
        sqs.hidden = {entry.receipt: entry for entry in messages}
        sqs.refusing["delete"] = 1
        assert await queue_of(sqs).delete(messages) == 0
        assert [len(call["Entries"]) for call in sqs.of("delete")] == [4, 1]

    run(scenario())


def test_what_can_not_be_deleted_is_counted_for_its_own_lane() -> None:
    async def scenario() -> None:
        bad, good = lane("lane-0", 2), lane("lane-1", 3)
        sqs = FakeSqs()
        sqs.hidden = {entry.receipt: entry for entry in (*bad, *good)}
        sqs.stuck = {entry.receipt for entry in bad}
        queue = queue_of(sqs)
        assert [*await asyncio.gather(queue.delete(bad), queue.delete(good))] == [2, 0]

    run(scenario())


def test_a_delete_always_ends_whatever_breaks() -> None:
    async def scenario() -> None:
        sqs = FakeSqs()
        sqs.failing["delete"] = [refused("InternalError")] * 3
        assert await queue_of(sqs).delete(lane("lane-0", 2)) == 2
        sqs.failing["delete"] = [KeyError("no answer anybody foresaw")]
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        assert await queue_of(sqs).delete(lane("lane-0", 2)) == 2

    run(scenario())
