"""A fleet through a week on a simulated clock, while readings flow: see `week`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from lambdas.watch import handler as watch
from sandbox.certificates import Certificates, make_certificates
from tests.integration.week import MONDAY, Week
from tests.integration.whole_stack import whole_stack
from tests.simulated_clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = {
    "THINGS_PER_SLOT": "3",
    "LANES_PER_SLOT": "4",
    "REGISTRY_CACHE_SECONDS": "60",
    "LEASE_SECONDS": "30",
    "BEAT_SECONDS": "0.05",
    "THING_RETRY_SECONDS": "1",
    "ALWAYSON_TIMEOUTS": '{"sync": 0.3}',  # what a deleted Thing takes to be known as such
    "FETCH_CONCURRENCY": "4",
}


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    with whole_stack(_own_certificates(tmp_path), monkeypatch, **SETTINGS) as stack:
        watch._parts.cache_clear()
        yield Week(stack, SimulatedClock(monkeypatch, MONDAY), monkeypatch)
        watch._parts.cache_clear()


def _own_certificates(folder: Path) -> Certificates:
    """Certificates beside which no others are trusted: hundreds of connections read them."""
    made = make_certificates(folder)
    own, end, _ = made.bundle.read_text().partition("-----END CERTIFICATE-----\n")
    made.bundle.write_text(own + end)
    return made


@pytest.mark.timeout(300)
def test_a_week_of_changes_loses_and_reorders_no_reading(week: Week) -> None:
    with contextlib.redirect_stdout(week.counted):
        week.begin()
        week.monday()
        week.tuesday()
        week.wednesday()
        week.thursday()
        week.friday()
        week.saturday()
        week.sunday()
    week.check_counters()
    week.check_full_passes()
