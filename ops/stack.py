"""One stack as an operator finds it: by name, with AWS credentials and nothing else.

Functions, state machines and the stream have names of a fixed form; tables, queues and settings are read
from the environment of the functions (`lambda:GetFunctionConfiguration`), so neither Terraform nor its
state is needed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from ops.command import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iot import IoTClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["Stack"]


class Stack:
    """Clients and names of one stack's resources.

    Args:
        name: the stack's name prefix, Terraform's `name`.
        region: AWS region; None takes the one of the environment or the profile.
    """

    def __init__(self, name: str, region: str | None = None) -> None:
        self.name = name
        self._session = boto3.Session(region_name=region)
        if self._session.region_name is None:
            raise OperatorError("no AWS region is configured; give --region, or set AWS_REGION")
        self.region = self._session.region_name
        self._functions: dict[str, dict[str, Any]] = {}

    @cached_property
    def functions(self) -> LambdaClient:
        """Lambda."""
        return self._session.client("lambda")

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """DynamoDB."""
        return self._session.client("dynamodb")

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS."""
        return self._session.client("sqs")

    @cached_property
    def states(self) -> SFNClient:
        """Step Functions."""
        return self._session.client("stepfunctions")

    @cached_property
    def objects(self) -> S3Client:
        """S3."""
        return self._session.client("s3")

    @cached_property
    def kinesis(self) -> KinesisClient:
        """Kinesis."""
        return self._session.client("kinesis")

    @cached_property
    def iot(self) -> IoTClient:
        """AWS IoT: topic rules."""
        return self._session.client("iot")

    @cached_property
    def metrics(self) -> Any:
        """CloudWatch."""
        return self._session.client("cloudwatch")

    def environment(self, function: str) -> Mapping[str, str]:
        """Environment variables of a function.

        Args:
            function: its short name: `router`, `connector`, `assigner`, ...

        Raises:
            OperatorError: there is no such function here, so there is no such stack.
        """
        variables: Mapping[str, str] = (
            self._configuration(function).get("Environment", {}).get("Variables", {})
        )
        return variables

    def setting(self, function: str, variable: str) -> str:
        """One environment variable of a function.

        Raises:
            OperatorError: the function has no such setting.
        """
        value = self.environment(function).get(variable)
        if not value:
            raise OperatorError(
                f"the function {self.name}-{function} has no setting {variable}: "
                "this command and the stack are of different releases; run `terraform apply`"
            )
        return value

    def state_machine_arn(self, machine: str) -> str:
        """ARN of a state machine, by its short name: `discovery` or `connector`."""
        _, partition, _, region, account, *_ = self._configuration("connector")["FunctionArn"].split(":")
        return f"arn:{partition}:states:{region}:{account}:stateMachine:{self.name}-{machine}"

    @cached_property
    def control_table(self) -> str:
        """Name of the control table."""
        return self.setting("connector", "CONTROL_TABLE")

    @cached_property
    def held_table(self) -> str:
        """Name of the held table."""
        return self.setting("connector", "HELD_TABLE")

    @property
    def ingest_stream(self) -> str:
        """Name of the stream between the topic rules and the router."""
        return f"{self.name}-ingest"

    @cached_property
    def ingest_errors_url(self) -> str:
        """URL of the queue of messages that a topic rule couldn't put into the stream."""
        return self.setting("watch", "INGEST_ERRORS_QUEUE_URL")

    @cached_property
    def failures_bucket(self) -> str:
        """Name of the bucket of batches that the router never got through."""
        return self.setting("watch", "FAILURES_BUCKET")

    def _configuration(self, function: str) -> dict[str, Any]:
        if function not in self._functions:
            full_name = f"{self.name}-{function}"
            try:
                answer: Any = self.functions.get_function_configuration(FunctionName=full_name)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                raise OperatorError(
                    f"there is no function {full_name} in {self.region}: check --stack (Terraform's `name`), "
                    "--region and the account of your credentials"
                ) from error
            self._functions[function] = answer
        return self._functions[function]
