"""`make demo` holds what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.demo import run_demo
from tests.e2e.processes import processes_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(400)
def test_every_check_of_the_demo_holds_and_nothing_stays_behind(tmp_path: Path) -> None:
    assert run_demo(tmp_path / "demo")
    assert processes_of(tmp_path) == []
