"""Starting the discovery runs that were asked for, at most one of each kind a minute."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from lambdas.shared.wanted import next_run

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.shared.run_lock import RunLock
    from lambdas.shared.wanted import WantedRuns

__all__ = ["RunStarter"]

_REPAIR = {"repair": True}
_WANTED = {"wanted": True}


class RunStarter:
    """Starts runs of the discovery machine.

    Args:
        sfn: boto3 Step Functions client.
        machine: ARN of the discovery state machine.
        lock: the run lock.
        wanted: the wishes.
    """

    def __init__(self, sfn: SFNClient, machine: str, lock: RunLock, wanted: WantedRuns) -> None:
        self._sfn = sfn
        self._machine = machine
        self._lock = lock
        self._wanted = wanted

    def start_wanted(self, now: int, *, slots: bool) -> list[str]:
        """Start what is wanted and not under way; names of the executions.

        Args:
            now: milliseconds since 1970 UTC.
            slots: whether there is anything that a repair could publish.
        """
        wanted = self._wanted.read()
        started = []
        if wanted.repair and not slots:
            # Nothing was ever found: an empty registry would make every device unknown.
            self._wanted.ask("unknown", now=now)
            self._wanted.clear_repair()
            wanted = self._wanted.read()
        elif wanted.repair:
            started.append(self._start("repair", _REPAIR, now))
        holder = self._lock.holder(now)
        if wanted.taken_by and wanted.taken_by != holder:
            self._wanted.give_back(wanted.taken_by, now)
            wanted = self._wanted.read()
        if holder is None and next_run(wanted.wishes) and now >= wanted.retry_at:
            started.append(self._start("wanted", _WANTED, now))
        return started

    def _start(self, kind: str, options: dict[str, bool], now: int) -> str:
        name = f"{kind}-{time.strftime('%Y%m%dT%H%M', time.gmtime(now / 1000))}"
        # This minute's may be over already. While it runs, a second start is none if its text is the same.
        with contextlib.suppress(self._sfn.exceptions.ExecutionAlreadyExists):
            self._sfn.start_execution(stateMachineArn=self._machine, name=name, input=json.dumps(options))
        return name
