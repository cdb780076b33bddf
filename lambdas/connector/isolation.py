"""A parcel that keeps ending its connector is taken apart, until the reading that does it is found.

That a parcel comes often is no proof: every hand-over gives parcels back, and in a long outage of
ThingWorx the same ones come again and again. So a parcel that has come often is first noted, settled like
any other, and forgotten, unless the process dies with it or fails in it. One that is found noted is
settled reading by reading, each noted before it is begun. The reading that is found noted is the one: it is
held as `rejected` with the reason `crashes`, and the others go on. One parcel at a time is
taken apart, so that a death convicts one reading at most; should it have had another cause, that
reading is in the held store, to be sent again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from lambdas.connector.entries import entries_of
from lambdas.connector.outcome import Outcome, Verdict
from lambdas.connector.stop import Stopped
from lambdas.shared.errors import MalformedParcel
from lambdas.shared.observability import logger
from lambdas.shared.parcel import NewerParcel, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lambdas.connector.entries import Entry
    from lambdas.connector.slot_queue import Message
    from lambdas.connector.trials import Trial
    from lambdas.shared.parcel import PresenceChange

__all__ = ["Isolation", "Notes", "Settles"]

_T = TypeVar("_T")

#: A parcel that was received more often than this is suspicious.
_SUSPICIOUS = 5


class Notes(Protocol):
    """What is needed of `lambdas.connector.trials.Trials`."""

    def begin(self, message_id: str) -> Trial:
        """Count a try."""

    def at(self, message_id: str, reading_id: str | None) -> None:
        """Note the reading at work."""

    def convict(self, message_id: str, convicted: Sequence[str]) -> None:
        """Note the readings left out."""

    def end(self, message_id: str) -> None:
        """Forget the parcel."""


class Settles(Protocol):
    """What is needed of `lambdas.connector.deliver.Delivery`."""

    async def settle_parcels(self, messages: Sequence[Message]) -> None:
        """Settle whole parcels."""

    async def take_presence(self, changes: Sequence[PresenceChange]) -> None:
        """Take presence events."""

    async def settle_alone(self, entry: Entry) -> None:
        """Settle one reading."""

    async def reject(self, entry: Entry, verdict: Verdict) -> None:
        """Hold one reading as one that can never be delivered."""

    def count_repeat(self, entry: Entry) -> None:
        """Count a reading that was settled before."""


class Isolation:
    """Settles a lane's messages, suspicious ones with care.

    Args:
        notes: what outlives the process.
        settles: settles readings.
    """

    def __init__(self, notes: Notes, settles: Settles) -> None:
        self._notes = notes
        self._settles = settles
        self._alone = asyncio.Lock()

    async def settle(self, messages: Sequence[Message]) -> None:
        """Settle all readings of one lane's messages, given in queue order.

        Raises:
            Stopped: the connector gives up; what is not settled must stay in the queue.
        """
        if all(message.receives <= _SUSPICIOUS for message in messages):
            await self._settles.settle_parcels(messages)
            return
        for message in messages:
            if message.receives <= _SUSPICIOUS:
                await self._settles.settle_parcels([message])
            else:
                await self._try(message)

    async def _try(self, message: Message) -> None:
        trial = await self._note(partial(self._notes.begin, message.id))
        if trial is None or trial.tries == 1:
            await self._try_whole(message)
        else:
            async with self._alone:
                await self._take_apart(message, trial)

    async def _try_whole(self, message: Message) -> None:
        try:
            await self._settles.settle_parcels([message])
        except (Stopped, NewerParcel, asyncio.CancelledError):
            await self._note(partial(self._notes.end, message.id))
            raise
        await self._note(partial(self._notes.end, message.id))

    async def _take_apart(self, message: Message, trial: Trial) -> None:
        logger.error("parcel taken apart", message_id=message.id, tries=trial.tries, died_at=trial.at)
        try:
            parcel = decode(message.body)
        except MalformedParcel:
            await self._try_whole(message)
            return
        await self._settles.take_presence(parcel.presence)
        convicted = set(trial.convicted)
        for entry in entries_of(parcel):
            reading_id = entry.reading.id
            if reading_id in convicted:
                self._settles.count_repeat(entry)
            elif reading_id == trial.at:
                await self._convict(message, entry, convicted, "the connector ended while it was delivered")
            else:
                await self._settle_alone(message, entry, convicted)
        await self._note(partial(self._notes.end, message.id))

    async def _settle_alone(self, message: Message, entry: Entry, convicted: set[str]) -> None:
        await self._note(partial(self._notes.at, message.id, entry.reading.id))
        try:
            await self._settles.settle_alone(entry)
        except (Stopped, asyncio.CancelledError):
            await self._note(partial(self._notes.at, message.id, None))
            raise
        except Exception as error:  # noqa: BLE001 - this is what it is looked for
            await self._convict(message, entry, convicted, f"{type(error).__name__}: {error}")

    async def _convict(self, message: Message, entry: Entry, convicted: set[str], detail: str) -> None:
        await self._settles.reject(entry, Verdict(Outcome.REJECT, "crashes", detail))
        convicted.add(entry.reading.id)
        await self._note(partial(self._notes.convict, message.id, sorted(convicted)))

    async def _note(self, call: Callable[[], _T]) -> _T | None:
        """Result of a note, None when it failed: a parcel that is all right must not wait for it."""
        try:
            return await asyncio.to_thread(call)
        except Exception as error:  # noqa: BLE001 - see above
            logger.warning("a suspicious parcel could not be noted", reason=str(error))
            return None
