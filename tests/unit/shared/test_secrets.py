"""A secret is read when needed, once, and never shown."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import boto3
import pytest

from lambdas.shared.secrets import Secret
from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_secretsmanager import SecretsManagerClient


class Counting:
    """A client that counts its reads."""

    def __init__(self, client: SecretsManagerClient) -> None:
        self._client = client
        self.reads = 0

    def get_secret_value(self, **arguments: str) -> object:
        """As boto3's."""
        self.reads += 1
        return self._client.get_secret_value(**arguments)


@pytest.fixture
def client() -> Iterator[SecretsManagerClient]:
    with aws():
        yield boto3.client("secretsmanager")


@pytest.fixture
def arn(client: SecretsManagerClient) -> str:
    return client.create_secret(Name="key", SecretString="first\n")["ARN"]


def test_it_is_read_once_however_many_threads_ask(client: SecretsManagerClient, arn: str) -> None:
    counting = Counting(client)
    secret = Secret(counting, arn)  # type: ignore[arg-type] # a stand-in
    assert counting.reads == 0
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(secret.text())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert texts == ["first"] * 8
    assert counting.reads == 1


def test_a_new_value_is_noticed_once(client: SecretsManagerClient, arn: str) -> None:
    secret = Secret(client, arn)
    assert secret.text() == "first"
    assert not secret.changed()
    client.put_secret_value(SecretId=arn, SecretString="second")
    assert secret.text() == "first", "known until somebody asks whether it changed"
    assert secret.changed()
    assert secret.text() == "second"
    assert not secret.changed()


def test_its_value_is_not_shown(client: SecretsManagerClient, arn: str) -> None:
    secret = Secret(client, arn)
    secret.text()
    assert "first" not in f"{secret!r} {secret}"
    assert arn in repr(secret)


def test_the_latest_value_comes_with_the_id_of_its_version(client: SecretsManagerClient, arn: str) -> None:
    secret = Secret(client, arn)
    first = secret.latest()
    assert first == secret.latest()
    assert first[0] == "first"
    version = client.put_secret_value(SecretId=arn, SecretString="second\n")["VersionId"]
    assert secret.latest() == ("second", version)
    assert secret.text() == "second"
    assert version != first[1]
