"""The ThingWorx simulator in a process of its own, told what to do over a pipe.

Its log of writes is kept with the connection that each came over and the moment its frame arrived: a fault
that delays the answer delays the write too, and the owner is asked for when a frame is sent, not when it is
carried out. A connection is known by its application key, which names the process behind it.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from lambdas.thingworx.alwayson import Auth
from sandbox.thingworx import alwayson_server
from sandbox.thingworx.alwayson_connection import Connection
from sandbox.thingworx.basetypes import parse_tags
from sandbox.thingworx.history import WriteLog
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from sandbox.thingworx.settings import Settings
from tests.chaos.history import Write

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe

    from lambdas.thingworx.alwayson import Bind, Request
    from sandbox.certificates import Certificates
    from sandbox.thingworx.model import VTQ

__all__ = ["PlatformProcess"]

_ANSWER_SECONDS = 60.0
_TICK_SECONDS = 0.02
_LATE_SECONDS = 0.15
_processes = itertools.count(1)

#: Whose frame is being carried out, and when it arrived: call_later keeps it for what is delayed.
_arrival: contextvars.ContextVar[tuple[str, int, float]] = contextvars.ContextVar(
    "arrival", default=("", 0, 0.0)
)


class _KnownConnection(Connection):
    """A connection that knows its client by the application key."""

    client = ""

    def _took(self, message: Auth | Bind | Request) -> None:
        if isinstance(message, Auth):
            self.client = str(message.claims.get("appKey", "")).removeprefix("key-")
        _arrival.set((self.client, self.number, time.time()))
        super()._took(message)


class _KnownWrites(WriteLog):
    """The log, with what `Write` knows beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Write] = []

    def accept(self, received: int, thing: str, property_name: str, vtq: VTQ, service: str) -> None:
        """Log a stored value."""
        super().accept(received, thing, property_name, vtq, service)
        client, session, arrived = _arrival.get()
        self.writes.append(
            Write(self.accepted, thing, property_name, vtq.value, vtq.time, service, client, session, arrived)
        )


class _Keys(set[str]):
    """Every process has its own application key."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.startswith("key-")


class _Commands:
    """What the pipe may ask for; every method is one command."""

    def __init__(self, server: SimulatorServer, log: _KnownWrites) -> None:
        self._server = server
        self._log = log
        self._deaf: list[tuple[float, float]] = []

    def url(self) -> str:
        return f"{self._server.url}/Thingworx"

    def add_thing(self, name: str, properties: dict[str, str], push_type: str) -> None:
        """Add a Thing with properties by name and base type."""
        self._server.platform.add_thing(
            name,
            properties=[
                remote_property(prop, kind, push_type=push_type) for prop, kind in properties.items()
            ],
        )

    def define(self, thing: str, name: str, base_type: str) -> None:
        """Give a Thing another property."""
        platform = self._server.platform
        platform.define(platform.thing(thing), remote_property(name, base_type))

    def untag(self, thing: str) -> None:
        """Take the connector's tag off a Thing."""
        platform = self._server.platform
        platform.set_tags(platform.thing(thing), parse_tags(()))

    def tag(self, thing: str) -> None:
        """Give a Thing the connector's tag again."""
        platform = self._server.platform
        platform.set_tags(platform.thing(thing), parse_tags(("AWS_CONNECTED_THING:AWS_CONNECTED_THING",)))

    def enable(self, thing: str, enabled: bool) -> None:  # noqa: FBT001 - comes over a pipe, by position
        """Switch a Thing on or off."""
        platform = self._server.platform
        with platform.lock:
            platform.thing(thing).enabled = enabled
            if not enabled:
                link = platform.edges.get(thing)
                if link is not None:
                    platform.unbind_edge(thing, link)
        platform.model_changed(platform.thing(thing))

    def fault(self, **rule: Any) -> int:
        """Add a rule; its id."""
        return self._server.faults.add(**rule).id

    def lift(self, rule: int) -> None:
        """Remove a rule."""
        self._server.faults.remove(rule)

    def clear(self) -> None:
        """Remove all rules, thaw everything, enable every Thing."""
        self._server.faults.clear()
        self._server.alwayson.act("thaw")
        for name, thing in list(self._server.platform.things.items()):
            if not thing.enabled:
                self.enable(name, True)  # noqa: FBT003 - as above

    def latency(self, milliseconds: float) -> None:
        """Set what every request waits."""
        self._server.faults.latency_ms = milliseconds

    def connections(self, action: Any) -> int:
        """Do something to all connections; to how many."""
        return self._server.alwayson.act(action)

    def writes(self) -> list[Write]:
        """Every write so far."""
        with self._server.platform.lock:
            return list(self._log.writes)

    def count(self) -> int:
        """How many writes there were so far."""
        return self._log.accepted

    def values(self) -> dict[str, dict[str, tuple[Any, int]]]:
        """Current values and their times by Thing and property."""
        with self._server.platform.lock:
            return {
                name: {prop: (vtq.value, vtq.time) for prop, vtq in thing.values.items()}
                for name, thing in self._server.platform.things.items()
            }

    def deaf(self) -> list[tuple[float, float]]:
        """Spans in which this process got no processor, and so read nothing."""
        return list(self._deaf)

    def watch_itself(self) -> None:
        """Note from now on when the server's loop comes late."""
        loop = self._server._loop
        assert loop is not None, "the server has started"
        asyncio.run_coroutine_threadsafe(self._tick(), loop)

    async def _tick(self) -> None:
        while True:
            before = time.time()
            await asyncio.sleep(_TICK_SECONDS)
            if time.time() - before > _LATE_SECONDS:
                self._deaf.append((before, time.time() + _TICK_SECONDS))

    def rejected(self) -> list[dict[str, Any]]:
        """The last rows that were not stored, with the reason."""
        return list(self._log.rejected)


def _serve(pipe: Pipe, certificates: Certificates, settings: dict[str, Any]) -> None:
    vars(alwayson_server)["Connection"] = _KnownConnection
    # A client that is killed in the middle of a handshake is what this is about, and no news.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    wanted = Settings()
    wanted.change(settings)
    server = SimulatorServer(
        control_port=None, settings=wanted, tls=(certificates.chain, certificates.key), app_key="key-"
    )
    log = _KnownWrites()
    server.platform.log = log
    server.platform.app_keys = _Keys()
    with server:
        commands = _Commands(server, log)
        commands.watch_itself()
        while True:
            try:
                name, positional, named = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((True, getattr(commands, name)(*positional, **named)))
            except Exception as error:  # noqa: BLE001 - told to who asked
                pipe.send((False, f"{type(error).__name__}: {error}"))


class PlatformProcess:
    """That process; a context manager. Calls may come from any thread.

    Args:
        certificates: for TLS.
        settings: switches of the simulated platform.
    """

    def __init__(self, certificates: Certificates, settings: dict[str, Any]) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, far = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(far, certificates, settings),
            name=f"thingworx-{next(_processes)}",
            daemon=True,
        )
        self._far = far
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._process.start()
        self._far.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def call(self, command: str, *positional: Any, **named: Any) -> Any:
        """Have a command carried out.

        Raises:
            RuntimeError: it failed there.
        """
        with self._lock:
            self._pipe.send((command, positional, named))
            if not self._pipe.poll(_ANSWER_SECONDS):
                raise RuntimeError(f"the platform did not answer {command}")
            done, answer = self._pipe.recv()
        if not done:
            raise RuntimeError(f"{command}: {answer}")
        return answer
