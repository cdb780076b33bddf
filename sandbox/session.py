"""A sandbox that stays up, and the small commands that talk to it from another terminal."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from typing import TYPE_CHECKING, Any

import requests

from sandbox.devices import Device
from sandbox.stack import Sandbox
from sandbox.thingworx.control import CONTROL_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["add_thing", "publish", "show_values", "stay_up"]

_ENDPOINTS = "endpoints.json"
_PROPERTIES = {"temp": "NUMBER", "waterLevel": "INTEGER", "state": "STRING", "on": "BOOLEAN"}


def stay_up(folder: Path, *, ready: Callable[[Sandbox], None] | None = None) -> None:
    """Deploy, print how to reach everything, and wait for Ctrl-C or SIGTERM.

    Args:
        folder: all files of this sandbox.
        ready: called when it is up; by default nothing more happens then.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print("starting; terraform apply takes about a minute ...", flush=True)
    with Sandbox(folder) as sandbox:
        sandbox.build()
        sandbox.deploy()
        _write_endpoints(sandbox)
        _print_guide(sandbox)
        if ready:
            ready(sandbox)
        stop.wait()
        print("\ntaking everything down", flush=True)


def add_thing(folder: Path, name: str) -> None:
    """Add a tagged Thing with the properties temp, waterLevel, state and on."""
    endpoints = _endpoints(folder)
    properties = [
        {"name": prop, "baseType": base_type, "category": "AWSConnectorBound", "remote": True, "logged": True}
        for prop, base_type in _PROPERTIES.items()
    ]
    answer = requests.post(
        f"{endpoints['control_url']}/simulator/fleet",
        json={"things": [{"name": name, "properties": properties}]},
        headers={CONTROL_HEADER: "sandbox"},
        timeout=10,
    )
    if not answer.ok:
        raise SystemExit(f"ThingWorx refuses {name}: {answer.text.strip()}")
    print(f"{name} exists in ThingWorx with {', '.join(_PROPERTIES)}; a discovery run will find it")


def publish(folder: Path, name: str, topic: str, payload: str) -> None:
    """Publish one message as the device `name`; the payload is sent as it is."""
    endpoints = _endpoints(folder)
    context = ssl.create_default_context(cadata=endpoints["mqtt_ca"])
    with Device(name, (endpoints["mqtt_host"], endpoints["mqtt_port"]), context) as device:
        device.publish(topic, payload.encode())
    print(f"published as {name} on {topic}")


def show_values(folder: Path, name: str) -> None:
    """Print a Thing's current values, with time and quality, as ThingWorx's REST API gives them."""
    endpoints = _endpoints(folder)
    answer = requests.post(
        f"{endpoints['thingworx_url']}/Things/{name}/Services/GetPropertyValuesVTQ",
        headers={"appKey": endpoints["app_key"], "Accept": "application/json"},
        json={},
        verify=endpoints["ca_bundle"],
        timeout=10,
    )
    if not answer.ok:
        raise SystemExit(f"ThingWorx answers {answer.status_code}: {answer.text.strip()[:300]}")
    for row in answer.json()["rows"]:
        print(json.dumps(row))


def _write_endpoints(sandbox: Sandbox) -> None:
    host, port = sandbox.emulator.mqtt_endpoint
    file = sandbox.folder / _ENDPOINTS
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "aws": sandbox.emulator.aws_environment(),
                "mqtt_host": host,
                "mqtt_port": port,
                "mqtt_ca": sandbox.emulator.mqtt_ca(),
                "thingworx_url": f"{sandbox.simulator.url}/Thingworx",
                "control_url": sandbox.simulator.control_url,
                "app_key": sandbox.simulator.app_key,
                "ca_bundle": str(sandbox.folder / "certificates" / "bundle.pem"),
            },
            indent=2,
        )
    )


def _endpoints(folder: Path) -> dict[str, Any]:
    file = folder / _ENDPOINTS
    if not file.exists():
        raise SystemExit("no sandbox is running; start one with `make sandbox`")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def _print_guide(sandbox: Sandbox) -> None:
    exports = "\n".join(
        f"  export {name}={value}" for name, value in sandbox.emulator.aws_environment().items()
    )
    host, port = sandbox.emulator.mqtt_endpoint
    print(
        f"""
The sandbox is up. For the AWS CLI or any SDK, in another terminal:

{exports}

  ThingWorx  {sandbox.simulator.url}/Thingworx  (application key in {sandbox.folder / _ENDPOINTS})
  MQTT       {host}:{port} (TLS)
  Redis      {sandbox.redis.url}
  Terraform  {sandbox.folder / "deployment" / "terraform"}

Try it:

  .venv/bin/python -m sandbox add-thing MyTestDevice1
  {sandbox.outputs["first_discovery_command"]}
  .venv/bin/python -m sandbox publish MyTestDevice1 '{{"temp": 10, "waterLevel": 12, "state": "reporting"}}'
  .venv/bin/python -m sandbox values MyTestDevice1

Ctrl-C takes everything down.
""",
        flush=True,
    )
