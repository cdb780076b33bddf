"""EventBridge Scheduler: a schedule calls its target with its input."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.sandbox.aws import eventually, unique

if TYPE_CHECKING:
    from tests.sandbox.aws import Aws


def test_a_schedule_calls_its_function_with_its_input(aws: Aws) -> None:
    url, _ = aws.queue()
    name = aws.function(
        "import boto3, json, os\n"
        "def handle(event, context):\n"
        "    boto3.client('sqs').send_message(QueueUrl=os.environ['QUEUE'], MessageBody=json.dumps(event))\n",
        environment={"QUEUE": url},
    )
    arn = aws("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    soon = datetime.now(UTC) + timedelta(seconds=1)
    aws("scheduler").create_schedule(
        Name=unique("schedule"),
        ScheduleExpression=f"at({soon:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": arn,
            "RoleArn": "arn:aws:iam::000000000000:role/any",
            "Input": json.dumps({"look": 1}),
            "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0},
        },
    )
    assert eventually(lambda: aws.messages(url) or None) == [{"look": 1}]
