"""Start the emulator with its overlay: `<venv>/bin/python sandbox/emulator` and settings by environment.

The folder itself is taken off sys.path, so that no module in it can shadow one of the standard library.
Settings: those of ministack (GATEWAY_PORT, IOT_MTLS_PORT, REDIS_HOST, ...) and those in settings.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent


def load_package() -> None:
    """Import this folder as the package `emulator` without a path entry for it."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    spec = importlib.util.spec_from_file_location(
        "emulator", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {HERE}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["emulator"] = package
    spec.loader.exec_module(package)


def stop_with_parent() -> None:
    """End the process group when the launcher's end of standard input closes, however it ended."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would still be held at shutdown
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def main() -> None:
    """Apply the overlay, then serve until SIGTERM."""
    load_package()
    importlib.import_module("emulator.overlay").install()
    if os.environ.get("SANDBOX_STOP_WITH_PARENT") == "1":
        stop_with_parent()
    sys.argv = ["ministack"]
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
