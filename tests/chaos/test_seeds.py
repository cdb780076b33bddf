"""Random faults over the real handlers: nothing is lost, invented, reordered or counted wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGRESSIONS = Path(__file__).parent / "regressions.txt"
_SEEDS = range(1, 6)


def _regressions() -> list[int]:
    lines = (line.partition("#")[0].split() for line in _REGRESSIONS.read_text().splitlines())
    return [int(words[0]) for words in lines if words]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as made:
        yield made


@pytest.mark.parametrize("seed", [*_SEEDS, *_regressions()])
def test_a_random_schedule_of_faults_breaks_no_promise(runner: Runner, seed: int) -> None:
    report = runner.run(seed)
    assert not report.violations, report.text()
