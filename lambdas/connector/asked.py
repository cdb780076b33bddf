"""The part of a connector that answers what ThingWorx asks; and its place where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lambdas.connector.outlet import Outlet

__all__ = ["NoRequests", "Requests"]


class Requests(Protocol):
    """Answers what ThingWorx asks of bound Things."""

    async def begin(self, outlet: Outlet) -> None:
        """The slot is ours; what is pushed goes through the outlet. Nothing is delivered before this ends."""

    async def rest(self, seconds: float) -> None:
        """Begin nothing until `go_on`; wait at most `seconds` for what is under way."""

    def go_on(self) -> None:
        """Begin again what waited."""

    async def leave(self) -> None:
        """Leave to the successor what it needs; at the end, and before, when most is there."""

    async def settle(self, seconds: float) -> None:
        """Answer all that is open within `seconds`, then nothing more."""


class NoRequests:
    """With a transport over which ThingWorx asks nothing."""

    async def begin(self, outlet: Outlet) -> None:
        """See `Requests.begin`."""

    async def rest(self, seconds: float) -> None:
        """See `Requests.rest`."""

    def go_on(self) -> None:
        """See `Requests.go_on`."""

    async def leave(self) -> None:
        """See `Requests.leave`."""

    async def settle(self, seconds: float) -> None:
        """See `Requests.settle`."""
