"""A raw AlwaysOn client: a WebSocket and the codec, nothing more; edges answer as their scripts say."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from lambdas.thingworx.alwayson import (
    NAMED_VTQ,
    NO_SESSION,
    Auth,
    BaseType,
    Bind,
    Characteristic,
    EntityType,
    Ids,
    InfoTable,
    Method,
    Reassembler,
    Request,
    Response,
    Status,
    Value,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.thingworx.alwayson import Message
    from sandbox.thingworx.server import SimulatorServer

SECONDS = 10.0
STATE = InfoTable.build(NAMED_VTQ)


class Edge:
    """One connection; a context manager that opens it and closes it without a word."""

    def __init__(self, server: SimulatorServer, **connect: Any) -> None:
        self.server = server
        self.session = NO_SESSION
        self.asked: list[Request] = []
        self.frames: list[bytes] = []
        self.unmatched: list[Response] = []
        self.answers: dict[str, Callable[[Request], Response | None]] = {}
        self.reading = asyncio.Event()
        self._connect = {"headers": {"appKey": server.app_key}, "max_msg_size": 0, **connect}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        try:
            self.socket = await self._http.ws_connect(self.server.ws_url, autoping=False, **self._connect)
        except BaseException:
            await self._http.close()
            raise
        self.closed = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed.cancel()
        await asyncio.wait([self.closed])
        await self._http.close()

    async def _read(self) -> int | None:
        """Read until the end; the close code."""
        parts = Reassembler(time.monotonic)
        async for frame in self.socket:
            if frame.type is not aiohttp.WSMsgType.BINARY:
                continue
            self.frames.append(frame.data)
            message = parts.receive(frame.data)
            if isinstance(message, Response):
                waiting = self._waiting.pop(message.ids.request, None)
                if waiting is None:
                    self.unmatched.append(message)
                else:
                    waiting.set_result(message)
            elif isinstance(message, Request):
                self.asked.append(message)
                await self._reply(message)
            async with self._changed:
                self._changed.notify_all()
        for waiting in self._waiting.values():
            waiting.cancel()
        code: int | None = self.socket.close_code
        return code

    async def _reply(self, request: Request) -> None:
        script = self.answers.get(request.target)
        answer = script(request) if script else Response(request.ids, Status.SUCCESS, None, _default(request))
        if answer is not None:
            await self.send(answer)

    async def send(self, message: Message) -> None:
        """Send a message."""
        for frame in encode_message(message):
            await self.socket.send_bytes(frame)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what came in fulfils a condition."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), SECONDS)

    async def until_asked(self, target: str, count: int = 1) -> list[Request]:
        """Wait until the platform asked for it so many times."""
        await self.until(lambda: len([r for r in self.asked if r.target == target]) >= count)
        return [r for r in self.asked if r.target == target]

    def ids(self) -> Ids:
        """Ids of the next request."""
        return Ids(next(self._numbers), 0, self.session)

    async def exchange(self, message: Auth | Bind | Request) -> Response:
        """Send a request and wait for its answer."""
        waiting = self.expect(message)
        await self.send(message)
        return await asyncio.wait_for(waiting, SECONDS)

    def expect(self, message: Auth | Bind | Request) -> asyncio.Future[Response]:
        """The answer to a request that is about to be sent."""
        waiting: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[message.ids.request] = waiting
        return waiting

    async def auth(self, key: str | None = None) -> Response:
        """AUTH; its session is used from then on."""
        answer = await self.exchange(Auth(self.ids(), {"appKey": key or self.server.app_key}))
        if answer.status == Status.SUCCESS:
            self.session = answer.ids.session
        return answer

    async def bind(self, *names: str, method: Method = Method.BIND) -> Response:
        """BIND, or UNBIND."""
        return await self.exchange(Bind(self.ids(), names, method=method))

    async def ready(self, *names: str) -> Self:
        """Authenticated, with these Things bound and synchronised."""
        assert (await self.auth()).status == Status.SUCCESS
        assert (await self.bind(*names)).status == Status.SUCCESS
        await self.until_asked("SynchronizeModelState", len(names))
        return self

    def call(
        self, entity: str, service: str, params: InfoTable | None = None, kind: int = EntityType.THINGS
    ) -> Request:
        """A call of a service."""
        return Request(self.ids(), Method.POST, kind, entity, Characteristic.SERVICES, service, params)

    async def service(
        self, entity: str, service: str, kind: int = EntityType.THINGS, **params: Value
    ) -> Response:
        """Call a service of the platform."""
        table = InfoTable.of(params) if params else None
        return await self.exchange(self.call(entity, service, table, kind))

    def push_of(self, thing: str, *rows: tuple[Any, ...]) -> Request:
        """The request that `push` sends."""
        values = InfoTable.build(NAMED_VTQ, [_row(*row) for row in rows])
        params = InfoTable.of({"values": Value(BaseType.INFOTABLE, values)})
        return self.call(thing, "UpdateSubscribedPropertyValues", params)

    async def push(self, thing: str, *rows: tuple[Any, ...]) -> Response:
        """UpdateSubscribedPropertyValues with rows of (name, value[, time[, quality]])."""
        return await self.exchange(self.push_of(thing, *rows))

    async def property(self, method: Method, thing: str, name: str, value: Value | None = None) -> Response:
        """GET or PUT a property of the platform."""
        params = InfoTable.of({name: value}) if value else None
        return await self.exchange(
            Request(self.ids(), method, EntityType.THINGS, thing, Characteristic.PROPERTIES, name, params)
        )


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the server does in its own thread, without an event to wait for."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


def number(value: float) -> Value:
    return Value(BaseType.NUMBER, float(value))


def text(value: str) -> Value:
    return Value(BaseType.STRING, value)


def records(answer: Response) -> list[dict[str, Any]]:
    """The rows of an answer's content as plain values."""
    assert answer.content is not None
    return [{name: cell.value for name, cell in row.items()} for row in answer.content.records()]


def _row(name: str, value: Any, moment: int = 1_700_000_000_000, quality: str = "GOOD") -> dict[str, Any]:
    kept = value if isinstance(value, Value) else number(value)
    return {"name": name, "value": kept, "time": moment, "quality": quality}


def _default(request: Request) -> InfoTable | None:
    if request.target == "SynchronizeModelState":
        return STATE
    if request.target == "GetMetadata":
        return InfoTable.of({"result": Value(BaseType.JSON, '{"name": "x", "propertyDefinitions": {}}')})
    return None
