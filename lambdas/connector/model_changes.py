"""Things that were changed in ThingWorx while they were served: discovery reads them again, soon.

The names go to the control table at once, as wishes; at the end of each ten seconds in which any came,
a discovery run is started under a name that tells those ten seconds. All connectors give it the same
name, so the fleet starts one, and whichever begins first takes the wishes of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from mypy_boto3_stepfunctions import SFNClient

    from lambdas.shared.wanted import WantedRuns

__all__ = ["WINDOW_SECONDS", "ModelChanges", "TellsChanges"]

#: At most one run in so many seconds, over all connectors.
WINDOW_SECONDS = 10
_WANTED = {"wanted": True}


@runtime_checkable
class TellsChanges(Protocol):
    """A transport that learns when Things are changed in the platform."""

    def tell_changes(self, told: Callable[[str], None]) -> None:
        """Tell of each Thing that is changed while it is served."""


class ModelChanges:
    """Gathers changes and asks for discovery runs over those Things.

    Args:
        wanted: takes the wishes.
        client: boto3 Step Functions client.
        machine: ARN of the discovery state machine; None leaves the start to the watch function.
        counters: `model_changes` (Things told, by the wish they went into).
        now: seconds since 1970 UTC.
    """

    def __init__(
        self,
        wanted: WantedRuns,
        client: SFNClient,
        machine: str | None,
        counters: Counter[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._wanted = wanted
        self._client = client
        self._machine = machine
        self._counters = counters
        self._now = now
        self._things: set[str] = set()
        self._noticed = asyncio.Event()

    def noticed(self, thing: str) -> None:
        """A Thing was changed; returns at once."""
        self._things.add(thing)
        self._noticed.set()

    async def keep(self) -> None:
        """Ask for what is noticed until cancelled."""
        while True:
            await self._noticed.wait()
            window = int(self._now() // WINDOW_SECONDS)
            await self._ask()
            await asyncio.sleep((window + 1) * WINDOW_SECONDS - self._now())
            await self._ask()
            await self._start(window)

    async def _ask(self) -> None:
        self._noticed.clear()
        things, self._things = self._things, set()
        if not things:
            return
        try:
            await asyncio.to_thread(self._wanted.ask_things, things, int(self._now() * 1000))
        except (ClientError, BotoCoreError) as error:
            logger.warning("changed Things can't be told, trying again", reason=str(error))
            self._things |= things
            self._noticed.set()
        else:
            self._counters["model_changes"] += len(things)

    async def _start(self, window: int) -> None:
        if self._machine is None:
            return
        try:
            await asyncio.to_thread(self._start_execution, self._machine, f"model-{window}")
        except (ClientError, BotoCoreError) as error:
            # The wish stays: the watch function starts a run within a minute.
            logger.warning("discovery can't be started", reason=str(error))

    def _start_execution(self, machine: str, name: str) -> None:
        # Another connector may have started it, and it may be over.
        with contextlib.suppress(self._client.exceptions.ExecutionAlreadyExists):
            # The same text for the same name: only then is a second start no error.
            self._client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(_WANTED))
