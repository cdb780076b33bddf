"""The watch function: called every minute, does what is due. Formats: docs/reference/data-formats.md."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from lambdas.shared.control_table import ControlTable
from lambdas.shared.publishing import Publishing
from lambdas.shared.run_lock import RunLock
from lambdas.shared.settings import WatchSettings
from lambdas.shared.wanted import WantedRuns
from lambdas.watch.retire import Times
from lambdas.watch.runs import RunStarter
from lambdas.watch.strays import StrayPlaces
from lambdas.watch.table import WatchTable
from lambdas.watch.tick import Parts, Watch

__all__ = ["handle"]


@cache
def _parts() -> Parts:
    settings = WatchSettings.from_env(os.environ)
    # One call that hangs must leave most of the minute to the others.
    config = Config(
        connect_timeout=3,
        read_timeout=8,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=16,
    )
    table = settings.control_table
    dynamodb = boto3.client("dynamodb", config=config)
    sfn = boto3.client("stepfunctions", config=config)
    sqs = boto3.client("sqs", config=config)
    s3 = boto3.client("s3", config=config)
    wanted = WantedRuns(table, dynamodb)
    lock = RunLock(table, dynamodb)
    return Parts(
        stack=settings.stack,
        control=ControlTable(table, dynamodb),
        table=WatchTable(table, dynamodb),
        wanted=wanted,
        publishing=Publishing(table, dynamodb),
        runs=RunStarter(sfn, settings.discovery_state_machine_arn, lock, wanted),
        sqs=sqs,
        sfn=sfn,
        cloudwatch=boto3.client("cloudwatch", config=config),
        strays=StrayPlaces(sqs, s3, settings.ingest_errors_queue_url, settings.failures_bucket),
        machine=settings.connector_state_machine_arn,
        times=Times(
            empty=settings.retire_after_seconds * 1000,
            drain=settings.retire_drain_seconds * 1000,
            pause=settings.retire_pause_seconds * 1000,
        ),
        grace=settings.restart_after_seconds * 1000,
    )


def handle(_event: dict[str, Any], _context: object) -> dict[str, int]:
    """Look at the stack once; the figures that were emitted as metrics.

    Raises:
        WatchFailed: some of the work failed, after all was tried.
    """
    return Watch(_parts(), time.time_ns() // 1_000_000).run()
