"""Which processes belong to a sandbox: those that name its folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["processes_of"]


def processes_of(folder: Path) -> list[str]:
    """Command lines of other processes that mention `folder` or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            here = str((entry / "cwd").readlink())
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in command or here.startswith(str(folder)):
            found.append(command)
    return found
