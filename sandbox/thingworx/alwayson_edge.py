"""A Thing as one connection has bound it, and what the platform asks of it after the bind.

Documented by PTC or seen in its clients: the requests, and that current platforms send GetMetadata and
SynchronizeModelState, older ones NotifyPropertyUpdate. Inferred: that NotifyPropertyUpdate is sent where
SynchronizeModelState isn't answered with success, and how its request and values are shaped.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lambdas.thingworx import alwayson as wire
from lambdas.thingworx.alwayson import Characteristic, Method, is_success, status_text
from lambdas.thingworx.alwayson.codes import http_status
from sandbox.thingworx.alwayson_calls import Question
from sandbox.thingworx.alwayson_values import native_table, native_value, wire_table, wire_value
from sandbox.thingworx.errors import EdgeRefusedError, EdgeUnavailableError, PlatformError
from sandbox.thingworx.infotable import InfoTable, columns
from sandbox.thingworx.writes import push_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.thingworx.alwayson_connection import Connection
    from sandbox.thingworx.model import Thing
    from sandbox.thingworx.platform import EdgeWrite

__all__ = ["BoundThing", "Synchroniser"]

_PROPERTY_INFO: Final = columns("edgeName pushType pushThreshold:NUMBER startType")
_EVENT_INFO: Final = columns("edgeName")
_BAD_GATEWAY: Final = 502


def _service(name: str, params: wire.InfoTable | None = None) -> Question:
    return Question(Method.POST, Characteristic.SERVICES, name, params)


class BoundThing:
    """A platform's `EdgeLink` over AlwaysOn; its methods may be called from any thread.

    Attributes:
        thing: The Thing's name.
        bound_as: What the client bound: the name, or `*identifier`.
        synchronised: Whether its values are taken.
    """

    def __init__(self, connection: Connection, thing: str, bound_as: str) -> None:
        self.connection = connection
        self.thing = thing
        self.bound_as = bound_as
        self.synchronised = False

    @property
    def entity(self) -> str:
        """The name by which the platform addresses it."""
        form = self.connection.platform.settings.identifier_entity
        if not self.bound_as.startswith("*") or form == "binding":
            return self.bound_as
        return self.thing if form == "name" else self.bound_as[1:]

    def write(self, write: EdgeWrite) -> Future[None]:
        """PUT a property; see `EdgeLink.write`."""
        try:
            value = wire_value(write.value, write.base_type)
        except (ValueError, TypeError, KeyError) as error:
            failed: Future[None] = Future()
            failed.set_exception(PlatformError(f"Value can't be sent to the edge: {error}"))
            return failed
        # The column has the property's base type; the cell may tell another one.
        field = wire.Field(wire.BaseType[write.base_type])
        params = wire.InfoTable({write.edge_name: field}, [(value,)])
        question = Question(Method.PUT, Characteristic.PROPERTIES, write.edge_name, params)
        return self._ask(question, lambda _: None)

    def read(self, edge_name: str) -> Future[Any]:
        """GET a property; see `EdgeLink.read`."""

        def value(response: wire.Response) -> Any:
            if response.content is None or not response.content.rows:
                raise EdgeRefusedError(_BAD_GATEWAY, f"The edge sent no value of [{edge_name}]")
            return native_value(response.content.first(edge_name))

        return self._ask(Question(Method.GET, Characteristic.PROPERTIES, edge_name), value)

    def model_changed(self) -> None:
        """Send NotifyPropertyUpdate; nobody waits for the answer."""
        self.request(_service("NotifyPropertyUpdate"))

    def request(self, question: Question) -> Future[wire.Response]:
        """Ask anything; the future is the edge's answer, refusals too."""
        answer: Future[wire.Response] = Future()
        answer.set_running_or_notify_cancel()

        def answered(response: wire.Response | None) -> None:
            if response is None:
                answer.set_exception(EdgeUnavailableError(self.thing, "did not answer"))
            else:
                answer.set_result(response)

        self.connection.in_loop(lambda: self.connection.calls.ask(self, question, answered))
        return answer

    def _ask(self, question: Question, take: Callable[[wire.Response], Any]) -> Future[Any]:
        result: Future[Any] = Future()
        result.set_running_or_notify_cancel()

        def answered(answer: Future[wire.Response]) -> None:
            try:
                response = answer.result()
                if not is_success(response.status):
                    raise _refused(response)
                result.set_result(take(response))
            except PlatformError as error:
                result.set_exception(error)

        self.request(question).add_done_callback(answered)
        return result


def _refused(response: wire.Response) -> EdgeRefusedError:
    status = http_status(response.status)
    known = status if 400 <= status < 600 else _BAD_GATEWAY
    return EdgeRefusedError(known, response.reason or f"The edge answered {status_text(response.status)}")


class Synchroniser:
    """Synchronises the Things of one connection, a bounded number at one time; used in the server's thread.

    A Thing is synchronised in the same step in which its answer is read: values that follow it are taken.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls = connection.calls
        self._platform = connection.platform
        self._waiting: deque[BoundThing] = deque()
        self._running = 0

    def start(self, bound: Iterable[BoundThing]) -> None:
        """Synchronise these once it's their turn."""
        self._waiting.extend(bound)
        self._go_on()

    def _go_on(self) -> None:
        settings = self._platform.settings
        while self._waiting and self._running < settings.sync_window:
            bound = self._waiting.popleft()
            if settings.sync_mode == "none" or self._platform.edges.get(bound.thing) is not bound:
                continue
            self._running += 1
            if settings.sync_mode == "legacy":
                self._notify(bound)
            else:
                self._calls.ask(bound, _service("GetMetadata"), partial(self._send_model, bound))

    def _notify(self, bound: BoundThing) -> None:
        self._calls.ask(bound, _service("NotifyPropertyUpdate"), self._ended)

    def _send_model(self, bound: BoundThing, _metadata: wire.Response | None) -> None:
        with self._platform.lock:
            still_bound = self._platform.edges.get(bound.thing) is bound
            thing = self._platform.things.get(bound.thing) if still_bound else None
            params = _model_of(thing) if thing is not None else None
        if params is None:
            self._ended()
            return
        self._calls.ask(bound, _service("SynchronizeModelState", params), partial(self._take_state, bound))

    def _take_state(self, bound: BoundThing, answer: wire.Response | None) -> None:
        if answer is None or not is_success(answer.status):
            self._connection.counters.add("sync_fallbacks")
            self._notify(bound)
            return
        bound.synchronised = True
        self._connection.counters.add("synchronised")
        if answer.content is not None:
            self._store(bound, native_table(answer.content))
        self._ended()

    def _store(self, bound: BoundThing, state: InfoTable) -> None:
        """Take the values that the edge tells; a row that doesn't fit is only noted."""
        with self._platform.lock:
            thing = self._platform.things.get(bound.thing)
            for row in state.rows:
                try:
                    if thing is not None:
                        push_values(self._platform, thing, [row], "SynchronizeModelState")
                except PlatformError:
                    # A bad row is noted as rejected where it was refused; the others still count.
                    continue

    def _ended(self, _answer: wire.Response | None = None) -> None:
        self._running -= 1
        self._go_on()


def _model_of(thing: Thing) -> wire.InfoTable:
    """The parameters of SynchronizeModelState: the subscriptions of a Thing."""
    bindings = [thing.binding(definition) for definition in thing.definitions()]
    rows = [
        {
            "edgeName": binding.source_name,
            "pushType": binding.push_type,
            "pushThreshold": binding.push_threshold,
            "startType": binding.start_type,
        }
        for binding in bindings
        if binding is not None
    ]
    row = {"propertyInfo": InfoTable(_PROPERTY_INFO, rows), "eventInfo": InfoTable(_EVENT_INFO)}
    return wire_table(InfoTable(columns("propertyInfo:INFOTABLE eventInfo:INFOTABLE"), [row]))
