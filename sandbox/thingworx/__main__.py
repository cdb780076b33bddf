"""`python -m sandbox.thingworx`: a simulated ThingWorx platform until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path
from typing import Any

from sandbox.thingworx.fleet import load_fleet
from sandbox.thingworx.platform import Settings
from sandbox.thingworx.server import DEFAULT_APP_KEY, SimulatorServer


def _setting(text: str) -> tuple[str, Any]:
    """`name=value`, the value as JSON or as bare text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted or terminated; 0."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.thingworx", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of the platform; 0 picks a free one")
    parser.add_argument(
        "--control-port", type=int, default=0, help="port of the control API; 0 picks a free one"
    )
    parser.add_argument("--app-key", default=DEFAULT_APP_KEY, help="application key to accept (%(default)s)")
    parser.add_argument("--fleet", type=Path, help="JSON file with templates and Things")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, help="its key, PEM")
    parser.add_argument("--history-limit", type=int, help="values kept per property (all)")
    parser.add_argument("--log-limit", type=int, help="write records kept (all)")
    parser.add_argument("--strict", action="store_true", help="refuse text for numbers, and numbers for text")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="a setting, such as bind_protection=last-in-wins or idle_seconds=30; may be repeated",
    )
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    settings = Settings(
        strict_base_types=options.strict, history_limit=options.history_limit, log_limit=options.log_limit
    )
    try:
        settings.change(dict(options.settings))
    except ValueError as error:
        parser.error(f"--set: {error}")
    server = SimulatorServer(
        host=options.host,
        port=options.port,
        control_port=options.control_port,
        app_key=options.app_key,
        settings=settings,
        tls=(options.tls_cert, options.tls_key) if options.tls_cert else None,
    )
    if options.fleet:
        print(f"things: {load_fleet(server.platform, json.loads(options.fleet.read_text()))}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with server:
        print(f"ThingWorx: {server.url}/Thingworx")
        print(f"control: {server.control_url}/simulator")
        print(f"AlwaysOn: {server.ws_url}", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
