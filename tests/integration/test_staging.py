"""Staging: what one step writes, a later step of the same run reads, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest

from lambdas.shared.staging import Staging, StagingFault
from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "demo-staging"


@pytest.fixture
def staging() -> Iterator[Staging]:
    with aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield Staging(boto3.client("s3"), BUCKET, "run-1")


def test_an_object_is_read_as_it_was_written(staging: Staging) -> None:
    assert staging.put("list-0", {"things": ["Ünit 1"]}) == "run-1/list-0.json"
    assert staging.get("list-0") == {"v": 1, "things": ["Ünit 1"]}


def test_all_packets_of_a_kind_are_read_and_no_others(staging: Staging) -> None:
    for number in range(12):
        staging.put(f"list-{number}", {"things": [str(number)]})
    staging.put("definitions-0", {"things": {}})
    Staging(boto3.client("s3"), BUCKET, "run-10").put("list-0", {"things": ["of another run"]})
    found = [document["things"][0] for document in staging.all("list")]
    assert sorted(found, key=int) == [str(number) for number in range(12)]


def test_an_object_that_is_missing_is_named(staging: Staging) -> None:
    assert staging.find("plan") is None
    with pytest.raises(StagingFault, match=r"s3://demo-staging/run-1/plan\.json is missing"):
        staging.get("plan")


def test_an_object_of_another_version_is_refused(staging: Staging) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key="run-1/list-0.json", Body=b'{"v":2}')
    with pytest.raises(StagingFault, match="version 2"):
        staging.get("list-0")
