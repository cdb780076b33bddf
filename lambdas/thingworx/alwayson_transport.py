"""Delivery over AlwaysOn: Things are connected, and what their bindings want is pushed to them."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxUnavailable, WireError
from lambdas.thingworx.alwayson.codes import Status, http_status, is_success
from lambdas.thingworx.alwayson.dial import Dialer
from lambdas.thingworx.alwayson.events import Asked, Reply
from lambdas.thingworx.alwayson.link import Link
from lambdas.thingworx.alwayson.outbox import explained
from lambdas.thingworx.alwayson.push_types import PushFilter
from lambdas.thingworx.alwayson.session import Session
from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.app_key import read_app_key
from lambdas.thingworx.transport import PushResult, RefusedRow, unchecked

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from lambdas.shared.secrets import Secret
    from lambdas.thingworx.alwayson.edge import Edge
    from lambdas.thingworx.alwayson.model import Response
    from lambdas.thingworx.alwayson.push_types import Chosen, Subscription
    from lambdas.thingworx.breaker import Breaker
    from lambdas.thingworx.infotable import ValueRow
    from lambdas.thingworx.transport import Check

__all__ = ["AlwaysOnTransport", "alwayson_transport"]

#: The platform is busy or away: HTTP's numbers, and AlwaysOn's own of a connection that failed.
_TRY_LATER = frozenset({408, 425, 429, 502, 503, 504, 700, 701, 702, 703})
#: One row of the call can't be stored: its name, type or size is wrong.
_A_ROW = frozenset({400, 406, 413, 415})
#: A row, or the Thing or its service as a whole: that shows when other rows are tried.
_A_ROW_OR_ALL = frozenset({404, 409, 500})
#: Refusals on the way down to one row, and as many again beside it, decide that it is all of them.
_SPARE_REFUSALS = 4


class _Choose(Protocol):
    """`PushFilter.choose` or `PushFilter.choose_echo`."""

    def __call__(
        self,
        known: PushFilter,
        rows: Sequence[ValueRow],
        subscriptions: Mapping[str, Subscription],
        /,
        *,
        honour: bool,
    ) -> Chosen: ...


class _Thing:
    """What is kept of a Thing: its turn, and what was pushed."""

    __slots__ = ("filter", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.filter = PushFilter()


class _Attempt:
    """One `push`: what was stored, and what was refused for which reason."""

    def __init__(self, rows: int, check: Check) -> None:
        self.check = check
        self.stored: list[ValueRow] = []
        self.refused: list[tuple[ValueRow, str]] = []
        self.doubtful: ThingworxCallFailed | None = None
        self.refusals = 0
        self.most_refusals = 2 * rows.bit_length() + _SPARE_REFUSALS


class AlwaysOnTransport:
    """Transport over one AlwaysOn connection. Binds each Thing that it is told of, or that is pushed.

    Args:
        make_link: makes the connection, with what answers the platform.
        honour_push_type: False pushes whatever has a remote binding.

    Attributes:
        handler: answers what the platform asks bound Things: GET, PUT, services.
    """

    limits = (
        "delivery over AlwaysOn: properties are delivered, read and written; "
        "services, events and files of devices are not served"
    )

    def __init__(
        self,
        make_link: Callable[[Callable[[Asked], Awaitable[Reply]]], Link],
        *,
        honour_push_type: bool = True,
    ) -> None:
        self.handler: Callable[[Asked], Awaitable[Reply]] = _refuse
        self._link = make_link(self._answer)
        self._honour = honour_push_type
        self._things: dict[str, _Thing] = {}

    async def open(self) -> None:
        """See `Transport.open`."""
        await self._link.open()

    def bind(self, things: Iterable[str]) -> None:
        """Keep these Things bound, over all connections to come; returns at once."""
        self._link.bind(things)

    def unbind(self, things: Iterable[str]) -> None:
        """Bind these Things no longer; returns at once. A push binds a Thing again."""
        self._link.unbind(things)

    def rebind(self, things: Iterable[str]) -> None:
        """Bind these Things once more, without UNBIND: another connection may have taken them."""
        self._link.rebind(things)

    def bound_things(self) -> list[str]:
        """Things that the platform has bound here; surely bound ones first."""
        return self._link.bound_things()

    async def release(self, things: Iterable[str]) -> None:
        """Bind these Things no longer, and wait until the platform has answered that.

        Raises:
            ThingworxError: no answer, or refused.
        """
        await self._link.release(things)

    async def bound(self, things: Iterable[str]) -> None:
        """Wait until the platform has answered a BIND for each of these Things, one way or the other.

        Raises:
            ThingworxError: no connection.
        """
        await self._link.bound(things)

    def retry_parked(self, things: Iterable[str] | None = None) -> None:
        """Bind parked Things now: these, or all. For after a discovery run."""
        self._link.retry_parked(things)

    def parked(self) -> dict[str, str]:
        """Things that the platform refuses now, with the reason."""
        return self._link.parked()

    def tell_changes(self, told: Callable[[str], None]) -> None:
        """Tell of each Thing that is changed in the platform while it is served."""
        self._link.model_changed = told

    async def ready(self, thing: str) -> None:
        """Wait until a Thing is bound and synchronised; it is bound first when it isn't yet.

        Raises:
            ThingNotServed: the platform refuses the Thing.
            ThingworxError: no connection, or it takes too long.
        """
        await self._link.ready(thing)

    async def push(self, thing: str, rows: Sequence[ValueRow], check: Check = unchecked) -> PushResult:
        """See `Transport.push`; the Thing is bound and synchronised first."""
        return await self._push(thing, rows, PushFilter.choose, check)

    async def echo(self, thing: str, rows: Sequence[ValueRow], check: Check = unchecked) -> PushResult:
        """Push back values that the platform has written to a Thing, but for those that it shows already.

        Raises:
            ThingNotServed: the Thing is no longer to be bound, or the platform refuses it.
            ThingworxError: as for `push`.
        """
        if not self._link.wants(thing):
            raise ThingNotServed("unbound")
        return await self._push(thing, rows, PushFilter.choose_echo, check)

    def newest(self, thing: str) -> Mapping[str, ValueRow]:
        """Newest row of each edge property of a Thing that came to be pushed, whether it was or not."""
        known = self._things.get(thing)
        return known.filter.newest if known else {}

    def unseen(self) -> dict[str, dict[str, ValueRow]]:
        """Newest rows that the platform has not got, by Thing and edge name: only a GET gives them."""
        found = {thing: known.filter.unseen() for thing, known in self._things.items()}
        return {thing: rows for thing, rows in found.items() if rows}

    async def _push(self, thing: str, rows: Sequence[ValueRow], choose: _Choose, check: Check) -> PushResult:
        known = self._things.setdefault(thing, _Thing())
        async with known.turn:
            bound = await self._link.ready(thing)
            chosen = choose(known.filter, rows, bound.subscriptions, honour=self._honour)
            attempt = _Attempt(len(chosen.push), check)
            try:
                if chosen.push:
                    await self._deliver(thing, chosen.push, attempt)
                if attempt.doubtful and not attempt.stored:
                    raise attempt.doubtful
            finally:
                known.filter.settled(attempt.stored, chosen.suppressed)
        unbound = [
            RefusedRow(row, "not_bound", f"no remote binding of {thing} has the edge name {row.name}")
            for row in chosen.unbound
        ]
        refused = [RefusedRow(row, "row_refused", detail) for row, detail in attempt.refused]
        return PushResult(len(chosen.suppressed), (*unbound, *refused))

    async def close(self) -> None:
        """See `Transport.close`. No UNBIND is sent: the platform unbinds what this connection had bound."""
        await self._link.close()

    async def _answer(self, asked: Asked) -> Reply:
        return await self.handler(asked)

    async def _deliver(self, thing: str, rows: list[ValueRow], attempt: _Attempt) -> None:
        """Push rows; where the platform refuses a call as a whole, halve it to find the row."""
        attempt.check()
        try:
            response = await self._link.push(thing, rows)
        except WireError as error:
            if len(rows) == 1:
                attempt.refused.append((rows[0], f"has no form on the wire: {error}"))
                return
        else:
            if is_success(response.status):
                attempt.stored += rows
                return
            self._judge(response, rows, attempt)
            if len(rows) == 1:
                return
        middle = (len(rows) + 1) // 2
        await self._deliver(thing, rows[:middle], attempt)
        await self._deliver(thing, rows[middle:], attempt)

    def _judge(self, response: Response, rows: list[ValueRow], attempt: _Attempt) -> None:
        """Decide what a refusal is about: it returns when a row may be, and counts one that stands alone."""
        status, reason = http_status(response.status), explained(response)
        if response.status in (Status.UNAUTHORIZED, Status.INVALID_SESSION) or status in _TRY_LATER:
            raise ThingworxUnavailable(reason)
        failure = ThingworxCallFailed(status, reason)
        attempt.refusals += 1
        if status in _A_ROW_OR_ALL:
            if not attempt.stored and attempt.refusals > attempt.most_refusals:
                raise failure
            attempt.doubtful = failure
        elif status not in _A_ROW:
            raise failure
        if len(rows) == 1:
            attempt.refused.append((rows[0], reason))


def alwayson_transport(
    url: str,
    secret: Secret,
    *,
    timeouts: Timeouts | None = None,
    breaker: Breaker | None = None,
    honour_push_type: bool = True,
    edge: Edge | None = None,
    counters: Counter[str] | None = None,
    ca_file: str | None = None,
    client_certificate: str | None = None,
    tls_strict: bool = True,
) -> AlwaysOnTransport:
    """The transport to one platform; it connects when it is opened.

    Args:
        url: `https://host[:port]/Thingworx`.
        secret: holds the application key.
        timeouts: how long to wait for what.
        breaker: shared by all connectors of the stack.
        honour_push_type: False pushes whatever has a remote binding.
        edge: answers what the platform asks while it synchronises a Thing.
        counters: counts what happened in the session, by name (`alwayson_...`).
        ca_file: authorities to trust instead of the public ones.
        client_certificate: PEM file with certificate and key.
        tls_strict: False forgives certificates whose form breaks RFC 5280.
    """
    waits = timeouts or Timeouts()

    def link(answer: Callable[[Asked], Awaitable[Reply]]) -> Link:
        return Link(
            Session(waits, time.monotonic, edge=edge, counters=counters),
            Dialer(url, waits, ca_file=ca_file, client_certificate=client_certificate, tls_strict=tls_strict),
            partial(read_app_key, secret),
            timeouts=waits,
            handler=answer,
            breaker=breaker,
        )

    return AlwaysOnTransport(link, honour_push_type=honour_push_type)


async def _refuse(asked: Asked) -> Reply:
    return Reply(Status.METHOD_NOT_ALLOWED, f"{asked.request.target}: nobody answers requests here")
