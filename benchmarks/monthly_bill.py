"""What a month costs: 1,000 devices at one message a minute, AWS IoT's own messaging aside.

    python -m benchmarks.monthly_bill [--devices 1000] [--messages-a-minute 1]

List prices of us-east-1, on demand, without free tiers, in USD, as of 2026-11-23. Usage is computed from
the module's defaults and the pipeline's bars. The same traffic on the replaced system is 235.51 USD in
its own published estimate (296.42 with AWS IoT's messaging). Ends with exit code 1 when the module's
defaults cost more than half of that.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import NamedTuple

__all__ = ["DEFAULTS", "EGRESS", "REPLACED", "Stack", "bill", "egress", "main"]

HOURS = 730
SECONDS = HOURS * 3600
#: Sum of the replaced system's published estimate without its line for AWS IoT (296.42 - 60.91).
REPLACED = 235.51

# Prices.
LAMBDA_GB_SECOND = 0.0000133334  # arm64
LAMBDA_REQUEST = 0.20e-6
SHARD_HOUR = 0.015
SHARD_HOUR_BEYOND_A_DAY = 0.020
PUT_UNIT = 0.014e-6
STREAM_HOUR = 0.040  # on demand
STREAM_GB_IN = 0.080  # each record rounded up to 1 KB
STREAM_GB_OUT = 0.040
SQS_FIFO_REQUEST = 0.50e-6
SQS_REQUEST = 0.40e-6
BUCKET_LISTING = 0.005 / 1000
STATE_TRANSITION = 0.025e-3
TABLE_WRITE = 0.625e-6
TABLE_READ = 0.125e-6
REDIS_NODE_HOUR = 0.0128  # cache.t4g.micro, Valkey
NAT_HOUR = 0.045
NAT_GB = 0.045
PUBLIC_IPV4_HOUR = 0.005
ENDPOINT_HOUR = 0.010  # a zone
ENDPOINT_GB = 0.010
METRIC = 0.30
ALARM = 0.10
DASHBOARD = 3.00
LOG_GB = 0.50
METRIC_READ = 0.01 / 1000  # GetMetricData, a metric
KEY = 1.00
KEY_REQUEST = 0.03 / 10_000
SECRET = 0.40

# Usage.
ROUTER_SECONDS = 0.030  # an invocation of some dozens of records, AWS calls included
ROUTER_GB = 0.75
CONNECTOR_GB = 0.50
LIFETIME = 720  # seconds between two hand-overs
OVERLAP = 20  # seconds that both connectors of a hand-over run
ENVELOPE_KB = 0.45  # a message in the stream
PARCEL_KB = 0.35  # a reading in a parcel
LOG_KB = 1.3  # a line of metrics and the platform's own, for each invocation of the router
#: SQS requests a second of one slot, by shards: one send a shard; the rest is what the pipeline's bar for
#: 100 readings a second allows.
SLOT_REQUESTS = {1: 6, 4: 12}
METRICS_OF_A_STACK = 21  # slots add none: theirs are SQS's own, which cost nothing
ALARMS = 31  # an alarm is billed for each metric that it looks at
WATCH_SECONDS = 0.5  # a look of a minute
WATCH_GB = 0.25
#: Requests of a look to the control table: of the stack, and of each slot; writes are rare.
WATCH_READS = (4, 2)
ON_DEMAND_SHARDS = 4  # what a new on-demand stream starts with
THINGS_PER_SLOT = 1000

EGRESS = {
    "interface endpoints for SQS and Secrets Manager": {"endpoints": 2},
    "NAT gateway": {"nat": 1},
    "interface endpoints in two zones": {"endpoints": 2, "zones": 2},
    "NAT gateway in each of two zones": {"nat": 2},
}


class Stack(NamedTuple):
    """What of the module's inputs the bill depends on.

    Attributes:
        shards: of the ingest stream; None is on demand.
        redis_nodes: nodes of the replication group.
        endpoints: interface endpoints.
        nat: NAT gateways.
        zones: Availability Zones of the endpoints.
        retention_hours: of the ingest stream.
    """

    shards: int | None = 1
    redis_nodes: int = 1
    endpoints: int = 2
    nat: int = 0
    zones: int = 1
    retention_hours: int = 48


DEFAULTS = Stack()


def bill(stack: Stack, devices: int = 1000, messages_a_minute: float = 1.0) -> dict[str, float]:
    """USD a month by line of the bill."""
    messages = devices * messages_a_minute * 60 * HOURS
    slots = math.ceil(devices / THINGS_PER_SLOT)
    shards = stack.shards or ON_DEMAND_SHARDS
    # Each shard's batch waits a second to fill, or is called for each message where they come less often.
    invocations = min(SECONDS * shards, messages)
    parcels_gb = messages * PARCEL_KB / 1e6
    requests = SECONDS * SLOT_REQUESTS.get(shards, 6 * shards) * slots
    handovers = slots * SECONDS / LIFETIME
    looks = SECONDS / 60
    return {
        "Kinesis": _stream(stack, messages),
        "router": invocations * (LAMBDA_REQUEST + ROUTER_SECONDS * ROUTER_GB * LAMBDA_GB_SECOND),
        "SQS": requests * SQS_FIFO_REQUEST,
        "connector": slots * SECONDS * (1 + OVERLAP / LIFETIME) * CONNECTOR_GB * LAMBDA_GB_SECOND,
        # The age of the oldest message is asked for where messages wait: at worst always, everywhere.
        "watch": looks
        * (
            LAMBDA_REQUEST
            + WATCH_SECONDS * WATCH_GB * LAMBDA_GB_SECOND
            + (WATCH_READS[0] + WATCH_READS[1] * slots) * TABLE_READ
            + slots * (SQS_FIFO_REQUEST + METRIC_READ)
            + SQS_REQUEST  # messages that topic rules couldn't put into the stream
            + BUCKET_LISTING  # and batches that the router gave up
        ),
        "Step Functions": (handovers * 4 + HOURS * 20) * STATE_TRANSITION,
        "DynamoDB": slots * SECONDS / 10 * (TABLE_WRITE + TABLE_READ) + HOURS * 200 * TABLE_READ,
        "Redis": stack.redis_nodes * HOURS * REDIS_NODE_HOUR,
        "way out of the VPC": _egress(stack, parcels_gb),
        "metrics, alarms, dashboard": METRICS_OF_A_STACK * METRIC + ALARMS * ALARM + DASHBOARD,
        "logs": ((invocations + looks) * LOG_KB / 1e6 + 0.5) * LOG_GB,
        # A data key serves a caller for five minutes: seven callers, two tables or a stream each.
        "key and its requests": KEY + 14 * SECONDS / 300 * KEY_REQUEST,
        "secrets": 2 * SECRET,
    }


def egress(way: str, devices: int = 1000, messages_a_minute: float = 1.0) -> float:
    """USD a month of one of `EGRESS`."""
    stack = DEFAULTS._replace(**({"endpoints": 0, "nat": 0, "zones": 1} | EGRESS[way]))
    return bill(stack, devices, messages_a_minute)["way out of the VPC"]


def _stream(stack: Stack, messages: float) -> float:
    if stack.shards is None:
        gb = messages * 1024 / 2**30
        return HOURS * STREAM_HOUR + gb * (STREAM_GB_IN + STREAM_GB_OUT)
    beyond = SHARD_HOUR_BEYOND_A_DAY if stack.retention_hours > 24 else 0.0
    return HOURS * stack.shards * (SHARD_HOUR + beyond) + messages * PUT_UNIT


def _egress(stack: Stack, gb: float) -> float:
    endpoints = stack.endpoints * stack.zones * HOURS * ENDPOINT_HOUR + (
        gb * ENDPOINT_GB if stack.endpoints else 0
    )
    nat = stack.nat * HOURS * (NAT_HOUR + PUBLIC_IPV4_HOUR) + (gb * NAT_GB if stack.nat else 0)
    return endpoints + nat


def _print(title: str, lines: dict[str, float]) -> None:
    print(title)
    for name, usd in lines.items():
        print(f"  {usd:8.2f}  {name}")
    print()


def main() -> int:
    """Command line; 1 when the defaults cost more than half of the replaced system."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--messages-a-minute", type=float, default=1.0)
    options = parser.parse_args()
    traffic = (options.devices, options.messages_a_minute)
    lines = bill(DEFAULTS, *traffic)
    _print("the module's defaults, USD a month", lines | {"in all": sum(lines.values())})
    others = {
        "kinesis_retention_hours = 24": DEFAULTS._replace(retention_hours=24),
        "kinesis_shard_count = null (on demand)": DEFAULTS._replace(shards=None),
        "multi_az = true": DEFAULTS._replace(redis_nodes=2, zones=2),
        "a Redis of one's own, no VPC": DEFAULTS._replace(redis_nodes=0, endpoints=0),
    }
    _print(
        "in all with other inputs", {name: sum(bill(it, *traffic).values()) for name, it in others.items()}
    )
    _print("ways out of the VPC", {name: egress(name, *traffic) for name in EGRESS})
    ours = sum(bill(DEFAULTS).values())
    print(f"1,000 devices at one message a minute: {ours:.2f} USD; replaced system: {REPLACED:.2f} USD")
    return int(ours > REPLACED / 2)


if __name__ == "__main__":
    sys.exit(main())
