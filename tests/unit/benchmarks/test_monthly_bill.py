"""The monthly bill: of the module as it is, and no more than half of the replaced system's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.monthly_bill import (
    CONNECTOR_GB,
    DEFAULTS,
    EGRESS,
    REPLACED,
    ROUTER_GB,
    THINGS_PER_SLOT,
    WATCH_GB,
    bill,
    egress,
)

VARIABLES = (Path(__file__).parents[3] / "terraform" / "variables.tf").read_text()


def default(variable: str) -> str:
    block = VARIABLES.split(f'variable "{variable}"', 1)[1].split("\n}\n", 1)[0]
    found = re.search(r"^  default +=\s+(.+)$", block, re.MULTILINE)
    assert found, variable
    return found[1].strip('"')


def test_the_defaults_cost_at_most_half_of_the_replaced_system() -> None:
    assert sum(bill(DEFAULTS).values()) <= REPLACED / 2


@pytest.mark.parametrize(
    ("variable", "billed"),
    [
        ("kinesis_shard_count", DEFAULTS.shards),
        ("kinesis_retention_hours", DEFAULTS.retention_hours),
        ("multi_az", str(DEFAULTS.zones > 1).lower()),
        ("redis_node_type", "cache.t4g.micro"),
        ("router_memory_mb", int(ROUTER_GB * 1024)),
        ("connector_memory_mb", int(CONNECTOR_GB * 1024)),
        ("watch_memory_mb", int(WATCH_GB * 1024)),
        ("things_per_slot", THINGS_PER_SLOT),
        ("router_batch_window_seconds", 1),
    ],
)
def test_the_bill_is_of_the_modules_own_defaults(variable: str, billed: object) -> None:
    assert default(variable) == str(billed)


def test_the_way_out_that_the_module_takes_is_the_cheapest() -> None:
    cheapest = min(EGRESS, key=egress)
    assert EGRESS[cheapest] == {"endpoints": DEFAULTS.endpoints}


def test_twice_the_devices_cost_less_than_twice_as_much() -> None:
    once, twice = (sum(bill(DEFAULTS, devices).values()) for devices in (1000, 2000))
    assert once < twice < 2 * once
