"""Whatever the stream refuses, nothing overtakes its own, nothing is dropped, and nothing goes too fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.command import OperatorError
from ops.returning import Returning, StreamRecord
from ops.stream_writer import Pending, StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_kinesis import KinesisClient


class FakeStream:
    """A stream that refuses what it is told to.

    Args:
        refuses: by the number of the call and the position in it.
    """

    def __init__(self, refuses: Callable[[int, int], bool] = lambda _call, _position: False) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.calls: list[int] = []
        self._refuses = refuses

    def put_records(self, *, StreamName: str, Records: Sequence[Any]) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """As boto3's."""
        assert StreamName == "demo-ingest"
        assert len(Records) <= 500
        assert sum(len(entry["Data"]) + len(entry["PartitionKey"].encode()) for entry in Records) <= 5 * 2**20
        answers: list[dict[str, str]] = []
        for position, entry in enumerate(Records):
            if self._refuses(len(self.calls), position):
                code = "ProvisionedThroughputExceededException"
                answers.append({"ErrorCode": code, "ErrorMessage": "Rate exceeded"})
            else:
                self.taken.append((entry["PartitionKey"], entry["Data"]))
                answers.append({"SequenceNumber": str(len(self.taken)), "ShardId": "shardId-000000000000"})
        self.calls.append(len(Records))
        return {"FailedRecordCount": sum("ErrorCode" in answer for answer in answers), "Records": answers}


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """As time.sleep."""
        self.now += seconds


def writer(stream: FakeStream, clock: Clock | None = None, per_second: float = 1e9) -> StreamWriter:
    clock = clock or Clock()
    client = cast("KinesisClient", stream)
    return StreamWriter(client, "demo-ingest", per_second, sleep=clock.sleep, clock=lambda: clock.now)


def items(*keys: str) -> list[Returning]:
    """A message for each text, a record for each of its letters."""
    numbers = iter(range(10**6))
    return [
        Returning(str(number), [StreamRecord(key, str(next(numbers)).encode()) for key in letters])
        for number, letters in enumerate(keys)
    ]


@given(
    keys=st.lists(st.text("abcd", min_size=1, max_size=6), max_size=30),
    refused=st.sets(st.tuples(st.integers(0, 15), st.integers(0, 3))),
)
def test_each_record_goes_once_and_those_of_a_key_in_their_order(
    keys: list[str], refused: set[tuple[int, int]]
) -> None:
    stream = FakeStream(lambda call, position: (call, position) in refused)
    given_items = items(*keys)
    done: list[int] = []
    for some in writer(stream).put(given_items):
        done += some
        taken = set(stream.taken)
        assert all(taken >= set(given_items[position].records) for position in some), "told too early"
    expected = [tuple(record) for item in given_items for record in item.records]
    assert sorted(stream.taken) == sorted(expected)
    for key in "abcd":
        of_key = [entry for entry in expected if entry[0] == key]
        assert [entry for entry in stream.taken if entry[0] == key] == of_key
    assert sorted(done) == list(range(len(given_items)))


def test_a_call_has_one_record_of_a_key_and_the_oldest_of_all_keys() -> None:
    pending = Pending(items("a", "a", "b", "c", "b"))
    call = pending.next_call()
    assert [(entry.record.key, entry.record.data) for entry in call] == [
        ("a", b"0"),
        ("b", b"2"),
        ("c", b"3"),
    ]
    assert pending.settle(call, [False, True, True]) == [2, 3]
    call = pending.next_call()
    assert [(entry.record.key, entry.record.data) for entry in call] == [("a", b"0"), ("b", b"4")]
    pending.settle(call, [True, True])
    assert [entry.record.data for entry in pending.next_call()] == [b"1"]


def test_a_call_keeps_to_the_bounds_of_kinesis() -> None:
    many = [Returning(str(n), [StreamRecord(f"k{n}", b"x")]) for n in range(1100)]
    large = [Returning(f"l{n}", [StreamRecord(f"l{n}", bytes(10**6))]) for n in range(7)]
    stream = FakeStream()
    assert sum(len(done) for done in writer(stream).put(many + large)) == 1107
    assert stream.calls[:2] == [500, 500]
    assert len(stream.taken) == 1107


def test_no_more_goes_in_a_second_than_was_asked_for() -> None:
    clock = Clock()
    small = [Returning(str(n), [StreamRecord("k", b"x")]) for n in range(100)]
    list(writer(FakeStream(), clock, per_second=50).put(small))
    assert clock.now == pytest.approx(2)
    clock = Clock()
    list(
        writer(FakeStream(), clock, per_second=50).put([Returning("l", [StreamRecord("k", bytes(102_000))])])
    )
    assert clock.now == pytest.approx(2)


def test_a_stream_that_takes_nothing_is_given_up_after_a_minute_with_what_to_do() -> None:
    clock, stream = Clock(), FakeStream(lambda _call, _position: True)
    with pytest.raises(
        OperatorError, match=r"demo-ingest took no record in 20 tries: .*Rate exceeded.*--per-second"
    ):
        list(writer(stream, clock).put(items("a", "b")))
    assert 60 < clock.now < 120
    assert stream.taken == []


def test_a_stream_that_takes_some_is_not_given_up_but_gets_time() -> None:
    clock = Clock()
    stream = FakeStream(lambda call, position: call % 15 != 0 or position > 0)
    assert sum(len(done) for done in writer(stream, clock).put(items("a", "b", "c", "d"))) == 4
    assert clock.now > 30
