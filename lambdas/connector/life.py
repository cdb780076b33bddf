"""What all parts of one connector's life share: state, settings, counters, reasons to stop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.connector.asked import NoRequests
from lambdas.connector.handover import Patience
from lambdas.connector.stop import Stop, StopReason
from lambdas.shared.observability import count, logger

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine

    from mypy_boto3_sqs import SQSClient

    from lambdas.connector.asked import Requests
    from lambdas.connector.assigned import AssignedThings
    from lambdas.connector.backlog import Store
    from lambdas.connector.isolation import Notes
    from lambdas.connector.lease import Lease
    from lambdas.connector.model_changes import ModelChanges
    from lambdas.connector.push_times import PushTimes
    from lambdas.connector.timing import Timing
    from lambdas.connector.token import TaskToken
    from lambdas.shared.held_store import HeldStore
    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.transport import Transport

__all__ = ["Life", "Parts", "State", "ended"]

_T = TypeVar("_T")

#: Beats and the lease have threads of their own: work that hangs must not keep them waiting.
_CONTROL_THREADS = 3


class State(Enum):
    """Where a connector is in its life."""

    STARTING = "starting"
    WAITING = "waiting for the slot"
    SERVING = "serving"
    LEAVING = "serving until a successor comes"
    SETTLING = "settling"
    ENDED = "ended"


class Parts(NamedTuple):
    """What a connector is made of; all of it belongs to this invocation alone.

    Attributes:
        token: task token of the state machine.
        lease: lease of the slot.
        transport: way to ThingWorx.
        held: held store.
        sqs: boto3 SQS client.
        backlog: markers and readings of parked Things.
        assigned: keeps the slot's Things bound; None where nothing is bound.
        slots: how many slots share the write budget; blocks.
        times: gives pushed values their times.
        requests: answers what ThingWorx asks.
        models: passes on which Things were changed; None with a transport that isn't told.
        notes: what is known of parcels that may have ended a connector.
    """

    token: TaskToken
    lease: Lease
    transport: Transport
    held: HeldStore
    sqs: SQSClient
    backlog: Store
    assigned: AssignedThings | None = None
    slots: Callable[[], int] = lambda: 1
    times: PushTimes | None = None
    requests: Requests = NoRequests()
    models: ModelChanges | None = None
    notes: Notes | None = None


class Life:
    """One connector's; for one event loop.

    Args:
        slot: slot id, for logs.
        settings: the function's settings.
        parts: stores and clients.
        timing: when what is to happen.
        counters: what happened, by name.

    Attributes:
        patience: time limits of a hand-over's steps.
        stop: why and when to stop.
        handed: the successor has taken the slot.
    """

    def __init__(
        self, slot: str, settings: ConnectorSettings, parts: Parts, timing: Timing, counters: Counter[str]
    ) -> None:
        self.slot = slot
        self.settings = settings
        self.parts = parts
        self.timing = timing
        self.counters = counters
        self.patience = Patience()
        self.stop = Stop()
        self.handed = False
        self._state = State.STARTING
        self._control = ThreadPoolExecutor(_CONTROL_THREADS, thread_name_prefix="control")

    @property
    def state(self) -> State:
        """Where this connector is in its life."""
        return self._state

    def enter(self, state: State) -> None:
        """Go on to the next state."""
        self._state = state
        logger.info("state", slot=self.slot, state=state.value)

    def report(self) -> None:
        """Tell the counters, and begin anew."""
        count(self.settings.stack, "connector", dict(self.counters))
        self.counters.clear()

    async def controlled(self, call: Callable[[], _T]) -> _T:
        """A call of the token or the lease, which nothing else keeps waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._control, call)

    async def tried(self, call: Callable[[], _T]) -> _T | None:
        """Result of a table call, or None when AWS failed this time: the lease's deadline decides."""
        try:
            return await self.controlled(call)
        except (ClientError, BotoCoreError) as error:
            logger.warning("control table call failed", slot=self.slot, reason=str(error))
            return None

    def begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task beside receiving; when it breaks, the connector ends, and fails with its error."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                self.stop.ask(StopReason.BROKEN)
                raise

        return asyncio.get_running_loop().create_task(guarded())

    async def close(self) -> None:
        """Give back the threads."""
        await asyncio.to_thread(self._control.shutdown)


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    """End tasks; where one of them broke, the connector has failed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
