"""IAM with policies enforced: names of permissions, conditions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sandbox.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    folder: Path = tmp_path_factory.mktemp("enforcing")
    with EmulatorProcess(folder, extra_env={"AUTH": "true"}) as process:
        yield process


def client_of(emulator: EmulatorProcess, service: str, key: str = "test", secret: str = "test") -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=emulator.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


@pytest.mark.parametrize("allowed", [True, False])
def test_a_batch_is_allowed_by_the_permission_of_the_single_call(
    enforcing: EmulatorProcess, *, allowed: bool
) -> None:
    iam, name = client_of(enforcing, "iam"), f"sender-{allowed}"
    iam.create_user(UserName=name)
    action = "sqs:SendMessage" if allowed else "sqs:ReceiveMessage"
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    iam.put_user_policy(
        UserName=name,
        PolicyName="sqs",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    url = client_of(enforcing, "sqs").create_queue(QueueName=f"queue-{allowed}")["QueueUrl"]
    sqs = client_of(enforcing, "sqs", key["AccessKeyId"], key["SecretAccessKey"])
    entries = [{"Id": "1", "MessageBody": "x"}]
    if allowed:
        assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 1
    else:
        with pytest.raises(ClientError, match="AccessDenied"):
            sqs.send_message_batch(QueueUrl=url, Entries=entries)


def test_a_bucket_for_tls_only_takes_what_an_sdk_sends(enforcing: EmulatorProcess) -> None:
    iam, s3 = client_of(enforcing, "iam"), client_of(enforcing, "s3")
    s3.create_bucket(Bucket="tls-only")
    objects = "arn:aws:s3:::tls-only/*"
    plain = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": objects,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(
        Bucket="tls-only", Policy=json.dumps({"Version": "2012-10-17", "Statement": [plain]})
    )
    iam.create_user(UserName="writer")
    statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": objects}
    iam.put_user_policy(
        UserName="writer",
        PolicyName="s3",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName="writer")["AccessKey"]
    client_of(enforcing, "s3", key["AccessKeyId"], key["SecretAccessKey"]).put_object(
        Bucket="tls-only", Key="a", Body=b"1"
    )
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="tls-only")["Contents"]] == ["a"]


@pytest.mark.parametrize("resource", ["client/known-*", "client/*", "thing/*"])
def test_a_connection_is_asked_for_by_a_permission_on_its_client(
    enforcing: EmulatorProcess, resource: str
) -> None:
    iam, name = client_of(enforcing, "iam"), resource.replace("/", "-").replace("*", "any")
    iam.create_user(UserName=name)
    statement = {
        "Effect": "Allow",
        "Action": "iot:GetConnection",
        "Resource": f"arn:aws:iot:us-east-1:000000000000:{resource}",
    }
    iam.put_user_policy(
        UserName=name,
        PolicyName="iot",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    data = client_of(enforcing, "iot-data", key["AccessKeyId"], key["SecretAccessKey"])
    for client in ("known-1", "other/1"):
        allowed = resource == "client/*" or (resource == "client/known-*" and client == "known-1")
        with pytest.raises(ClientError) as caught:
            data.get_connection(clientId=client)
        code = caught.value.response["Error"]["Code"]
        assert code == ("ResourceNotFoundException" if allowed else "ForbiddenException")
