"""`make demo` holds what it shows, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import processes_of

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(400)
def test_every_check_of_the_demo_holds_and_neither_process_nor_file_stays_behind(tmp_path: Path) -> None:
    home, scratch, folder = tmp_path / "home", tmp_path / "tmp", tmp_path / "sandbox"
    home.mkdir()
    scratch.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(scratch),
        # What pip does for itself is not the demo's: its cache, and asking rustc for its version.
        "PIP_NO_CACHE_DIR": "1",
        "RUSTUP_HOME": str(tmp_path / "rustup"),
    }
    shown = subprocess.run(
        [sys.executable, "-m", "sandbox", "--folder", str(folder), "demo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "NOT OK" not in shown.stdout
    assert shown.stdout.count(" ok\n") >= 15
    assert processes_of(tmp_path) == []
    assert [str(path) for place in (home, scratch) for path in place.rglob("*")] == []
