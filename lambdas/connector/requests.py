"""What ThingWorx asks of bound Things: it reads properties and writes them; nothing else is served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lambdas.connector.echoes import Echoes
from lambdas.connector.handed_on import HandedOn
from lambdas.connector.kept_values import KeptValues, ValuesTable
from lambdas.connector.reads import ALL_PROPERTIES, Reads
from lambdas.connector.shadow import Shadow
from lambdas.connector.shapes import Shapes
from lambdas.connector.writeback import WriteBack
from lambdas.shared.control_table import ControlTable
from lambdas.thingworx.alwayson.codes import Characteristic, Method, Status
from lambdas.thingworx.alwayson.events import Reply
from lambdas.thingworx.alwayson.model import NOTHING

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iot_data import IoTDataPlaneClient

    from lambdas.connector.echoes import Passes
    from lambdas.connector.push_times import PushTimes
    from lambdas.connector.writeback import Accepted
    from lambdas.shared.settings import ConnectorSettings
    from lambdas.thingworx.alwayson.events import Asked
    from lambdas.thingworx.alwayson.model import Value
    from lambdas.thingworx.alwayson_transport import AlwaysOnTransport

__all__ = ["PlatformRequests", "platform_requests"]


class PlatformRequests:
    """Answers requests, from the start of a connector's serving to its end.

    Args:
        reads: answers GET.
        writes: answers PUT.
        echoes: pushes back what was written.
        handed_on: what predecessor and successor leave each other.
        close: gives back what reads and writes use.
    """

    def __init__(
        self,
        *,
        reads: Reads,
        writes: WriteBack,
        echoes: Echoes,
        handed_on: HandedOn,
        close: Callable[[], None],
    ) -> None:
        self._reads = reads
        self._writes = writes
        self._echoes = echoes
        self._handed_on = handed_on
        self._close = close

    async def answer(self, asked: Asked) -> Reply:
        """Answer one request."""
        request = asked.request
        if request.characteristic == Characteristic.PROPERTIES:
            if request.method is Method.GET:
                return await self._reads.get(asked.thing, request.target)
            if request.method is Method.PUT:
                written = _written(asked)
                if written is None:
                    return Reply(Status.BAD_REQUEST, f"{request.target}: the request has no value")
                return await self._writes.put(asked.thing, written)
        what = f"{request.method.name} {request.target}"
        return Reply(Status.METHOD_NOT_ALLOWED, f"{what}: the connector serves properties only")

    async def begin(self, outlet: Passes) -> None:
        """The slot is ours: push through the outlet, and take over what the predecessor left."""
        self._echoes.pass_through(outlet)
        await self._handed_on.take()

    async def rest(self, seconds: float) -> None:
        """Begin nothing new until `go_on`; wait at most `seconds` for writes and echoes under way."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        await self._writes.rest(seconds)
        await self._echoes.rest(max(0.0, end - clock()))

    def go_on(self) -> None:
        """Begin again what waited."""
        self._writes.go_on()

    async def leave(self) -> None:
        """Leave to the successor what ThingWorx can't tell it."""
        await self._handed_on.leave()

    async def settle(self, seconds: float) -> None:
        """Take no more writes; answer those that are open."""
        await self._writes.settle(seconds)
        self._close()
        await self._echoes.rest(seconds)


def platform_requests(
    slot: str,
    transport: AlwaysOnTransport,
    settings: ConnectorSettings,
    dynamodb: DynamoDBClient,
    iot_data: IoTDataPlaneClient,
    *,
    owns: Callable[[], bool],
    times: PushTimes,
    counters: Counter[str],
) -> PlatformRequests:
    """What answers the requests that come over a transport; it answers from now on.

    Args:
        slot: slot id.
        transport: way to ThingWorx.
        settings: of the connector.
        dynamodb: boto3 DynamoDB client.
        iot_data: boto3 client of the IoT data plane.
        owns: whether the slot is ours.
        times: times of the pushed values.
        counters: what happened, by name.
    """
    table = ControlTable(settings.control_table, dynamodb)
    shapes = Shapes(table.thing, table.shapes)
    shadow = Shadow(iot_data, name=settings.shadow_name, section=settings.shadow_section)
    kept = KeptValues(ValuesTable(dynamodb, settings.control_table, slot))
    echoes = Echoes(transport.echo, times, owns=owns, counters=counters)
    writes = WriteBack(
        shadow,
        shapes,
        owns=owns,
        accepted=echoes.begin if settings.echo_writes == "true" else _not_echoed,
        deadline_seconds=settings.write_deadline_ms / 1000,
        counters=counters,
    )
    requests = PlatformRequests(
        reads=Reads(transport.newest, kept, shadow, shapes),
        writes=writes,
        echoes=echoes,
        handed_on=HandedOn(kept, times, owns=owns, values=transport),
        close=shadow.close,
    )
    transport.handler = requests.answer
    return requests


def _not_echoed(_: str, __: Sequence[Accepted]) -> None:
    """Leave it to the device to tell its new value."""


def _written(asked: Asked) -> Mapping[str, Value] | None:
    """Values by edge name; one property's is found by its name, or stands alone."""
    request = asked.request
    table = request.params
    if table is None or not table.rows or not table.fields:
        return None
    if request.target in ALL_PROPERTIES:
        return dict(zip(table.fields, table.rows[0], strict=False))
    if request.target in table.fields:
        return {request.target: table.first(request.target)}
    return {request.target: table.rows[0][0]} if len(table.fields) == 1 else {request.target: NOTHING}
