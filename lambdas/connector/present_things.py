"""Keeps those Things of a slot bound that are present, over all connectors of the slot."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from lambdas.connector.connections import NotAllowed
from lambdas.connector.gate import backoff
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from lambdas.connector.assigned import Binds
    from lambdas.connector.connections import Connections
    from lambdas.connector.presence import Presence, Tell
    from lambdas.connector.presence_property import PresenceProperty
    from lambdas.connector.presence_record import Check
    from lambdas.connector.presence_store import PresenceStore
    from lambdas.shared.parcel import PresenceChange
    from lambdas.thingworx.transport import Pushes

__all__ = ["PresentThings"]

#: Questions about clients that one connector asks in a second, at most.
_CHECKS_PER_SECOND = 10
#: Pause between looks for clients to ask for.
_CHECK_SECONDS = 30.0
#: Questions between two looks at what is still worth asking.
_CHECK_ROUND = 50
#: How often what no message waits for is stored: what was unbound, asked for, told.
_SAVE_SECONDS = 2.0


class PresentThings:
    """What surrounds `Presence`: the transport, the store, the broker, the clock.

    Args:
        slot: slot id, for logs.
        transport: binds.
        presence: decides.
        store: keeps the records.
        connections: asks the broker for a client's state.
        told: writes presence to a property; None: nowhere.
        counters: `connection_checks`, `connection_checks_failed`.
    """

    def __init__(
        self,
        slot: str,
        transport: Binds,
        presence: Presence,
        store: PresenceStore,
        *,
        connections: Connections,
        told: PresenceProperty | None,
        counters: Counter[str],
    ) -> None:
        self._slot = slot
        self._transport = transport
        self._presence = presence
        self._store = store
        self._connections = connections
        self._told = told
        self._counters = counters
        self._loaded = asyncio.Event()
        self._wake = asyncio.Event()
        self._wakes_at: float | None = None
        self._new = asyncio.Event()
        self._saving = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()

    def pass_through(self, outlet: Pushes) -> None:
        """The slot is ours: what is written to a property goes through this outlet."""
        if self._told is not None:
            self._told.pass_through(outlet)

    async def load(self) -> None:
        """Read what the connectors before have left; binds nothing.

        May be called by a successor while another connector serves, and again when it owns the slot.

        Raises:
            ClientError: the control table can't be read.
        """
        self._presence.load(await asyncio.to_thread(self._store.load), _now())

    def wanted(self) -> frozenset[str]:
        """Things that are to be bound; after `load` those that the connector before had bound."""
        return self._presence.wanted()

    async def ready(self) -> None:
        """Wait until the records are there: before that, nothing may be delivered."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Bind and unbind until cancelled; then store what there is to store.

        Only while the slot is ours. When it is run again, what is known holds: nobody else had the slot.
        """
        if not self._loaded.is_set():
            await self._load_at_last()
        self._presence.again(_now())
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._watch, self._save, self._check):
                    tasks.create_task(work())
                self._act()
        finally:
            for task in self._telling:
                task.cancel()
            if self._telling:
                await asyncio.wait(self._telling)
            try:
                await self.saved(last=True)
            except Exception as error:  # noqa: BLE001 - whatever it was: a successor asks the broker
                logger.error("presence not stored at the end", slot=self._slot, reason=str(error))

    def assign(self, names: Iterable[str]) -> None:
        """Follow the assignment of Things to the slot."""
        self._presence.assign(frozenset(names), _now())
        self._new.set()
        self._act()

    def take(self, changes: Iterable[PresenceChange]) -> None:
        """Take events; `saved` says when they are safe."""
        self._presence.take(changes, _now())
        self._act()

    @contextlib.contextmanager
    def delivering(self, thing: str, newest: int) -> Iterator[None]:
        """Around each push: the Thing isn't unbound meanwhile, and `newest` tells whether it is there."""
        self._presence.begin(thing, newest, _now())
        self._act()
        try:
            yield
        finally:
            self._presence.end(thing, _now())
            self._act()

    async def saved(self, *, last: bool = False) -> None:
        """Store all that has changed. Who comes while that is under way waits for it, and shares the next.

        Raises:
            ConnectorError, ClientError: it is not stored; it will be given to the next call.
        """
        async with self._saving:
            records, forgotten = self._presence.changed(last=last)
            if not records and not forgotten:
                return
            try:
                await asyncio.to_thread(self._store.save, records, forgotten)
            except BaseException:
                self._presence.not_stored(records, forgotten)
                raise

    def _act(self) -> None:
        """After anything that `Presence` was told."""
        bind, tells, unbind = self._presence.actions()
        if bind:
            self._transport.bind(bind)
        for tell in tells:
            task = asyncio.ensure_future(self._tell(tell))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        if unbind:
            self._transport.unbind(unbind)
        due = self._presence.next_deadline()
        if due is not None and (self._wakes_at is None or due < self._wakes_at):
            self._wake.set()

    async def _tell(self, tell: Tell) -> None:
        done = False
        try:
            done = self._told is None or await self._told.write(tell)
        finally:
            self._presence.told(tell, _now(), done=done)
            self._act()

    async def _load_at_last(self) -> None:
        for delay in backoff():
            try:
                await self.load()
            except Exception as error:  # noqa: BLE001 - whatever it was: deliveries wait for it
                logger.error("presence can't be read", slot=self._slot, reason=str(error))
            else:
                self._loaded.set()
                return
            await asyncio.sleep(delay)

    async def _watch(self) -> None:
        """Do what is due by the clock."""
        while True:
            self._wake.clear()
            self._presence.tick(_now())
            self._wakes_at = self._presence.next_deadline()
            self._act()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_seconds_until(self._wakes_at)):
                    await self._wake.wait()

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            try:
                await self.saved()
            except Exception as error:  # noqa: BLE001 - whatever it was: tried again soon
                logger.warning("presence not stored yet", slot=self._slot, reason=str(error))

    async def _check(self) -> None:
        pauses = backoff()
        while True:
            self._new.clear()
            try:
                while checks := self._presence.to_check(_now())[:_CHECK_ROUND]:
                    for check in checks:
                        await self._ask(check)
                        pauses = backoff()
                        await asyncio.sleep(1 / _CHECKS_PER_SECOND)
            except NotAllowed as error:
                logger.error("clients' states can't be asked for", slot=self._slot, reason=str(error))
                return
            except Exception as error:  # noqa: BLE001 - throttled or away: later
                self._counters["connection_checks_failed"] += 1
                logger.warning("a client's state can't be told now", slot=self._slot, reason=str(error))
                await asyncio.sleep(next(pauses))
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_SECONDS):
                        await self._new.wait()

    async def _ask(self, check: Check) -> None:
        asked = _now()
        answer = await asyncio.to_thread(partial(self._connections.ask, check.client))
        self._counters["connection_checks"] += 1
        self._presence.answered(check, answer, asked, _now())
        self._act()


def _now() -> int:
    return int(time.time() * 1000)


def _seconds_until(due: float | None) -> float | None:
    return None if due is None else max(0.0, due / 1000 - time.time())
