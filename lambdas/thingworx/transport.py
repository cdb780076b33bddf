"""How the connector reaches ThingWorx: one small protocol, one implementation a way to deliver."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambdas.thingworx.infotable import ValueRow

__all__ = ["Check", "PushResult", "Pushes", "RefusedRow", "Transport", "unchecked"]

#: Called right before each request that writes values; what it raises keeps the request from being sent.
Check: TypeAlias = Callable[[], None]


def unchecked() -> None:
    """Where values may be written at any time."""


class RefusedRow(NamedTuple):
    """A row that can't be stored as it is, while the others of the call were taken.

    Attributes:
        row: the very row that was given.
        reason: a code: `not_bound`, no remote binding has this edge name; `row_refused`.
        detail: what the platform said, or what is wrong with the value.
    """

    row: ValueRow
    reason: str
    detail: str


class PushResult(NamedTuple):
    """What became of the rows that a call was asked to push; those not named here were stored.

    Attributes:
        suppressed: how many the property's binding doesn't want to have.
        refused: rows that can never be stored as they are.
    """

    suppressed: int = 0
    refused: tuple[RefusedRow, ...] = ()


class Pushes(Protocol):
    """Delivers values of Things."""

    async def ready(self, thing: str) -> None:
        """Wait until a Thing can be pushed; where Things are bound, it is bound first.

        Raises:
            ThingworxError: as for `push`.
        """

    async def push(self, thing: str, rows: Sequence[ValueRow]) -> PushResult:
        """Write the rows of one Thing; returns when the platform has answered for all of them.

        Args:
            thing: Thing name.
            rows: in time order, several properties and times mixed.

        Raises:
            ThingworxUnavailable: nobody can be served now.
            ThingworxRefused: nobody can be served until somebody changes the configuration.
            ThingworxCallFailed: this Thing or one of these rows was refused; some may have been stored.
        """


class Transport(Protocol):
    """A way to the platform; one instance a connector, used by one event loop."""

    #: What a person should know about it at start: what it can't do.
    limits: str

    async def ready(self, thing: str) -> None:
        """See `Pushes.ready`."""

    async def push(self, thing: str, rows: Sequence[ValueRow], check: Check = unchecked) -> PushResult:
        """See `Pushes.push`.

        Args:
            thing: Thing name.
            rows: as for `Pushes.push`.
            check: one push may wait long and need several requests; each is sent after this was asked.

        Raises:
            Exception: what `check` raises.
        """

    async def open(self) -> None:
        """Connect and authenticate as far as the transport needs it.

        Raises:
            ThingworxError: it can't be opened now.
        """

    async def close(self) -> None:
        """Give back sockets and threads."""
