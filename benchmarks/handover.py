"""What devices and ThingWorx notice of a slot going from one connector to the next, under both bind policies.

    python -m benchmarks.handover [--handovers 50] [--things 1000] [--latency-ms 20] [--policy both]

Connectors are processes of the product's own code, one after the other, each calling for its successor
`--serve-seconds` after it took the slot. The simulated platform, which answers after `latency-ms`, is in a
process of its own, and so are DynamoDB and SQS (moto), whose calls take `--aws-latency-ms` beside moto's own
time. Every Thing has a reading each half second, sent as the router sends them: one parcel a lane.

Measured at the platform: how often isConnected changed and for how long a Thing was not connected; for each
Thing the longest time without a write around each hand-over, and away from them; lost, repeated and reordered
readings. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import time
from array import array
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.connector_process import TICK_SECONDS, Options, connector, parcels, until, world
from lambdas.shared.settings import ConnectorSettings

if TYPE_CHECKING:
    from benchmarks.aws_process import Aws
    from sandbox.thingworx.platform import Transition
    from sandbox.thingworx.server import SimulatorServer

POLICIES = ("last-in-wins", "first-in-wins")
GAP_P99_SECONDS, GAP_MOST_SECONDS, OFF_P99_SECONDS = 2.0, 10.0, 0.25
_DEADLINE_SECONDS = 120.0
#: Around a hand-over's middle, what belongs to it: from stopping to receive to the last Thing's first write.
_AROUND_MS = 1500


class Writes:
    """What the platform stored of each Thing: when, and of what time."""

    def __init__(self, simulator: SimulatorServer) -> None:
        self._log = simulator.platform.log
        self._lock = simulator.platform.lock
        self.received: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self.times: dict[str, array[int]] = defaultdict(lambda: array("q"))

    def collect(self) -> None:
        """Take over what was written since the last time."""
        with self._lock:
            records = self._log.since()
            self._log.clear()
        for record in records:
            self.received[record.thing].append(record.received)
            self.times[record.thing].append(record.time)

    def gaps(self, middle: int) -> list[int]:
        """Each Thing's longest time without a write around a moment, in ms."""
        found = []
        for received in self.received.values():
            near = [at for at in received if middle - _AROUND_MS * 4 <= at <= middle + _AROUND_MS * 4]
            pairs = itertools.pairwise(near)
            found.append(
                max(
                    (
                        late - early
                        for early, late in pairs
                        if late >= middle - _AROUND_MS and early <= middle
                    ),
                    default=_AROUND_MS * 4,
                )
            )
        return found

    def everyday(self, middles: list[int]) -> list[int]:
        """All times without a write of all Things away from hand-overs, in ms."""
        return [
            late - early
            for received in self.received.values()
            for early, late in itertools.pairwise(received)
            if all(late < middle - _AROUND_MS or early > middle + _AROUND_MS for middle in middles)
        ]

    def faults(self, ticks: int) -> tuple[int, int, int]:
        """How many readings were lost, repeated, and came after a later one."""
        wanted = set(range(1, ticks + 1))
        lost = sum(len(wanted - set(times)) for times in self.times.values())
        repeated = sum(len(times) - len(set(times)) for times in self.times.values())
        reordered = sum(
            later < earlier for times in self.times.values() for earlier, later in itertools.pairwise(times)
        )
        return lost, repeated, reordered


class Run:
    """Connectors, one after the other.

    Attributes:
        middles: when each hand-over's successor took the slot, ms since 1970.
        gap_ms: what the connectors themselves counted as gaps.
        transitions: what they counted as transitions caused.
    """

    def __init__(self, simulator: SimulatorServer, aws: Aws, options: Options) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start = partial(self._process, options, aws.address, f"{simulator.url}/Thingworx")
        self._numbers = itertools.count()
        self.middles: list[int] = []
        self.gap_ms: list[float] = []
        self.transitions = 0

    def _process(self, options: Options, *where: Any) -> tuple[Any, Any]:
        tell = self._context.Queue()
        process = self._context.Process(
            target=connector, args=(next(self._numbers), options, *where, tell), daemon=True
        )
        process.start()
        return process, tell

    @staticmethod
    def _expect(tell: Any, what: str) -> Any:
        kind, content = tell.get(timeout=_DEADLINE_SECONDS)
        assert kind == what, (kind, content)
        return content

    def first(self) -> None:
        """The first connector, until it serves."""
        self._now = self._start()
        self._expect(self._now[1], "serving")

    def next(self) -> None:
        """One hand-over: from the call for a successor until the one before has ended."""
        process, tell = self._now
        self._expect(tell, "handover")
        successor = self._start()
        self.middles.append(self._expect(successor[1], "serving"))
        ended = self._expect(tell, "ended")
        self.gap_ms.append(ended["gap_ms"])
        self.transitions += int(ended["transitions"])
        process.join()
        self._now = successor

    def last(self) -> None:
        """End the last connector."""
        self._now[0].kill()
        self._now[0].join()


def measure(policy: str, handovers: int, options: Options) -> bool:
    """Print the figures of one policy; whether all bars are met."""
    with world(policy, options) as (simulator, aws, queue_url):
        writes, run = Writes(simulator), Run(simulator, aws, options)
        aws.produce(queue_url, TICK_SECONDS, partial(parcels, options.things))
        run.first()
        until(lambda: len(simulator.platform.edges) == options.things)
        writes.collect()
        simulator.platform.transitions.clear()
        moved: list[Transition] = []
        for number in range(handovers):
            run.next()
            writes.collect()
            moved += _taken(simulator.platform.transitions)
            print(f"\r{policy}: {number + 1} of {handovers}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        time.sleep(options.serve_seconds / 2)
        ticks = aws.stop_producing()
        until(lambda: _drained(writes, ticks, options.things))
        moved += _taken(simulator.platform.transitions)
        run.last()
    print(f"{policy}, {handovers} hand-overs of {options.things} Things at {options.latency_ms} ms:")
    most_moves = 0 if policy == "last-in-wins" else 2 * options.things * handovers
    return _report(options, writes, run, ticks, moved) and len(moved) <= most_moves


def _taken(transitions: deque[Transition]) -> list[Transition]:
    """Those of since the last time: the platform keeps a limited number."""
    return [transitions.popleft() for _ in range(len(transitions))]


def _drained(writes: Writes, ticks: int, things: int) -> bool:
    writes.collect()
    return sum(bool(times) and times[-1] >= ticks for times in writes.times.values()) == things


def _report(options: Options, writes: Writes, run: Run, ticks: int, moved: list[Transition]) -> bool:
    """Print the figures; whether the bars that both policies have are met, and that of being off."""
    off: list[int] = []
    gone: dict[str, int] = {}
    for entry in moved:
        if not entry.connected:
            gone[entry.thing] = entry.time
        elif entry.thing in gone:
            off.append(entry.time - gone.pop(entry.thing))
    gaps = sorted(itertools.chain.from_iterable(writes.gaps(middle) for middle in run.middles))
    everyday = sorted(writes.everyday(run.middles))
    lost, repeated, reordered = writes.faults(ticks)
    handed_over = options.things * len(run.middles)
    counted = [gap for gap in run.gap_ms if gap]
    print(f"  isConnected changes a Thing and hand-over: {len(moved) / handed_over:.3f}", end="")
    print(f" (the connectors counted {run.transitions / handed_over:.3f})")
    if off:
        off.sort()
        print(f"  a Thing is off for: {_spread(off)} (bar p99 {OFF_P99_SECONDS:g} s)")
    print(f"  longest time without a write around a hand-over: {_spread(gaps)}", end="")
    print(f" (bar p99 {GAP_P99_SECONDS:g} s, max {GAP_MOST_SECONDS:g} s); away from one: {_spread(everyday)}")
    if counted:
        print(f"  gap as the connectors count it: mean {sum(counted) / len(counted) / 1000:.3f} s")
    print(
        f"  of {ticks * options.things:,} readings: {lost} lost, {repeated} repeated, {reordered} reordered"
    )
    return (
        not gone
        and not lost
        and not reordered
        and _at(gaps, 0.99) < GAP_P99_SECONDS * 1000
        and gaps[-1] < GAP_MOST_SECONDS * 1000
        and (not off or _at(off, 0.99) < OFF_P99_SECONDS * 1000)
    )


def _at(ordered: list[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


def _spread(ordered: list[int]) -> str:
    median, high, most = (_at(ordered, part) / 1000 for part in (0.5, 0.99, 1.0))
    return f"p50 {median:.3f}, p99 {high:.3f}, max {most:.3f} s"


def main() -> int:
    """Measure; 0 when all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--handovers", type=int, default=50)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=20)
    parser.add_argument("--aws-latency-ms", type=float, default=5.0)
    parser.add_argument("--serve-seconds", type=float, default=4.0)
    parser.add_argument("--concurrency", type=int, default=ConnectorSettings.delivery_concurrency)
    parser.add_argument("--policy", choices=(*POLICIES, "both"), default="both")
    asked = vars(parser.parse_args())
    policy, handovers = asked.pop("policy"), asked.pop("handovers")
    options = Options(**asked)
    chosen = POLICIES if policy == "both" else (policy,)
    met = [measure(name, handovers, options) for name in chosen]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
