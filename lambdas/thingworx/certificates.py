"""A private authority and a client certificate for ThingWorx: from their secrets into private files.

OpenSSL takes a client's key from files only. They lie in a folder that nobody else may enter, and that
goes with the process.
"""

from __future__ import annotations

import ssl
import tempfile
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.errors import SettingError, ThingworxUnavailable
from lambdas.shared.secrets import Secret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["Certificates", "read_certificates"]


class Certificates(NamedTuple):
    """PEM files.

    Attributes:
        ca_file: authorities to trust instead of the public ones.
        client_certificate: certificate and key to show.
    """

    ca_file: str | None = None
    client_certificate: str | None = None


def read_certificates(
    client: SecretsManagerClient, ca_arn: str | None, client_certificate_arn: str | None
) -> Certificates:
    """Files with what the secrets hold; None where there is no secret.

    Raises:
        SettingError: a secret doesn't hold what it shall.
        ThingworxUnavailable: a secret can't be read now.
    """
    files = Certificates(
        _file(client, ca_arn, "ca.pem"), _file(client, client_certificate_arn, "client-certificate.pem")
    )
    if files.ca_file:
        try:
            ssl.create_default_context(cafile=files.ca_file)
        except ssl.SSLError:
            raise SettingError(f"{ca_arn} must hold the certificates of authorities, as PEM text") from None
    if files.client_certificate:
        try:
            # An encrypted key would ask a terminal for its password; an empty one is refused instead.
            ssl.create_default_context().load_cert_chain(files.client_certificate, password="")
        except (ssl.SSLError, ValueError):
            raise SettingError(
                f"{client_certificate_arn} must hold a certificate and its unencrypted key, as PEM text"
            ) from None
    return files


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="thingworx-")


def _file(client: SecretsManagerClient, arn: str | None, name: str) -> str | None:
    if arn is None:
        return None
    try:
        text = Secret(client, arn).text()
    except (ClientError, BotoCoreError) as error:
        raise ThingworxUnavailable(f"{arn} can't be read: {error}") from error
    except KeyError:
        raise SettingError(f"{arn} holds no text; it must be PEM text") from None
    # Never half written for somebody who connects at this moment.
    path = Path(_folder().name, name)
    fresh = path.with_name(f"{name}.{uuid.uuid4().hex}")
    fresh.touch(mode=0o600)
    fresh.write_text(f"{text}\n")
    fresh.replace(path)
    return str(path)
