"""Memory of a connector while ThingWorx is down and its queue grows, and how the backlog comes back.

    python -m benchmarks.outage_memory [--seconds 600] [--things 1000] [--budget 5000]

The connector is the product's own code in a process of its own, and so are DynamoDB and SQS (moto). The
simulated platform serves, then cuts all connections and refuses new ones for `--seconds`, then serves again.
Measured each second is the connector's resident memory: the median of the outage's last quarter against that
of its second one. After the outage: whether anything was lost or reordered, and the most property writes
of any ten seconds against the write budget. Ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.connector_process import Options, connector, parcels, until, world
from benchmarks.handover import Writes
from lambdas.shared.settings import ConnectorSettings

GROWTH_MIB = 4.0
#: Above the budget: one second's burst, and a call begun in it.
BURST = 1.2
TICK_SECONDS = 2.0
_WINDOW_MS = 10_000


def watched(*arguments: Any, memory: Any) -> None:
    """A connector that tells its resident memory each second; the main function of its process."""

    def tell() -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            memory.put((time.time(), pages * page / 2**20))
            time.sleep(1)

    threading.Thread(target=tell, daemon=True).start()
    connector(*arguments)


def measure(seconds: float, options: Options) -> bool:
    """Print the figures; whether the bars are met."""
    context = multiprocessing.get_context("spawn")
    with world("first-in-wins", options) as (simulator, aws, queue_url):
        memory, tell = context.Queue(), context.Queue()
        process = context.Process(
            target=partial(watched, memory=memory),
            args=(0, options, aws.address, f"{simulator.url}/Thingworx", tell),
            daemon=True,
        )
        process.start()
        assert tell.get(timeout=60)[0] == "serving"
        writes = Writes(simulator)
        aws.produce(queue_url, TICK_SECONDS, partial(parcels, options.things))
        until(lambda: _collected(writes) >= 2 * options.things)
        simulator.faults.starting = True
        simulator.alwayson.act("drop")
        begun = time.time()
        time.sleep(seconds)
        waiting = _waiting(aws.client("sqs"), queue_url)
        simulator.faults.clear()
        simulator.faults.latency_ms = options.latency_ms
        ended = time.time()
        ticks = aws.stop_producing()
        until(lambda: _collected(writes) >= ticks * options.things, 3 * seconds + 120)
        process.kill()
        process.join()
    samples = [memory.get() for _ in range(memory.qsize())]
    quarter = (ended - begun) / 4
    quarters = [
        [mib for at, mib in samples if 0 <= at - begun - part * quarter <= quarter] for part in range(4)
    ]
    early, late = statistics.median(quarters[1]), statistics.median(quarters[3])
    most = max(mib for _, mib in samples)
    lost, repeated, reordered = writes.faults(ticks)
    rate = _most_writes(writes, int(ended * 1000)) / (_WINDOW_MS / 1000)
    print(
        f"ThingWorx down for {seconds:g} s, {options.things} Things, {waiting} messages waiting at its end:"
    )
    print(f"  resident memory: {early:.1f} MiB in the second quarter, {late:.1f} MiB in the last", end="")
    print(f" (bar: {GROWTH_MIB:g} MiB more); most at any time, catching up included: {most:.1f} MiB")
    print(f"  caught up at {rate:,.0f} writes / s at most, budget {options.max_writes:,}", end="")
    print(f"; of {ticks * options.things:,} readings {lost} lost, {repeated} repeated, {reordered} reordered")
    return late - early <= GROWTH_MIB and not lost and not reordered and rate <= BURST * options.max_writes


def _collected(writes: Writes) -> int:
    writes.collect()
    return sum(len(set(times)) for times in writes.times.values())


def _waiting(sqs: Any, queue_url: str) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    return int(answer["ApproximateNumberOfMessages"]) + int(answer["ApproximateNumberOfMessagesNotVisible"])


def _most_writes(writes: Writes, since: int) -> int:
    """The most writes of any ten seconds after a moment."""
    received = sorted(at for ats in writes.received.values() for at in ats if at >= since)
    first = most = 0
    for last, at in enumerate(received):
        while received[first] < at - _WINDOW_MS:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> int:
    """Measure; 0 when all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--budget", type=int, default=5000)
    asked = parser.parse_args()
    options = Options(
        things=asked.things,
        latency_ms=5,
        aws_latency_ms=5.0,
        serve_seconds=10**6,
        concurrency=ConnectorSettings.delivery_concurrency,
        life_seconds=10**6,
        max_writes=asked.budget,
    )
    return 0 if measure(asked.seconds, options) else 1


if __name__ == "__main__":
    sys.exit(main())
