"""Whatever fails, each lane arrives as an unbroken beginning of what was to be sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.pack import Chunk
from lambdas.shared.parcel import MAX_BYTES
from lambdas.shared.send import Sender, Sent
from tests.unit.router.fakes import FakeSqs, client_error, queue_url

if TYPE_CHECKING:
    import random

    from mypy_boto3_sqs import SQSClient

URLS = {slot: queue_url(slot) for slot in "123"}


def send(sqs: FakeSqs, chunks: list[Chunk], calls: int = 10**6) -> Sent:
    left = iter(range(calls))
    lock = threading.Lock()

    def may_go_on() -> bool:
        with lock:
            return next(left, None) is not None

    return Sender(cast("SQSClient", sqs)).send(chunks, URLS, may_go_on)


def chunk(position: int, lane: int = 0, slot: str = "1", size: int = 10) -> Chunk:
    return Chunk(slot, lane, f"{position} ".ljust(size).encode(), position)


def sent_positions(sqs: FakeSqs, slot: str, lane: int) -> list[int]:
    return [int(body.split()[0]) for body in sqs.bodies(queue_url(slot), f"lane-{lane}")]


def test_lanes_of_a_slot_go_in_one_call() -> None:
    sqs = FakeSqs()
    assert send(sqs, [chunk(p, lane=p) for p in range(8)]) == Sent(None, 8, queue_missing=False, cause="")
    assert sqs.calls == 1
    assert [group for _, group, _ in sqs.messages] == [f"lane-{lane}" for lane in range(8)]


def test_chunks_of_a_lane_go_one_call_after_another() -> None:
    sqs = FakeSqs()
    send(sqs, [chunk(p) for p in range(5)])
    assert sqs.calls == 5
    assert sent_positions(sqs, "1", 0) == [0, 1, 2, 3, 4]


def test_a_call_has_at_most_ten_messages() -> None:
    sqs = FakeSqs()  # checks it
    assert send(sqs, [chunk(p, lane=p) for p in range(23)]).messages == 23
    assert sqs.calls == 3


def test_a_call_has_at_most_the_bytes_of_one_message() -> None:
    sqs = FakeSqs()  # checks it
    assert send(sqs, [chunk(p, lane=p, size=MAX_BYTES // 2) for p in range(5)]).messages == 5
    assert sqs.calls == 3


def test_a_failed_message_stops_its_lane_and_no_other() -> None:
    sqs = FakeSqs(lambda _queue, entry: "InternalError" if entry["MessageBody"].startswith("2 ") else None)
    result = send(sqs, [chunk(p, lane=p % 2) for p in range(8)])
    assert sent_positions(sqs, "1", 0) == [0]
    assert sent_positions(sqs, "1", 1) == [1, 3, 5, 7]
    assert (result.unsent, result.messages) == (2, 5)
    assert "InternalError" in result.cause


def test_a_message_the_answer_does_not_name_counts_as_unsent() -> None:
    class Forgetful(FakeSqs):
        def send_message_batch(self, **call: Any) -> dict[str, Any]:  # type: ignore[override]
            """Name no message."""
            super().send_message_batch(**call)
            return {}

    assert send(Forgetful(), [chunk(4), chunk(5)]).unsent == 4


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
def test_a_missing_queue_is_told_and_other_slots_go_on(code: str) -> None:
    sqs = FakeSqs(lambda queue, _entry: client_error(code) if queue == queue_url("2") else None)
    result = send(sqs, [chunk(0, slot="1"), chunk(1, slot="2"), chunk(2, slot="1"), chunk(3, slot="2")])
    assert sent_positions(sqs, "1", 0) == [0, 2]
    assert (result.unsent, result.queue_missing) == (1, True)


@pytest.mark.parametrize(
    "error", [client_error("RequestThrottled"), ReadTimeoutError(endpoint_url="https://sqs")]
)
def test_a_call_without_an_answer_stops_the_slot(error: Exception) -> None:
    sqs = FakeSqs(lambda _queue, entry: error if entry["MessageBody"].startswith("1 ") else None)
    result = send(sqs, [chunk(0), chunk(1), chunk(2), chunk(3, slot="2")])
    assert sent_positions(sqs, "1", 0) == [0]
    assert sent_positions(sqs, "2", 0) == [3]
    assert (result.unsent, result.queue_missing) == (1, False)


def test_no_call_begins_once_the_time_is_up() -> None:
    sqs = FakeSqs()
    result = send(sqs, [chunk(p) for p in range(5)], calls=2)
    assert sqs.calls == 2
    assert result.unsent == 2
    assert "time" in result.cause


def test_nothing_to_send_makes_no_call() -> None:
    sqs = FakeSqs()
    assert send(sqs, []) == Sent(None, 0, queue_missing=False, cause="")
    assert sqs.calls == 0


plans = st.lists(
    st.tuples(st.sampled_from("123"), st.integers(0, 11), st.sampled_from([10, 60_000, 200_000, MAX_BYTES])),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(plans, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.2, 0.7]), st.integers(0, 60))
def test_each_lane_arrives_as_a_beginning_and_the_earliest_unsent_record_is_told(
    drawn: list[tuple[str, int, int]], dice: random.Random, failing: float, calls: int
) -> None:
    lock = threading.Lock()

    def verdict(_queue: str, _entry: dict[str, Any]) -> str | Exception | None:
        with lock:
            if dice.random() >= failing:
                return None
            return client_error("ServiceUnavailable") if dice.random() < 0.1 else "InternalError"

    sqs = FakeSqs(verdict)
    chunks = [chunk(p, lane, slot, size) for p, (slot, lane, size) in enumerate(drawn)]
    result = send(sqs, chunks, calls)
    lanes: dict[tuple[str, int], list[int]] = {}
    for entry in chunks:
        lanes.setdefault((entry.slot, entry.lane), []).append(entry.first)
    unsent = []
    for (slot, lane), wanted in lanes.items():
        arrived = sent_positions(sqs, slot, lane)
        assert arrived == wanted[: len(arrived)]
        unsent += wanted[len(arrived) :]
    assert result.unsent == min(unsent, default=None)
    assert result.messages == len(chunks) - len(unsent)
    assert bool(result.cause) == bool(unsent)
