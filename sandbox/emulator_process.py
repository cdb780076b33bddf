"""Start and stop the local AWS from Python.

The emulator runs in its own virtual environment (`.sandbox/venv`) with an environment made from
nothing, in its own process group, with every scratch file under `state_dir`: stopping it and deleting
that folder leaves nothing behind. All ports are ephemeral, so that several can run side by side.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["EmulatorError", "EmulatorProcess", "ensure_environment"]

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".sandbox" / "venv"
SOURCE = ROOT / "sandbox" / "emulator"
HOST = "127.0.0.1"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


class EmulatorError(RuntimeError):
    """The emulator didn't start, or ended by itself; the message holds the end of its log."""


def ensure_environment(environment: Path = ENVIRONMENT) -> Path:
    """Build the emulator's virtual environment if it is missing or out of date; return its Python."""
    python = environment / "bin" / "python"
    requirements = SOURCE / "requirements.txt"
    stamp = environment / "requirements.stamp"
    wanted = requirements.read_text()
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
        stamp.write_text(wanted)
    return python


class EmulatorProcess:
    """One local AWS: credentials test/test, region us-east-1, account 000000000000.

    Args:
        state_dir: Folder for all its files (made if missing): log, temporary files, S3 objects.
        redis_endpoint: Host and port that ElastiCache replication groups are given as endpoint.
        ca_bundle: Certificates (PEM file) that functions trust: SSL_CERT_FILE of every function.
        extra_env: Further settings, see `sandbox/emulator/settings.py`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        redis_endpoint: tuple[str, int] | None = None,
        ca_bundle: Path | None = None,
        extra_env: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir.resolve()
        self.log_path = self.state_dir / "emulator.log"
        self._redis_endpoint = redis_endpoint
        self._ca_bundle = ca_bundle
        self._extra_env = dict(extra_env or {})
        self._port, self._mqtt_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        """What AWS_ENDPOINT_URL must be for SDKs, the AWS CLI and Terraform."""
        return f"http://{HOST}:{self._port}"

    @property
    def mqtt_endpoint(self) -> tuple[str, int]:
        """Host and port of the MQTT broker; it speaks TLS with a certificate of `mqtt_ca()`."""
        return "localhost", self._mqtt_port

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the group that its functions run in."""
        if self._process is None:
            raise EmulatorError("not started")
        return self._process.pid

    def mqtt_ca(self) -> str:
        """The PEM certificate of the authority that signed the broker's certificate."""
        return self._get("/_ministack/iot/ca.pem").decode()

    def mqtt_tls_context(self) -> ssl.SSLContext:
        """A TLS context for MQTT clients that verifies the broker."""
        return ssl.create_default_context(cadata=self.mqtt_ca())

    def aws_environment(self) -> dict[str, str]:
        """Environment variables that lead any AWS tool to this emulator."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it and return at once; see wait_ready()."""
        if self._process is not None:
            raise EmulatorError("already started")
        python = ensure_environment()
        for folder in ("tmp", "home", "s3", "state"):
            (self.state_dir / folder).mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(python), str(SOURCE)],
                cwd=self.state_dir,
                env=self._environment(),
                stdin=subprocess.PIPE,  # its end of file tells the emulator that its launcher is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return when the API and the MQTT broker accept connections.

        Raises:
            EmulatorError: It ended, or wasn't ready in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise EmulatorError(f"the emulator ended:\n{self._log_tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if json.loads(self._get("/_ministack/ready")).get("iot_mtls") == "listening":
                    return
            time.sleep(0.05)
        raise EmulatorError(f"the emulator wasn't ready after {seconds:g} s:\n{self._log_tail()}")

    def stop(self) -> None:
        """Stop it with every function it runs. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        reaper = threading.Timer(STOP_SECONDS, process.kill)
        reaper.start()
        process.wait()
        reaper.cancel()
        if process.stdin is not None:
            process.stdin.close()
        # Functions that were busy are still in the group; it exists as long as one of them does.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.state_dir / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.state_dir / "tmp"),
            "STATE_DIR": str(self.state_dir / "state"),
            "S3_DATA_DIR": str(self.state_dir / "s3"),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self._port),
            "IOT_MTLS_PORT": str(self._mqtt_port),
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "SANDBOX_STOP_WITH_PARENT": "1",
        }
        if self._redis_endpoint is not None:
            environment["REDIS_HOST"], port = self._redis_endpoint
            environment["REDIS_PORT"] = str(port)
        if self._ca_bundle is not None:
            environment["SSL_CERT_FILE"] = str(self._ca_bundle.resolve())
        return environment | self._extra_env

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _log_tail(self) -> str:
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else "(no log)"


def _free_ports(count: int) -> list[int]:
    """Distinct free TCP ports; all are held until all are known."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind((HOST, 0))
            ports.append(int(listener.getsockname()[1]))
        return ports
