"""A queue that hands messages out in any order, and twice: each goes on once, oldest first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ops.rule_error_queue import RuleErrorQueue
from tests.unit.ops.test_rule_errors import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from mypy_boto3_sqs import SQSClient

    from ops.topic_rules import TopicRules

URL = "https://sqs.us-east-1.amazonaws.com/1/demo-ingest-errors"


class FakeQueue:
    """SQS as it may be.

    Args:
        deliveries: numbers of the messages, in the order in which they are handed out; number n was sent
            at n, and those below 0 can't be read.
        undeletable: numbers of messages that can't be deleted.
    """

    def __init__(self, deliveries: Sequence[int], undeletable: Sequence[int] = ()) -> None:
        self._deliveries = list(deliveries)
        self._undeletable = undeletable
        self.deleted: list[str] = []
        self.shown: list[str] = []

    def receive_message(self, *, MaxNumberOfMessages: int, **request: Any) -> dict[str, Any]:  # noqa: N803 - AWS's
        """As boto3's."""
        assert 900 <= request["VisibilityTimeout"] <= 43_200
        part = self._deliveries[:MaxNumberOfMessages]
        del self._deliveries[:MaxNumberOfMessages]
        return {
            "Messages": [
                {
                    "MessageId": str(number),
                    "ReceiptHandle": f"{number}/{len(self._deliveries)}",
                    "Attributes": {"SentTimestamp": str(number)},
                    "Body": json.dumps(report(clientId=f"device-{number % 3}")) if number >= 0 else "{",
                }
                for number in part
            ]
        }

    def delete_message_batch(self, *, Entries: Sequence[Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - AWS's
        """As boto3's."""
        assert 1 <= len(Entries) <= 10
        failed = []
        for entry in Entries:
            number = entry["ReceiptHandle"].partition("/")[0]
            if int(number) in self._undeletable:
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                self.deleted.append(number)
        return {"Failed": failed} if failed else {}

    def change_message_visibility_batch(self, *, Entries: Sequence[Any], **_: Any) -> None:  # noqa: N803 - AWS's
        """As boto3's."""
        assert 1 <= len(Entries) <= 10
        assert {entry["VisibilityTimeout"] for entry in Entries} == {0}
        self.shown += [entry["ReceiptHandle"].partition("/")[0] for entry in Entries]


class OneRule:
    """A rule that names Things by the client."""

    def expression(self, _rule: str) -> str:
        """As `TopicRules`."""
        return "clientid()"


def opened(fake: FakeQueue, per_second: float = 250) -> RuleErrorQueue:
    return RuleErrorQueue(cast("SQSClient", fake), URL, cast("TopicRules", OneRule()), per_second)


def work(fake: FakeQueue) -> tuple[list[list[int]], RuleErrorQueue]:
    """Take all of it; the parts, and the queue as it is left."""
    parts = []
    with opened(fake) as queue:
        for part in queue.parts():
            parts.append([int(item.name) for item in part])
            assert [json.loads(item.records[0].data)["t"] for item in part] == parts[-1]
            queue.delete([item.name for item in part])
    return parts, queue


@given(deliveries=st.lists(st.integers(-5, 60), max_size=80))
def test_each_message_goes_once_oldest_first_and_what_is_unreadable_is_shown_again(
    deliveries: list[int],
) -> None:
    fake = FakeQueue(deliveries)
    parts, queue = work(fake)
    readable = sorted({number for number in deliveries if number >= 0})
    unreadable = sorted({str(number) for number in deliveries if number < 0})
    assert sorted(number for part in parts for number in part) == readable
    assert all(part == sorted(part) for part in parts)
    assert {int(number) for number in fake.deleted} == set(readable)
    assert sorted(fake.shown) == unreadable
    assert sorted(name for names in queue.left.values() for name in names) == unreadable


def test_a_round_has_a_bound_and_each_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.rule_error_queue._ROUND_MESSAGES", 20)
    parts, _ = work(FakeQueue([*range(25, 0, -1)]))
    assert parts == [[*range(6, 26)], [*range(1, 6)]]


def test_a_message_that_comes_again_after_it_was_put_back_is_only_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ops.rule_error_queue._ROUND_MESSAGES", 10)
    fake = FakeQueue([*range(10), *range(5), 10])
    parts, _ = work(fake)
    assert parts == [[*range(10)], [10]]
    assert fake.deleted == [str(number) for number in (*range(10), *range(5), 10)]


def test_what_sqs_does_not_delete_is_told_and_shown_again() -> None:
    fake = FakeQueue([3, 4, 5], undeletable=[4])
    parts, queue = work(fake)
    assert parts == [[3, 4, 5]]
    ((why, names),) = queue.left.items()
    assert "SQS did not delete it" in why
    assert names == fake.shown == ["4"]


def test_no_more_is_held_than_sqs_allows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.rule_error_queue._MOST_HELD", 20)
    fake = FakeQueue([*range(-40, 0)])
    _, queue = work(fake)
    assert sum(map(len, queue.left.values())) == len(fake.shown) == 20
    assert "only 20 messages were looked at" in capsys.readouterr().err
