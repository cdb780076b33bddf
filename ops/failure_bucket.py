"""The bucket of batches that the router was given in vain until they were too old."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Self

from ops.failed_batches import moment, read_failed_batch
from ops.returning import Returning, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_s3 import S3Client

    from ops.failed_batches import FailedBatch

__all__ = ["FailureBucket"]


class FailureBucket:
    """Its batches, in the order in which they were given up.

    Args:
        client: boto3 S3 client.
        bucket: its name.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self.place, self.unit = bucket, "objects"
        self.left: dict[str, list[str]] = {}
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def parts(self) -> Iterator[list[Returning]]:
        """See `Source.parts`: what was given up in one second, by its place in the shard."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.place)
        keys = sorted(
            (moment(entry["Key"], entry["LastModified"]), entry["Key"])
            for page in pages
            for entry in page.get("Contents", [])
        )
        for _, group in itertools.groupby(keys, key=lambda entry: entry[0]):
            batches = sorted(
                (batch.first, Returning(key, batch.records))
                for _, key in group
                if (batch := self._read(key)) is not None
            )
            if batches:
                yield [item for _, item in batches]

    def delete(self, names: Sequence[str]) -> None:
        """See `Source.delete`."""
        for name in names:
            self._client.delete_object(Bucket=self.place, Key=name)

    def _read(self, key: str) -> FailedBatch | None:
        try:
            body = self._client.get_object(Bucket=self.place, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None  # expired, or another run was faster
        try:
            return read_failed_batch(body)
        except UnreadableError as error:
            self.left.setdefault(str(error), []).append(key)
            return None
