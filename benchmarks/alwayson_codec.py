"""How many property writes a second of CPU takes through the AlwaysOn codec.

    python -m benchmarks.alwayson_codec [--rounds 7] [--calls 2000] [--rows 100]

A property write is a row of an UpdateSubscribedPropertyValues request: name, value, time, quality. Rows
mix NUMBER, INTEGER, BOOLEAN and STRING as telemetry does, with a new time each. CPU seconds are this
process's own; figures are of the median round. Ends with exit code 1 when the bar of `encode_update` is
missed; the general encoder and the decoder are there to compare.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from lambdas.thingworx.alwayson import (
    NAMED_VTQ,
    BaseType,
    Characteristic,
    EntityType,
    Ids,
    InfoTable,
    Method,
    Reassembler,
    Request,
    Value,
    encode_message,
    encode_update,
)
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES_PER_CPU_SECOND = 100_000
NOW = 1_767_268_800_000
IDS = Ids(7, 0, 777)
#: Sizes of the text values, so that not all are of one length.
TEXT = "SN-0001-abcdefghijklmnop"


def rows_of(count: int, start: int) -> list[ValueRow]:
    """Rows of mixed types at `start` milliseconds and after."""
    kinds: list[tuple[str, str, Callable[[int], Any]]] = [
        ("temperature", "NUMBER", lambda index: 20.0 + index / 8),
        ("pressure", "NUMBER", lambda index: 1000.5 - index),
        ("rpm", "INTEGER", lambda index: index * 3),
        ("running", "BOOLEAN", lambda index: index % 3 == 0),
        ("serial", "STRING", lambda index: TEXT[: 8 + index % 16]),
    ]
    return [
        ValueRow(name, base_type, value(index), start + index)
        for index in range(count)
        for name, base_type, value in (kinds[index % len(kinds)],)
    ]


def general(thing: str, rows: list[ValueRow]) -> list[bytes]:
    """The same request by way of an InfoTable."""
    values = InfoTable.build(
        NAMED_VTQ,
        [
            {
                "name": row.name,
                "value": Value(BaseType[row.base_type], row.value),
                "time": row.time,
                "quality": row.quality,
            }
            for row in rows
        ],
    )
    params = InfoTable.of({"values": Value(BaseType.INFOTABLE, values)})
    service = "UpdateSubscribedPropertyValues"
    return encode_message(
        Request(IDS, Method.POST, EntityType.THINGS, thing, Characteristic.SERVICES, service, params)
    )


def per_cpu_second(call: Callable[[int], object], *, calls: int, rows: int, rounds: int) -> tuple[float, ...]:
    """Rows a CPU second: lowest, median and highest of the rounds."""
    figures = []
    for _ in range(rounds):
        start = time.process_time()
        for index in range(calls):
            call(index)
        figures.append(calls * rows / (time.process_time() - start))
    return min(figures), statistics.median(figures), max(figures)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="property writes per CPU second")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=100)
    chosen = parser.parse_args()

    batches = [rows_of(chosen.rows, NOW + 1000 * index) for index in range(50)]
    things = [f"Pump-{index:04}" for index in range(50)]
    frames = [encode_update(thing, rows, IDS) for thing, rows in zip(things, batches, strict=True)]
    assert frames == [general(thing, rows) for thing, rows in zip(things, batches, strict=True)]
    receiver = Reassembler(time.monotonic)

    def decode(index: int) -> None:
        for frame in frames[index % 50]:
            receiver.receive(frame)

    measured: dict[str, tuple[Callable[[int], object], int]] = {
        "encode_update": (lambda index: encode_update(things[index % 50], batches[index % 50], IDS), 1),
        "encode_message": (lambda index: general(things[index % 50], batches[index % 50]), 10),
        "decode": (decode, 10),
    }
    print(f"{chosen.rows} rows a call, {sum(map(len, frames[0]))} bytes in {len(frames[0])} frame(s)")
    medians = {}
    for name, (call, fewer) in measured.items():
        calls = max(1, chosen.calls // fewer)
        low, median, high = per_cpu_second(call, calls=calls, rows=chosen.rows, rounds=chosen.rounds)
        medians[name] = median
        print(f"{name:16} {median:>12,.0f} property writes/CPU-s ({low:,.0f} to {high:,.0f})")
    if medians["encode_update"] < WRITES_PER_CPU_SECOND:
        print(f"missed: encode_update is to reach {WRITES_PER_CPU_SECOND:,}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
