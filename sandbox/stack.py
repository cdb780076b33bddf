"""The sandbox: AWS, Redis, ThingWorx and a deployed stack on this machine, in one folder.

Everything it starts ends with it, and everything it writes is below its folder.
"""

from __future__ import annotations

import platform
import secrets
import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import boto3
import requests

from sandbox.certificates import make_certificates
from sandbox.devices import Device
from sandbox.emulator_process import EmulatorProcess
from sandbox.redis_server import RedisServer
from sandbox.terraform import Terraform
from sandbox.thingworx.platform import Settings
from sandbox.thingworx.server import SimulatorServer
from tools.build import build_code, build_layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from sandbox.thingworx.platform import Platform

__all__ = ["ARCHITECTURE", "Sandbox"]

ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
#: A connector's life in the sandbox: hand-overs about once a minute instead of every 12.
TIMINGS = {
    "lifetime_seconds": 80,
    "handover_before_end_seconds": 25,
    "handover_jitter_seconds": 5,
    "beat_seconds": 3,
    "heartbeat_seconds": 12,
    "lease_seconds": 9,
    "visibility_seconds": 20,
    "back_off_seconds": [1, 2, 5, 10],
}


class Sandbox:
    """A context manager: starts everything but the stack itself, which `deploy` applies.

    Args:
        folder: all files; emptied first.

    Attributes:
        simulator: the ThingWorx platform; `simulator.platform` is its model.
        emulator: AWS.
        redis: the registry's server.
        outputs: the module's outputs once deployed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._running = ExitStack()
        self.outputs: dict[str, Any] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with ExitStack() as starting:
            certificates = make_certificates(self.folder / "certificates")
            password = secrets.token_urlsafe(24)
            app_key = secrets.token_hex(16)
            self.redis = starting.enter_context(
                RedisServer(self.folder / "redis", password, certificates.server_context())
            )
            self.simulator = starting.enter_context(
                SimulatorServer(
                    app_key=app_key, settings=Settings(), tls=(certificates.chain, certificates.key)
                )
            )
            self.emulator = starting.enter_context(
                EmulatorProcess(
                    self.folder / "aws",
                    ca_bundle=certificates.bundle,
                    extra_env={"AUTH": "true", "SANDBOX_SQS_DELETED_QUEUE_SECONDS": "5"},
                )
            )
            self._secrets = {
                "thingworx_app_key_secret_arn": self._make_secret("thingworx-app-key", app_key),
                "redis_auth_secret_arn": self._make_secret("redis-password", password),
            }
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.close()

    @property
    def platform(self) -> Platform:
        """The simulated platform's model."""
        return self.simulator.platform

    def client(self, service: str) -> Any:
        """A boto3 client of this sandbox's AWS."""
        environment = self.emulator.aws_environment()
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    def build(self) -> None:
        """Build the packages as `make build` does, with the layer for this machine."""
        dist = self.folder / "dist"
        build_code(dist / "lambdas.zip")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        build_layer(dist / f"layer-{ARCHITECTURE}.zip", architecture=ARCHITECTURE, python=version)

    def deploy(self, variables: Mapping[str, Any] | None = None) -> Terraform:
        """`terraform apply` of the unmodified module; `variables` replace the sandbox's own."""
        terraform = Terraform(self.folder / "deployment", self.emulator.aws_environment())
        terraform.prepare()
        terraform.apply({**self.variables(), **(variables or {})})
        self.outputs = terraform.outputs()
        return terraform

    def variables(self) -> dict[str, Any]:
        """The module's inputs that lead it to this sandbox."""
        return {
            "name": "sandbox",
            "thingworx_url": f"{self.simulator.url}/Thingworx",
            "redis_url": self.redis.url,
            "package_dir": str(self.folder / "dist"),
            "architecture": ARCHITECTURE,
            "log_level": "INFO",
            "connector_timings": TIMINGS,
            "force_destroy": True,
            **self._secrets,
        }

    def device(self, name: str) -> Device:
        """An MQTT device named `name`, connected over verified TLS."""
        return Device(name, self.emulator.mqtt_endpoint, self.emulator.mqtt_tls_context())

    def write_property(self, thing: str, name: str, value: Any) -> None:
        """Write a property as a user of ThingWorx does; returns when the platform has answered.

        Raises:
            requests.HTTPError: it refused, or the edge did.
        """
        answer = requests.put(
            f"{self.simulator.url}/Thingworx/Things/{thing}/Properties/{name}",
            json={name: value},
            headers={"appKey": self.simulator.app_key, "Accept": "application/json"},
            verify=str(self.folder / "certificates" / "bundle.pem"),
            timeout=30,
        )
        answer.raise_for_status()

    def _make_secret(self, name: str, text: str) -> str:
        made = self.client("secretsmanager").create_secret(Name=name, SecretString=text)
        return str(made["ARN"])
