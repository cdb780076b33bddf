"""How long a discovery run takes, from its start to the published registry, and what its functions need.

    python -m benchmarks.discovery [--things 10000] [--latency 5] [--per-second 1000]

The real handlers run in this process in the order of the state machine, eight fetchers at once as there;
on AWS each would have a processor of its own. ThingWorx is the simulator in a process of its own, behind
TLS, with a latency added to each answer; the registry is a real Valkey. AWS is in this process too
(benchmarks/aws_stand_in.py): "CPU" is this process's, stand-in included.

Three runs: the first, which reads all; one in which nothing has changed; and a repair, which rebuilds the
registry from the control table after Redis has lost everything. "grown" is by how much the process's
resident memory has grown at most during a step: a function's own memory, its imports aside, the stand-in's
data included. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, cast
from unittest import mock

import boto3
import requests

from benchmarks.aws_stand_in import aws_with_stand_in
from lambdas.assigner import handler as assigner
from lambdas.fetcher import handler as fetcher
from lambdas.scaler import handler as scaler
from sandbox.certificates import make_certificates
from sandbox.redis_server import valkey_server
from sandbox.thingworx.control import CONTROL_HEADER
from sandbox.thingworx.server import DEFAULT_APP_KEY
from tests.aws_mock import CONTROL_TABLE, create_control_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HELD, BUCKET = "demo-held", "demo-staging"
TEMPLATES = 10
PROPERTIES = 5
FETCHERS, SCALERS = 8, 4
#: Bars: seconds for each 10,000 Things of a first run, seconds of one in which nothing has changed,
#: seconds to rebuild 10,000 Things, megabytes of a function, bytes of an answer.
FIRST_SECONDS, SAME_SECONDS, REBUILD_SECONDS, MEGABYTES, ANSWER_BYTES = 20.0, 30.0, 5.0, 512.0, 65_536
#: What the largest function has before its first step: the interpreter and its imports.
_IMPORTS_MEGABYTES = 90.0
_CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 900_000)


class Step(NamedTuple):
    """One step of a run."""

    name: str
    seconds: float
    cpu: float
    grown: float
    largest: int


class Meter:
    """Times steps, watches memory, and keeps every answer's size."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def measure(self, name: str, call: Callable[[], Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Run a step; its answers."""
        before, peak, done = _resident(), [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], _resident())

        watching = threading.Thread(target=watch)
        watching.start()
        start, cpu = time.perf_counter(), time.process_time()
        try:
            answers = list(call())
        finally:
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            done.set()
            watching.join()
        largest = max((len(json.dumps(answer)) for answer in answers), default=0)
        self.steps.append(Step(name, seconds, cpu, max(peak[0], _resident()) - before, largest))
        return answers


def _resident() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(name: str, **options: Any) -> tuple[list[Step], dict[str, Any]]:
    """Walk the state machine once; its steps up to `publish`, and the answer of `assign`."""
    meter = Meter()

    def call(function: Any, **payload: Any) -> dict[str, Any]:
        answer: dict[str, Any] = function.handle({**payload, "run": name}, _CONTEXT)
        return answer

    def together(threads: int, function: Any, payloads: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(lambda payload: call(function, **payload), payloads)

    meter.measure("begin", lambda: [call(assigner, action="begin", **options)])
    if not options.get("repair"):
        (listed,) = meter.measure("list", lambda: [call(fetcher, action="list")])
        fetches = [{"action": "fetch", "packet": packet} for packet in listed["packets"]]
        meter.measure("fetch", lambda: together(FETCHERS, fetcher, fetches))
    (plan,) = meter.measure("assign", lambda: [call(assigner, action="assign", **options)])
    opens = [{"action": "open", "slots": slots, **options} for slots in plan["slot_packets"]]
    meter.measure("scale", lambda: together(SCALERS, scaler, opens))
    meter.measure("publish", lambda: [call(assigner, action="publish", **options)])
    steps = list(meter.steps)
    call(assigner, action="end", **options)
    return steps, plan


def _show(title: str, steps: list[Step]) -> float:
    total = sum(step.seconds for step in steps)
    print(f"\n{title}: {total:.1f} s, CPU {sum(step.cpu for step in steps):.1f} s")
    for step in steps:
        print(
            f"  {step.name:8} {step.seconds:6.2f} s   CPU {step.cpu:6.2f} s   "
            f"grown {step.grown:4.0f} MB   largest answer {step.largest} B"
        )
    return total


class _Simulator:
    """The simulator in a process of its own."""

    def __init__(self, folder: Path, things: int, latency: float) -> None:
        self.certificates = make_certificates(folder)
        properties = [{"name": f"P{number}"} for number in range(PROPERTIES)]
        fleet = {
            "templates": [{"name": f"T{number}", "properties": properties} for number in range(TEMPLATES)],
            "things": [
                {
                    "name": f"device-{number}-{{}}",
                    "count": things // TEMPLATES,
                    "template": f"T{number}",
                }
                for number in range(TEMPLATES)
            ],
        }
        (folder / "fleet.json").write_text(json.dumps(fleet), encoding="utf-8")
        command = [sys.executable, "-m", "sandbox.thingworx", "--fleet", str(folder / "fleet.json")]
        tls = ["--tls-cert", str(self.certificates.chain), "--tls-key", str(self.certificates.key)]
        self.process = subprocess.Popen([*command, *tls], stdout=subprocess.PIPE, text=True)
        self._latency = latency
        self.url = ""

    def __enter__(self) -> Self:
        lines = iter(cast("IO[str]", self.process.stdout).readline, "")
        try:
            while not self.url:
                self.url = next(lines).partition("ThingWorx: ")[2].strip()
            control = next(lines).partition("control: ")[2].strip()
            requests.put(
                f"{control}/state",
                json={"latency_ms": self._latency},
                headers={CONTROL_HEADER: "1"},
                timeout=5,
            ).raise_for_status()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _environ(simulator: _Simulator, port: int, per_second: int) -> dict[str, str]:
    machine = boto3.client("stepfunctions").create_state_machine(
        name="demo-connector",
        definition='{"StartAt": "End", "States": {"End": {"Type": "Pass", "End": true}}}',
        roleArn="arn:aws:iam::123456789012:role/demo",
    )
    secret = boto3.client("secretsmanager").create_secret(Name="key", SecretString=DEFAULT_APP_KEY)
    return {
        "STACK": "demo",
        "CONTROL_TABLE": CONTROL_TABLE,
        "HELD_TABLE": HELD,
        "STAGING_BUCKET": BUCKET,
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "THINGWORX_URL": simulator.url,
        "THINGWORX_APP_KEY_SECRET_ARN": secret["ARN"],
        "THING_TAG": "AWS_CONNECTED_THING:AWS_CONNECTED_THING",
        "PROPERTY_CATEGORY": "AWSConnectorBound",
        "FETCH_PER_SECOND": str(per_second),
        "QUEUE_NAME_PREFIX": "demo-slot-",
        "CONNECTOR_STATE_MACHINE_ARN": machine["stateMachineArn"],
        "SSL_CERT_FILE": str(simulator.certificates.bundle),
        "REQUESTS_CA_BUNDLE": str(simulator.certificates.bundle),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discovery")
    parser.add_argument("--things", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=5.0, help="milliseconds of each answer of ThingWorx")
    parser.add_argument("--per-second", type=int, default=1000, help="FETCH_PER_SECOND; 0 for no limit")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey_server() as valkey,
        _Simulator(Path(folder), options.things, options.latency) as simulator,
        aws_with_stand_in() as stand_in,
    ):
        create_control_table().create_table(
            TableName=HELD,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        environ = _environ(simulator, valkey.port, options.per_second)
        with (
            mock.patch.dict(os.environ, environ),
            mock.patch.object(fetcher, "_parts", _of_each_thread(fetcher._parts.__wrapped__)),  # noqa: SLF001 - the handler makes its parts once
            contextlib.redirect_stdout(_NoMetrics()),
        ):
            before = simulator.cpu()
            first, plan = run("first")
            simulated = simulator.cpu() - before
            same, unchanged = run("same")
            valkey.client().flushall()
            repair, _ = run("repair", repair=True)
    print(f"{options.things} Things, {options.latency:g} ms latency, {options.per_second} calls/s allowed")
    first_seconds = _show("first run", first)
    print(f"  the simulator's CPU: {simulated:.1f} s; calls: {stand_in.calls}")
    same_seconds = _show("nothing changed", same)
    repair_seconds = _show("rebuilt without ThingWorx", repair)
    steps = [*first, *same, *repair]
    grown = max(step.grown for step in steps) + _IMPORTS_MEGABYTES
    largest = max(step.largest for step in steps)
    scale = options.things / 10_000
    bars = {
        f"first run {first_seconds:.1f} s": first_seconds <= FIRST_SECONDS * max(1, scale),
        f"nothing changed {same_seconds:.1f} s": same_seconds <= SAME_SECONDS,
        f"rebuilt {repair_seconds:.1f} s": repair_seconds <= REBUILD_SECONDS * max(1, scale),
        f"largest function {grown:.0f} MB": grown < MEGABYTES,
        f"largest answer {largest} B": largest < ANSWER_BYTES,
        f"{plan['added']} added, then {unchanged['kept']} kept": (
            plan["added"] == unchanged["kept"] == options.things
        ),
    }
    print()
    for text, reached in bars.items():
        print(f"{'reached' if reached else 'MISSED '}  {text}")
    return 0 if all(bars.values()) else 1


def _of_each_thread(make: Callable[[], Any]) -> Callable[[], Any]:
    """As on AWS, where fetchers at work at one time share no connections."""
    made = threading.local()

    def parts() -> Any:
        if not hasattr(made, "parts"):
            made.parts = make()
        return made.parts

    return parts


class _NoMetrics(io.StringIO):
    """Takes the functions' metrics and keeps nothing."""

    def write(self, text: str) -> int:
        """Nothing is written."""
        return len(text)


if __name__ == "__main__":
    raise SystemExit(main())
