"""Certificates from secrets: in private files, checked before anything connects with them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme

from lambdas.shared.errors import SettingError, ThingworxUnavailable
from lambdas.thingworx.certificates import Certificates, read_certificates
from tests.aws_mock import aws

AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes().decode()
ISSUED = AUTHORITY.issue_cert("connector.example.com").private_key_and_cert_chain_pem.bytes().decode()


def read(ca: str | None = None, client_certificate: str | None = None) -> Certificates:
    with aws():
        client = boto3.client("secretsmanager")

        def arn(name: str, text: str | None) -> str | None:
            return text and client.create_secret(Name=name, SecretString=text)["ARN"]

        return read_certificates(client, arn("ca", ca), arn("client", client_certificate))


def test_without_secrets_there_are_no_files() -> None:
    assert read() == Certificates(None, None)


def test_what_the_secrets_hold_is_in_files_that_only_this_user_can_read() -> None:
    files = read(CA, ISSUED)
    assert files.ca_file
    assert files.client_certificate
    for path, text in ((files.ca_file, CA), (files.client_certificate, ISSUED)):
        assert Path(path).read_text() == f"{text.strip()}\n"
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


def test_a_renewed_secret_replaces_the_file() -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    before, after = read(CA), read(other)
    assert before == after
    assert after.ca_file
    assert Path(after.ca_file).read_text().strip() == other.strip()


@pytest.mark.parametrize("text", ["no certificate", ISSUED.split("-----BEGIN CERTIFICATE")[0]])
def test_a_secret_without_authorities_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="must hold the certificates of authorities"):
        read(ca=text)


@pytest.mark.parametrize("text", ["no certificate", CA])
def test_a_secret_without_a_client_certificate_and_its_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SettingError, match="must hold a certificate and its unencrypted key") as refusal:
        read(client_certificate=text)
    assert text not in str(refusal.value)


def test_a_secret_that_can_not_be_read_now_says_so() -> None:
    with aws():
        client: Any = boto3.client("secretsmanager")
        missing = "arn:aws:secretsmanager:us-east-1:123456789012:secret:missing-abcdef"
        with pytest.raises(ThingworxUnavailable, match="missing-abcdef can't be read"):
            read_certificates(client, missing, None)
