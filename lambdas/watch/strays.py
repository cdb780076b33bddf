"""What never went through the stream: it waits for a person, `python -m ops reingest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.errors import ConnectorError
from lambdas.watch.queues import depth

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

__all__ = ["MOST_COUNTED", "StrayPlaces", "StraysUnknown"]

#: Objects of one listing; where there are more, so many are told.
MOST_COUNTED = 1000


class StraysUnknown(ConnectorError):  # noqa: N818 - says what could not be done
    """What never went through the stream can't be counted."""


class StrayPlaces:
    """Where it waits.

    Args:
        sqs: boto3 SQS client.
        s3: boto3 S3 client.
        queue_url: queue of messages that a topic rule couldn't put into the stream.
        bucket: bucket of batches that the router never got through.
    """

    def __init__(self, sqs: SQSClient, s3: S3Client, queue_url: str, bucket: str) -> None:
        self._sqs = sqs
        self._s3 = s3
        self._queue_url = queue_url
        self._bucket = bucket

    def ingest_errors(self) -> int:
        """Messages in the queue, also those that somebody works on; approximate, as SQS has it.

        Raises:
            StraysUnknown: there is no such queue.
        """
        found = depth(self._sqs, self._queue_url)
        if not found.exists:
            raise StraysUnknown(f"there is no queue {self._queue_url}; run `terraform apply`")
        return found.all

    def failed_batches(self) -> int:
        """Objects in the bucket, up to `MOST_COUNTED`."""
        return self._s3.list_objects_v2(Bucket=self._bucket, MaxKeys=MOST_COUNTED)["KeyCount"]
