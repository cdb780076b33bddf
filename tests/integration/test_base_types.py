"""Every base type through the simulated platform: pushed over AlwaysOn and REST, read, written from there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from lambdas.thingworx.alwayson import Method, Status, from_wire
from lambdas.thingworx.alwayson.events import Reply
from lambdas.thingworx.alwayson_transport import alwayson_transport
from lambdas.thingworx.base_types import SUPPORTED, convert
from lambdas.thingworx.infotable import ValueRow
from lambdas.thingworx.json_forms import for_rest
from lambdas.thingworx.rest import RestClient
from lambdas.thingworx.rest_transport import RestTransport
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.integration.test_alwayson_transport import QUICK, Key
from tests.unit.connector.fakes import until
from tests.unit.thingworx.alwayson.test_wire_forms import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.secrets import Secret
    from lambdas.thingworx.alwayson.events import Asked

TABLE = {
    "dataShape": {
        "fieldDefinitions": {
            "name": {"baseType": "THINGNAME", "aspects": {"isPrimaryKey": True}},
            "at": {"baseType": "DATETIME", "description": "when"},
            "place": {"baseType": "LOCATION"},
            "photo": {"baseType": "IMAGE"},
            "raw": {"baseType": "JSON"},
            "code": {"baseType": "THINGCODE"},
            "span": {"baseType": "TIMESPAN"},
        }
    },
    "rows": [
        {
            "name": "pump",
            "at": 5,
            "place": {"latitude": 1, "longitude": 2},
            "photo": "aGk=",
            "raw": {"a": [None]},
            "code": "1:2",
            "span": {"start": 1, "end": 2},
        },
        {"name": "fan"},
    ],
}
KEPT: dict[str, Any] = {
    **dict.fromkeys(SUPPORTED, "Pümp"),
    **SAMPLES,
    "TAGS": "V:t;W:u",
    "JSON": [{"a": None}],
    "INFOTABLE": convert("INFOTABLE", TABLE),
}
ROWS = [ValueRow(base_type, base_type, kept, 1000) for base_type, kept in KEPT.items()]


class Readable:
    """A secret's text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        """The value."""
        return self._text


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer(control_port=None) as server:
        server.platform.settings.change({"bad_value": "fail", "unknown_edge_name": "fail"})
        properties = [remote_property(base_type, base_type) for base_type in sorted(SUPPORTED)]
        server.platform.add_thing("pump", properties=properties)
        yield server


@pytest.fixture
def client(simulator: SimulatorServer) -> RestClient:
    key = cast("Secret", Readable(simulator.app_key))
    return RestClient(f"{simulator.url}/Thingworx", key, timeouts=(5, 5))


def read(client: RestClient) -> dict[str, Any]:
    """What REST tells of each property, in the form that it is kept in."""
    table = client.service("Things", "pump", "GetPropertyValues")
    assert table is not None
    return {name: convert(name, value) for name, value in table.rows[0].items() if name in SUPPORTED}


def test_every_base_type_is_pushed_read_and_written_over_alwayson(
    simulator: SimulatorServer, client: RestClient
) -> None:
    written: dict[str, Any] = {}

    async def take(asked: Asked) -> Reply:
        request = asked.request
        if request.method is Method.PUT and request.params is not None:
            value = from_wire(request.params.first(request.target))
            written[request.target] = convert(request.target, value)
        return Reply(Status.SUCCESS)

    async def scenario() -> None:
        secret = cast("Secret", Key(simulator.app_key))
        url = f"{simulator.url}/Thingworx"
        transport = alwayson_transport(url, secret, timeouts=QUICK)
        transport.handler = take
        async with asyncio.timeout(30):
            await transport.open()
            try:
                result = await transport.push("pump", ROWS)
                assert result.refused == ()
                assert await asyncio.to_thread(read, client) == KEPT
                for base_type, kept in KEPT.items():
                    values = {
                        "dataShape": {"fieldDefinitions": {base_type: {"baseType": base_type}}},
                        "rows": [{base_type: for_rest(base_type, kept)["value"]}],
                    }
                    await asyncio.to_thread(
                        client.service, "Things", "pump", "SetPropertyValues", {"values": values}
                    )
                await until(lambda: written.keys() == KEPT.keys())
            finally:
                await transport.close()

    asyncio.run(scenario())
    assert written == KEPT


def test_every_base_type_is_pushed_and_read_over_rest(client: RestClient) -> None:
    async def scenario() -> None:
        transport = RestTransport(client, concurrency=1)
        await transport.push("pump", ROWS)
        assert await asyncio.to_thread(read, client) == KEPT
        await transport.close()

    asyncio.run(scenario())
