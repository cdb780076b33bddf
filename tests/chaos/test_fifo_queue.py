"""The stand-in's FIFO queue does what the SQS developer guide says of one."""

from __future__ import annotations

import pytest

from tests.chaos.fifo_queue import FifoQueue, StaleReceipt


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> FifoQueue:
    made = FifoQueue(clock)
    for body, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        made.send(body, group)
    return made


def _bodies(queue: FifoQueue, most: int = 10, attempt: str = "") -> list[str]:
    return [message.body for message in queue.receive(most, 30, attempt)]


def test_messages_of_a_group_come_in_order_and_none_while_one_is_in_flight(queue: FifoQueue) -> None:
    assert _bodies(queue, most=1) == ["a1"]
    assert _bodies(queue) == ["b1"]
    assert _bodies(queue) == []


def test_a_deleted_message_lets_the_next_of_its_group_come(queue: FifoQueue) -> None:
    (first,) = queue.receive(1, 30)
    queue.delete(first.receipt)
    assert _bodies(queue) == ["a2", "b1"]


def test_equal_bodies_within_five_minutes_are_one_message_even_after_its_deletion(
    queue: FifoQueue, clock: Clock
) -> None:
    (first,) = queue.receive(1, 30)
    queue.delete(first.receipt)
    assert queue.send("a1", "a")[1] is False
    clock.now += 301
    assert queue.send("a1", "a")[1] is True


def test_a_receipt_counts_only_until_the_visibility_timeout_ends(queue: FifoQueue, clock: Clock) -> None:
    (first,) = queue.receive(1, 30)
    clock.now += 31
    with pytest.raises(StaleReceipt):
        queue.delete(first.receipt)
    with pytest.raises(StaleReceipt):
        queue.change_visibility(first.receipt, 30)
    assert _bodies(queue) == ["a1", "a2", "b1"]


def test_a_receipt_is_replaced_by_the_next_receive(queue: FifoQueue, clock: Clock) -> None:
    (first,) = queue.receive(1, 30)
    old = first.receipt
    clock.now += 31
    queue.receive(1, 30)
    with pytest.raises(StaleReceipt):
        queue.delete(old)


def test_deleting_twice_is_no_error(queue: FifoQueue) -> None:
    (first,) = queue.receive(1, 30)
    queue.delete(first.receipt)
    queue.delete(first.receipt)


def test_a_receive_that_is_repeated_gets_the_same_messages(queue: FifoQueue) -> None:
    assert _bodies(queue, 2, "attempt") == ["a1", "a2"]
    assert _bodies(queue, 2, "attempt") == ["a1", "a2"]
    assert _bodies(queue, 2, "another") == ["b1"]


def test_a_message_whose_own_timeout_ended_comes_again_before_later_ones_end(
    queue: FifoQueue, clock: Clock
) -> None:
    first, second, _ = queue.receive(10, 30)
    queue.change_visibility(second.receipt, 100)
    clock.now += 31
    assert _bodies(queue) == ["a1", "b1"]
    assert first.receives == 2


def test_visibility_of_everything_in_flight_can_be_ended(queue: FifoQueue) -> None:
    queue.receive(10, 30)
    assert queue.depth() == (0, 3)
    assert queue.expire() == 3
    assert queue.depth() == (3, 0)
