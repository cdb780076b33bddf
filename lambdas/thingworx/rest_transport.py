"""Delivery over REST: one service call carries all rows of a Thing, with time and quality.

A REST write to a remotely bound property by any service but `UpdateSubscribedPropertyValues` is only
forwarded to the edge and stored nowhere, so that one comes first; a Thing that does not have it is
not of the RemoteThing family and takes `UpdatePropertyValues`. Which one is learned once a Thing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lambdas.shared.errors import ThingworxCallFailed
from lambdas.thingworx.infotable import ValueRow, named_vtq
from lambdas.thingworx.transport import PushResult, unchecked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambdas.thingworx.rest import RestClient
    from lambdas.thingworx.transport import Check

__all__ = ["RestTransport"]

_REMOTE = "UpdateSubscribedPropertyValues"
_LOCAL = "UpdatePropertyValues"
_NOT_FOUND = 404


class RestTransport:
    """Transport over a `RestClient`; blocking calls run in its own threads.

    Args:
        client: REST client with at least `concurrency` connections.
        concurrency: calls under way at once.
    """

    limits = (
        "delivery over REST: Things are not shown as connected, and property writes made in ThingWorx "
        "do not reach the device"
    )

    def __init__(self, client: RestClient, *, concurrency: int) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="thingworx")
        self._service: dict[str, str] = {}

    async def open(self) -> None:
        """Nothing to open: the first call connects."""

    async def ready(self, thing: str) -> None:
        """See `Pushes.ready`: nothing is bound."""

    async def push(self, thing: str, rows: Sequence[ValueRow], check: Check = unchecked) -> PushResult:
        """See `Transport.push`. A refused row fails the call: REST has no subscriptions to check against."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._push, thing, rows, check)
        return PushResult()

    async def close(self) -> None:
        """Wait for calls under way, then close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    def _push(self, thing: str, rows: Sequence[ValueRow], check: Check) -> None:
        parameters = {"values": named_vtq(rows)}
        known = self._service.get(thing, _REMOTE)
        try:
            self._client.service("Things", thing, known, parameters, check)
            self._service[thing] = known
        except ThingworxCallFailed as error:
            if not _service_is_missing(error):
                raise
            other = _LOCAL if known == _REMOTE else _REMOTE
            self._client.service("Things", thing, other, parameters, check)
            self._service[thing] = other


def _service_is_missing(error: ThingworxCallFailed) -> bool:
    """Whether the Thing has no such service; platforms say so as 404 or in the text of a 500.

    A 404 about a property says nothing about the service, and what is learned here lasts.
    """
    if "No service handler defined" in error.reason:
        return True
    return error.status == _NOT_FOUND and "Property [" not in error.reason
