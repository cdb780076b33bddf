"""Runs a seed: the schedule over a fresh stack, then healing, rest, and the look at the history."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from sandbox.certificates import make_certificates
from sandbox.redis_server import valkey_server
from tests.chaos.checks import Violation, check
from tests.chaos.faults import Faults
from tests.chaos.functions import Changes
from tests.chaos.history import Client, History, timeline
from tests.chaos.schedule import Action, Publish, Schedule, plan
from tests.chaos.world import Common, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Report", "Runner"]

_REST_SECONDS = 25.0
_DISCOVER_EVERY = 1.5
_END_SECONDS = 6.0
_QUIET_LOOKS = 3
_MOST_PACE = 8.0


class Report(NamedTuple):
    """What a seed brought: `violations` is empty when all promises were kept."""

    schedule: Schedule
    history: History
    violations: list[Violation]
    seconds: float
    folder: Path

    def text(self) -> str:
        """For people: the schedule, and what was broken."""
        lines = [*self.schedule.lines(), f"all times stretched by {self.history.pace:.1f}", ""]
        for violation in self.violations:
            lines += [f"BROKEN: {violation.promise}", violation.evidence, ""]
        lines.append(f"output of the functions: {self.folder}")
        lines.append(f"again: make chaos SEEDS=1 SEED={self.schedule.seed}")
        return "\n".join(lines)


class Runner:
    """Runs seeds one after another; a context manager. Redis and certificates are made once."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._common: Common | None = None
        self._folder = Path()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        certificates = make_certificates(self._folder / "certificates")
        server = self._stack.enter_context(valkey_server())
        self._common = Common(server.port, certificates)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder / "certificates")
            self._folder.rmdir()  # kept when it holds the output of a failed seed

    def run(self, seed: int, *, planted: str = "", faults: bool = True) -> Report:
        """Run one seed."""
        assert self._common is not None, "use it as a context manager"
        schedule = plan(seed, faults=faults)
        folder = Path(tempfile.mkdtemp(prefix=f"seed-{seed}-", dir=self._folder))
        began = time.monotonic()
        with World(schedule, self._common, folder, Changes(planted, _pace())) as world:
            history = _live(world, Faults(world, seed))
        violations = check(history)
        report = Report(schedule, history, violations, time.monotonic() - began, folder)
        if not violations:
            shutil.rmtree(folder)
        else:
            names = sorted(set(schedule.setting.things) | set(schedule.setting.strangers))
            (folder / "history.txt").write_text(timeline(history, names))
            (folder / "report.txt").write_text(report.text())
        return report


def _pace() -> float:
    """By what to stretch all times: a machine at work on other things as well needs more of them."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(_MOST_PACE, max(1.0, waiting))


def _live(world: World, faults: Faults) -> History:
    if world.discover() != "SUCCEEDED":
        raise RuntimeError(f"the stack did not come up: {world.machines.ended}")
    _play(world, faults)
    faults.heal()
    history = History(stuck=_rest(world))
    world.end()
    if (
        not wait_until(lambda: not world.functions.busy("connector"), _END_SECONDS * world.pace)
        and not history.stuck
    ):
        names = [environment.name for environment in world.functions.busy("connector")]
        history.stuck = f"connectors did not end when their slots stopped: {names}"
    _note(world, faults, history)
    return history


def _play(world: World, faults: Faults) -> None:
    """Publish and strike, each at its moment."""
    began = time.monotonic()
    entries: list[Publish | Action] = [*world.schedule.publishes, *world.schedule.actions]
    for entry in sorted(entries, key=lambda entry: entry.at):
        pause = began + entry.at * world.pace - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if isinstance(entry, Publish):
            world.publish(entry.thing, entry.parts)
        else:
            faults.strike(entry.kind, entry.values)


def _rest(world: World) -> str:
    """Wait until nothing is left to do; why that didn't come."""
    deadline = time.monotonic() + _REST_SECONDS * world.pace
    looks = 0
    next_run = 0.0
    left = ""
    while time.monotonic() < deadline:
        if time.monotonic() >= next_run:
            world.let_a_day_pass()
            world.discover()
            next_run = time.monotonic() + _DISCOVER_EVERY * world.pace
        left = world.unsettled()
        looks = 0 if left else looks + 1
        if looks == _QUIET_LOOKS:
            return ""
        time.sleep(0.03)
    return f"after {_REST_SECONDS * world.pace:.0f} s there is still: {left}"


def _note(world: World, faults: Faults, history: History) -> None:
    history.offers = world.offers
    history.writes = world.platform.call("writes")
    history.values = world.platform.call("values")
    history.puts = list(world.edge.puts)
    history.held = world.held()
    history.holds = list(world.edge.holds)
    history.sent = list(world.edge.sent)
    history.slots = world.edge.assigned
    history.crashes = [
        f"{name}: {result.error}: {result.detail}"
        for name, _, result in world.functions.results
        if _is_a_mistake(result.error)
    ]
    history.settled = sum(call.settled or 0 for call in world.stream.invocations)
    history.deaf = faults.deaf + world.platform.call("deaf")
    history.pace = world.pace
    history.clients = {
        environment.name: Client(environment.killed, list(_counters(environment.log)))
        for environment in world.functions.environments
    }


def _is_a_mistake(error: str) -> bool:
    """Whether an error is one of Python's own, and not about a connection."""
    kind = getattr(builtins, error, None) if error else None
    return isinstance(kind, type) and not issubclass(kind, OSError)


def _counters(log: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Metric records of a function's output: stage and counters."""
    if not log.exists():
        return
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("{") or '"_aws"' not in line:
            continue
        record = json.loads(line)
        counters = {
            name: value for name, value in record.items() if isinstance(value, int) and ":" not in name
        }
        yield record.get("stage", ""), counters
