"""Every part of the overlay, in the order in which it is put on."""

from __future__ import annotations

from . import (
    cloudwatch_alarms,
    described_fields,
    ec2_prefix_lists,
    iam_names,
    iam_tls,
    iot_connections,
    iot_rules,
    kinesis_mapping,
    kinesis_shards,
    lambda_async,
    lambda_pool,
    patching,
    sqs_limits,
    states_errors,
    states_executions,
    states_jsonata,
    states_tokens,
)

PARTS = (
    lambda_pool,
    lambda_async,
    kinesis_mapping,
    kinesis_shards,
    states_executions,
    states_errors,
    states_tokens,
    states_jsonata,
    iot_rules,
    iot_connections,
    sqs_limits,
    cloudwatch_alarms,
    described_fields,
    iam_names,
    iam_tls,
    ec2_prefix_lists,
)


def install() -> None:
    """Put the overlay on.

    Raises:
        patching.OverlayError: The installed emulator isn't the pinned one.
    """
    patching.check_version()
    for part in PARTS:
        part.install()
