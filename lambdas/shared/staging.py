"""Staging: what the steps of one discovery run hand to each other, as JSON objects in S3.

State machines pass counts only (256 KiB a state); everything as large as the fleet goes through here,
under the run's name. Forms of the objects: docs/reference/data-formats.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from lambdas.shared.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3 import S3Client

__all__ = ["Staging", "StagingFault"]

_VERSION = 1
_THREADS = 8


class StagingFault(ConnectorError):  # noqa: N818 - names the thing that is wrong
    """A staged object is missing, or of a version this release doesn't read."""


class Staging:
    """The objects of one run.

    Args:
        client: boto3 S3 client.
        bucket: name of the staging bucket.
        run: execution name of the run.
    """

    def __init__(self, client: S3Client, bucket: str, run: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{run}/"

    def put(self, name: str, document: Mapping[str, Any]) -> str:
        """Write an object, whole and at once; its key."""
        key = f"{self._prefix}{name}.json"
        body = orjson.dumps({"v": _VERSION, **document})
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        return key

    def get(self, name: str) -> dict[str, Any]:
        """Read an object.

        Raises:
            StagingFault: it isn't there, or is of another version.
        """
        document = self.find(name)
        if document is None:
            raise StagingFault(f"s3://{self._bucket}/{self._prefix}{name}.json is missing; start a new run")
        return document

    def find(self, name: str) -> dict[str, Any] | None:
        """Read an object; None when it isn't there.

        Raises:
            StagingFault: it is of another version.
        """
        key = f"{self._prefix}{name}.json"
        try:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None
        document: dict[str, Any] = orjson.loads(body)
        if document.get("v") != _VERSION:
            raise StagingFault(
                f"s3://{self._bucket}/{key} is of version {document.get('v')!r}; start a new run"
            )
        return document

    def copy(self, name: str, folder: str) -> bool:
        """Put an object, as it is, into another folder of the bucket; false when it isn't there."""
        source = f"{self._prefix}{name}.json"
        try:
            self._client.copy_object(
                Bucket=self._bucket,
                Key=f"{folder}/{name}.json",
                CopySource={"Bucket": self._bucket, "Key": source},
            )
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in {"NoSuchKey", "404"}:
                raise
            return False
        return True

    def all(self, kind: str) -> Iterator[dict[str, Any]]:
        """All objects `{kind}-{packet}`, each whole, in no order that means anything."""
        names = self._names(f"{kind}-")
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(self.get, names)

    def _names(self, start: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + start
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [key[len(self._prefix) :].removesuffix(".json") for key in keys]
