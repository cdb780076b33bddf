"""How long a slot of Things takes to be served over AlwaysOn, in how much memory, and what pushes cost.

    python -m benchmarks.alwayson_session [--things 1000] [--latency-ms 20] [--seconds 5]

The platform is the simulator in a process of its own, which waits `latency-ms` before each answer. Measured
are seconds from connect until all Things are bound and synchronised, the same with one Thing that the
platform may not see (so that the BIND of its group fails as a whole), resident memory above what the
interpreter with its imports takes, once each Thing was pushed to, and property writes a second of this
process's CPU time, pushed in calls of 100 rows, 16 at once. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lambdas.shared.errors import ThingNotServed
from lambdas.thingworx.alwayson_transport import AlwaysOnTransport, alwayson_transport
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.secrets import Secret

KEY = "benchmark-key"
SECONDS_TO_SERVE = 5.0
MEMORY_MIB = 128.0
PROPERTIES = 10
ROWS = 100
AT_ONCE = 16
NOW = 1_767_268_800_000


class Key:
    """The platform's key."""

    def latest(self) -> tuple[str, str]:
        """Text and version."""
        return KEY, "1"


class Platform:
    """The simulator in a process of its own."""

    def __init__(self, url: str, control: str, things: list[str]) -> None:
        self.url = url
        self.things = things
        self._control = control

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Change something over the control API."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self._control}/{path}",
            json.dumps(body).encode(),
            {"X-Simulator-Control": "1", "Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
            answer.read()

    def transport(self) -> AlwaysOnTransport:
        """A transport to it."""
        return alwayson_transport(self.url, cast("Secret", Key()))


@contextmanager
def platform(things: int) -> Iterator[Platform]:
    """A platform with so many Things of ten properties each."""
    properties = [
        {"name": f"p{index}", "baseType": "NUMBER", "remote": True, "edgeName": f"p{index}", "logged": False}
        for index in range(PROPERTIES)
    ]
    fleet = {"things": [{"name": "pump-{}", "count": things, "properties": properties}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(fleet, file)
        file.flush()
        command = [sys.executable, "-m", "sandbox.thingworx", "--app-key", KEY, "--fleet", file.name]
        process = subprocess.Popen(
            [*command, "--log-limit", "1000", "--history-limit", "1"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            addresses: dict[str, str] = {}
            while "AlwaysOn" not in addresses:
                name, _, address = process.stdout.readline().strip().partition(": ")
                addresses[name] = address
            names = [f"pump-{number}" for number in range(things)]
            yield Platform(addresses["ThingWorx"], addresses["control"], names)
        finally:
            process.terminate()
            process.wait()


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def rows(start: int, count: int) -> list[ValueRow]:
    """Rows of all properties, one a millisecond."""
    return [
        ValueRow(f"p{index % PROPERTIES}", "NUMBER", index / 8, NOW + start + index) for index in range(count)
    ]


async def serve(target: Platform) -> tuple[AlwaysOnTransport, float, int]:
    """An open transport, seconds until its Things were ready, and how many were refused."""
    transport = target.transport()
    begun = time.perf_counter()
    await transport.open()
    transport.bind(target.things)
    outcomes = await asyncio.gather(*map(transport.ready, target.things), return_exceptions=True)
    took = time.perf_counter() - begun
    unforeseen = [error for error in outcomes if isinstance(error, Exception) and not _refused(error)]
    if unforeseen:
        raise unforeseen[0]
    return transport, took, sum(map(_refused, outcomes))


def _refused(outcome: object) -> bool:
    return isinstance(outcome, ThingNotServed)


async def push_for(
    transport: AlwaysOnTransport, things: list[str], seconds: float
) -> tuple[int, float, float]:
    """Writes, CPU seconds and seconds of pushing without a pause."""
    turns = itertools.count()
    calls = [rows(start * ROWS, ROWS) for start in range(64)]
    begun, cpu = time.perf_counter(), time.process_time()
    until = begun + seconds

    async def work() -> int:
        written = 0
        while time.perf_counter() < until:
            turn = next(turns)
            await transport.push(things[turn % len(things)], calls[turn % len(calls)])
            written += ROWS
        return written

    written = sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))
    return written, time.process_time() - cpu, time.perf_counter() - begun


async def measure(target: Platform, latency_ms: int, seconds: float) -> bool:
    """Print all figures; whether all bars are met."""
    target.put("state", {"latency_ms": latency_ms})
    before = resident_mib()
    transport, took, refused = await serve(target)
    assert not refused
    print(f"{len(target.things)} Things bound and synchronised: {took:.2f} s (bar {SECONDS_TO_SERVE:g} s)")
    target.put("state", {"latency_ms": 0})
    await asyncio.gather(*(transport.push(thing, rows(0, PROPERTIES)) for thing in target.things))
    memory = resident_mib() - before
    print(f"memory with them, each pushed to: {memory:.1f} MiB (bar {MEMORY_MIB:g} MiB)")
    written, cpu, wall = await push_for(transport, target.things, seconds)
    print(f"pushes: {written / cpu:,.0f} property writes / CPU-s ({written / wall:,.0f} / s)")
    await transport.close()
    target.put("invisible", {"add": [target.things[len(target.things) // 3]]})
    target.put("state", {"latency_ms": latency_ms})
    transport, took_with_one, refused = await serve(target)
    await transport.close()
    assert refused == 1
    print(f"with one invisible, the others: {took_with_one:.2f} s (bar {SECONDS_TO_SERVE:g} s)")
    return max(took, took_with_one) <= SECONDS_TO_SERVE and memory < MEMORY_MIB


def main() -> int:
    """Measure; 0 when all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with platform(options.things) as target:
        return 0 if asyncio.run(measure(target, options.latency_ms, options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
