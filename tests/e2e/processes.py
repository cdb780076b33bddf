"""Which processes belong to a sandbox, those that name its folder; and which of them serves a slot."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.stack import Sandbox

__all__ = ["environment_of", "kill_environment", "processes_of", "streams"]


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


def streams(sandbox: Sandbox, text: str) -> set[str]:
    """Log streams of connectors, each an environment, with a line that holds `text`."""
    pages = (
        sandbox.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=sandbox.outputs["log_group_names"]["connector"], filterPattern=f'"{text}"')
    )
    return {event["logStreamName"] for page in pages for event in page["events"]}


def environment_of(sandbox: Sandbox, owner: str) -> str:
    """Log stream of the environment in which the owner of a slot runs."""
    (stream,) = streams(sandbox, owner.split("/")[2])
    return stream


def kill_environment(stream: str, folder: Path) -> None:
    """SIGKILL the process of the environment that logs to `stream`."""
    wanted = f"AWS_LAMBDA_LOG_STREAM_NAME={stream}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        if wanted in environment and any(str(folder).encode() in value for value in environment):
            os.kill(int(entry.name), signal.SIGKILL)
            return
    raise AssertionError(f"no process logs to {stream}")
