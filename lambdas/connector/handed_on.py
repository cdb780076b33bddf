"""What a connector takes over from its predecessor, and leaves to its successor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lambdas.connector.asked import NoRequests
from lambdas.shared.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lambdas.connector.kept_values import KeptValues
    from lambdas.connector.outlet import Outlet
    from lambdas.connector.push_times import PushTimes
    from lambdas.thingworx.infotable import ValueRow

__all__ = ["HandedOn", "TimesOnly", "Values"]


class Values(Protocol):
    """A transport that knows which values came."""

    def newest(self, thing: str) -> Mapping[str, ValueRow]:
        """Newest row of each edge property."""

    def unseen(self) -> Mapping[str, Mapping[str, ValueRow]]:
        """Newest rows that were not pushed."""


class HandedOn:
    """Times, and values that ThingWorx has not got.

    Args:
        kept: what predecessor and successor leave each other.
        times: times of the pushed values.
        owns: whether this connector owns its slot.
        values: which values came; None where ThingWorx has them all.
    """

    def __init__(
        self, kept: KeptValues, times: PushTimes, *, owns: Callable[[], bool], values: Values | None = None
    ) -> None:
        self._kept = kept
        self._times = times
        self._owns = owns
        self._values = values

    async def take(self) -> None:
        """Take over what the predecessor left; to be done before the first value gets its time."""
        self._kept.forget()
        times = self._times
        try:
            for thing, kept in (await self._kept.all()).items():
                for edge, last in kept.last.items():
                    times.restore_last(thing, edge, last)
                for edge, at in kept.times.items():
                    times.restore(thing, edge, at)
                if kept.lag:
                    times.restore_lag(thing, kept.lag)
        except Exception as error:  # noqa: BLE001 - whatever it was: a GET tries again, the rest goes on
            logger.warning("what the predecessor left can't be read", reason=str(error))

    async def leave(self) -> None:
        """Leave to the successor what ThingWorx can't tell it."""
        if not self._owns():
            return
        times, values = self._times, self._values
        try:
            await self._kept.leave(
                {} if values is None else values.unseen(),
                _none if values is None else values.newest,
                times.ahead(),
                times.lags(),
                times.last(),
            )
        except Exception as error:  # noqa: BLE001 - the values come again with the next readings
            logger.warning("nothing left to the successor", reason=str(error))


class TimesOnly(NoRequests):
    """With a transport over which ThingWorx asks nothing, times are all there is to hand on.

    Args:
        handed_on: takes and leaves them.
    """

    def __init__(self, handed_on: HandedOn) -> None:
        self._handed_on = handed_on

    async def begin(self, outlet: Outlet) -> None:  # noqa: ARG002 - nothing is pushed back
        """See `Requests.begin`."""
        await self._handed_on.take()

    async def leave(self) -> None:
        """See `Requests.leave`."""
        await self._handed_on.leave()


def _none(_: str) -> Mapping[str, ValueRow]:
    return {}
