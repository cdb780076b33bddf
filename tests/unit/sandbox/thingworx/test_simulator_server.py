"""Starting and stopping: in a thread, over TLS, from the command line."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from sandbox.thingworx.__main__ import main
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.platform import Settings
from sandbox.thingworx.server import SimulatorServer
from sandbox.thingworx.writes import push_values

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client

ROOT = Path(__file__).parents[4]


def test_several_servers_run_side_by_side_and_stop() -> None:
    with SimulatorServer() as one, SimulatorServer(control_port=None) as two:
        assert one.url != two.url
        assert two.control_url == ""
        one.platform.add_thing("only-here")
        assert "only-here" not in two.platform.things
    for server in (one, two):
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/Thingworx/Things", timeout=10)
    assert not any(thread.name == "thingworx-simulator" for thread in threading.enumerate())
    one.stop()


def test_a_taken_port_is_an_error_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = SimulatorServer(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            server.start()
        server.stop()


def test_tls_is_spoken_with_the_given_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, trusted = (tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem"))
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    authority.cert_pem.write_to_path(trusted)
    with SimulatorServer(tls=(chain, key)) as server:
        assert server.url.startswith("https://")
        headers = {"appKey": server.app_key, "Accept": "application/json"}
        url = f"{server.url}/Thingworx/Things"
        assert requests.get(url, headers=headers, verify=str(trusted), timeout=10).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, headers=headers, timeout=10)


def test_the_command_line_serves_a_fleet_until_it_is_terminated(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.json"
    fleet.write_text(json.dumps({"things": [{"name": "p-{}", "count": 5, "properties": [{"name": "T"}]}]}))
    command = [
        sys.executable,
        "-m",
        "sandbox.thingworx",
        "--fleet",
        str(fleet),
        "--app-key",
        "k",
        "--log-limit",
        "9",
        "--set",
        "bind_protection=last-in-wins",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = dict(process.stdout.readline().strip().split(": ", 1) for _ in range(4))
        headers = {"appKey": "k", "Accept": "application/json"}
        found = requests.get(f"{lines['ThingWorx']}/Things", headers=headers, timeout=10).json()["rows"]
        overview = requests.get(lines["control"], timeout=10).json()
        process.terminate()
        assert process.wait(10) == 0
    assert lines["things"] == "5"
    assert lines["AlwaysOn"] == lines["ThingWorx"].replace("http://", "ws://") + "/WS"
    assert len(found) == overview["things"] == 5


def test_a_certificate_needs_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--tls-cert", "x.pem"])
    assert "go together" in capsys.readouterr().err


def test_memory_limits_bound_history_and_log() -> None:
    settings = Settings(history_limit=2, log_limit=3)
    with SimulatorServer(settings=settings) as server:
        server.platform.add_thing("p", properties=[remote_property("T")])
        thing = server.platform.thing("p")
        push_values(server.platform, thing, ({"name": "T", "value": n, "time": n} for n in range(50)), "test")
        assert thing.history is not None
        assert [vtq.value for vtq in thing.history.of("T")] == [48, 49]
        assert len(server.platform.log.since()) == 3
        assert server.platform.log.accepted == 50


def test_tests_may_use_the_model_while_it_serves(client: Client) -> None:
    platform, wrong = client.server.platform, []

    def add() -> None:
        for number in range(300):
            platform.add_thing(f"t-{number}", tags="Busy:yes")

    thread = threading.Thread(target=add)
    thread.start()
    while thread.is_alive():
        answer = client.service("Resources/EntityServices/GetEntityList", type="Thing", tags="Busy:yes")
        if answer.status_code != 200:
            wrong.append(answer.text)
    thread.join()
    assert wrong == []
    assert len(client.rows("Resources/EntityServices/GetEntityList", type="Thing", tags="Busy:yes")) == 300
