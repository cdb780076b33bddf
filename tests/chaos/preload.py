"""Imported once by the server that environments are forked from: all that is slow to load."""

from __future__ import annotations

import os

os.environ.setdefault("LOG_LEVEL", "WARNING")

import boto3

import tests.chaos.functions
import tests.chaos.platform_process  # noqa: F401 - as above

_SERVICES = ("dynamodb", "sqs", "stepfunctions", "secretsmanager", "s3")


def _load_service_models() -> None:
    """Read botocore's descriptions of the services into the session that forked processes inherit."""
    session = boto3.session.Session(
        aws_access_key_id="preload", aws_secret_access_key="none", region_name="us-east-1"
    )
    for service in _SERVICES:
        session.client(service)  # type: ignore[call-overload] # names from a list
    # Every process has credentials of its own: what this one found must not be inherited.
    vars(session._session)["_credentials"] = None
    boto3.DEFAULT_SESSION = session


_load_service_models()
