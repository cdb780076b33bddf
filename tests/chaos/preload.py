"""Imported once by the server that environments are forked from: all that is slow to load."""

from __future__ import annotations

import importlib
import os

os.environ.setdefault("LOG_LEVEL", "WARNING")

import boto3

_MODULES = (
    "lambdas.assigner.handler",
    "lambdas.assigner.publish",
    "lambdas.connector.handler",
    "lambdas.fetcher.handler",
    "lambdas.router.handler",
    "lambdas.scaler.handler",
    "lambdas.shared.registry",
    "lambdas.thingworx.alwayson_transport",
    "lambdas.watch.handler",
    "tests.chaos.functions",
    "tests.chaos.platform_process",
)
_SERVICES = ("dynamodb", "sqs", "stepfunctions", "secretsmanager", "s3", "cloudwatch", "iot-data")


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


for name in _MODULES:
    importlib.import_module(name)
_load_service_models()
