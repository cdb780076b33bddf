"""How the connector reaches ThingWorx: one small protocol, one implementation a way to deliver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Transport"]


class Transport(Protocol):
    """Delivers values of Things; one instance a connector, used by one event loop."""

    #: What a person should know about it at start: what it can't do.
    limits: str

    async def open(self) -> None:
        """Connect and authenticate as far as the transport needs it.

        Raises:
            ThingworxError: it can't be opened now.
        """

    async def push(self, thing: str, rows: Sequence[ValueRow]) -> None:
        """Write the rows of one Thing; returns when the platform has answered for all of them.

        Args:
            thing: Thing name.
            rows: in time order, several properties and times mixed.

        Raises:
            ThingworxUnavailable: nobody can be served now.
            ThingworxRefused: nobody can be served until somebody changes the configuration.
            ThingworxCallFailed: this Thing or one of these rows was refused.
        """

    async def close(self) -> None:
        """Give back sockets and threads."""
