"""How long a slot waits when its connector is killed, with the timings that are deployed by default.

    python -m benchmarks.failover [--kills 3] [--things 1000]

The whole stack by Terraform in the sandbox, with heartbeats, leases, visibility and back-off as on AWS. One
Thing publishes four times a second; the process of its connector is killed, again and again.

Measured from the kill: until the slot has another owner, and until ThingWorx has a value that was published
after the kill; then whether every value has arrived. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lambdas.shared.control_table import ControlTable
from sandbox.demo import run_discovery
from sandbox.observe import Observer
from sandbox.stack import Sandbox
from sandbox.thingworx.model import remote_property
from tests.e2e.processes import environment_of, kill_environment
from tests.e2e.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

BAR_SECONDS = 90.0
_LOOK_SECONDS = 0.2
_DEADLINE_SECONDS = 300.0
_REST_SECONDS = 5.0


def main() -> int:
    """Measure; 0 when the bar is met and nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--things", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="failover-") as folder, Sandbox(Path(folder)) as sandbox:
        for number in range(options.things):
            sandbox.platform.add_thing(f"Pump{number:04d}", properties=[remote_property("temp", "INTEGER")])
        sandbox.build()
        terraform = sandbox.deploy({"connector_timings": {}})
        assert run_discovery(sandbox) == "SUCCEEDED"
        observer = Observer(sandbox)
        control = ControlTable(sandbox.outputs["control_table_name"], sandbox.client("dynamodb"))
        (slot,) = (slot.id for slot in control.slots())
        with Traffic(sandbox, [control.things_of(slot)[-1].name]) as traffic:
            assert traffic.wait_for_arrival(observer, _DEADLINE_SECONDS) == set()
            served = [_kill(sandbox, observer, traffic, slot) for _ in range(options.kills)]
            missing = traffic.wait_for_arrival(observer, _DEADLINE_SECONDS)
            published = len(traffic.published)
        terraform.destroy()
    print(f"worst of {len(served)} kills: {max(served):.1f} s until served (bar {BAR_SECONDS:g} s)")
    print(f"of {published} readings {len(missing)} are missing")
    return 0 if max(served) < BAR_SECONDS and not missing else 1


def _kill(sandbox: Sandbox, observer: Observer, traffic: Traffic, slot: str) -> float:
    """Kill the slot's connector; seconds until a value published after that has arrived."""
    time.sleep(_REST_SECONDS)
    owner = observer.owners()[slot]
    kill_environment(environment_of(sandbox, owner), sandbox.folder)
    killed, before = time.monotonic(), len(traffic.published)
    _until(lambda: observer.owners().get(slot, owner) != owner)
    owned = time.monotonic() - killed
    _until(lambda: max(traffic.newest(observer).values()) > before)
    served = time.monotonic() - killed
    print(f"killed: another owner after {owned:.1f} s, served after {served:.1f} s", flush=True)
    return served


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "the slot is not served again"
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
