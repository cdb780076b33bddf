"""What the watch function asks of the slots' queues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lambdas.shared.chunks import chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient

    class CloudWatch(Protocol):
        """What is needed of boto3's CloudWatch client."""

        def get_metric_data(self, **request: Any) -> Any:
            """Values of metrics."""


__all__ = ["Depth", "delete_queue", "depth", "oldest_seconds"]

#: Queries of one GetMetricData call.
_QUERIES = 500
#: SQS publishes its metrics once a minute, some minutes late (Amazon SQS developer guide).
_LOOK_BACK = timedelta(minutes=10)
_PERIOD_SECONDS = 60


class Depth(NamedTuple):
    """Messages of a queue.

    Attributes:
        waiting: visible ones.
        all: also those that are received or delayed.
        exists: whether the queue does.
    """

    waiting: int
    all: int
    exists: bool = True


def depth(sqs: SQSClient, url: str) -> Depth:
    """Messages of a queue; approximate, as SQS has it."""
    try:
        found = sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )["Attributes"]
    except sqs.exceptions.QueueDoesNotExist:
        return Depth(0, 0, exists=False)
    return Depth(int(found["ApproximateNumberOfMessages"]), sum(map(int, found.values())))


def delete_queue(sqs: SQSClient, url: str) -> None:
    """Delete a queue, if it is there."""
    try:
        sqs.delete_queue(QueueUrl=url)
    except sqs.exceptions.QueueDoesNotExist:
        return


def oldest_seconds(cloudwatch: CloudWatch, queues: Sequence[str]) -> int:
    """Age of the oldest message in any of these queues, by CloudWatch's newest figures; 0 without any.

    Every queue asked for is billed: ask for those only in which messages wait.

    Args:
        cloudwatch: boto3 CloudWatch client.
        queues: their names.
    """
    end = datetime.now(UTC)
    newest: list[float] = []
    for part in chunks(queues, _QUERIES):
        queries = [_age(index, queue) for index, queue in enumerate(part)]
        # Ten values of each query: far from a second page.
        answer = cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=end - _LOOK_BACK, EndTime=end, ScanBy="TimestampDescending"
        )
        newest += [result["Values"][0] for result in answer["MetricDataResults"] if result["Values"]]
    return int(max(newest, default=0))


def _age(index: int, queue: str) -> Any:
    return {
        "Id": f"q{index}",
        "MetricStat": {
            "Metric": {
                "Namespace": "AWS/SQS",
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": queue}],
            },
            "Period": _PERIOD_SECONDS,
            "Stat": "Maximum",
        },
    }
