"""A platform made of the codec: takes frames, gives frames, and does what a test tells it to."""

# ruff: noqa: D102 - names say what the platform does
from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lambdas.thingworx.alwayson import (
    Auth,
    BaseType,
    Bind,
    Characteristic,
    EntityType,
    Ids,
    InfoTable,
    Message,
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

SUBSCRIPTIONS = {
    "edgeName": BaseType.STRING,
    "pushType": BaseType.STRING,
    "pushThreshold": BaseType.NUMBER,
}
KEY = "1234-secret-key"


def subscriptions(**by_edge_name: Any) -> InfoTable:
    """Table of subscriptions: `temp="ALWAYS"`, or `temp=("VALUE", 0.5)`."""
    rows = []
    for name, wish in by_edge_name.items():
        kind, threshold = wish if isinstance(wish, tuple) else (wish, 0.0)
        rows.append({"edgeName": name, "pushType": kind, "pushThreshold": threshold})
    return InfoTable.build(SUBSCRIPTIONS, rows)


@dataclass
class Peer:
    """The platform's side of connections, one after the other.

    Attributes:
        mode: how a bound Thing is synchronised: `current`, `legacy`, or `silent`.
        wishes: Thing -> its subscriptions; others get `default`.
        invisible: names that are refused.
        per_name: a refused name fails itself alone, and without a word; otherwise its whole BIND.
        taken: names that another connection has bound.
        identifiers: Thing -> identifier; such a Thing can't be bound by name.
        judge: answers pushes: (Thing, rows) -> status, or (status, reason).
        key: the key that is accepted.
        endpoint: endpoint id of answers to requests that named none.
        bound: names that are bound now, as they were bound.
        stored: (Thing, edge name, time, value), in order.
        heard: all messages of all connections.
        replies: responses to requests of the platform, by request id.
    """

    mode: str = "current"
    wishes: dict[str, InfoTable] = field(default_factory=dict)
    default: InfoTable = field(default_factory=lambda: subscriptions(temp="ALWAYS"))
    invisible: set[str] = field(default_factory=set)
    per_name: bool = False
    taken: set[str] = field(default_factory=set)
    identifiers: dict[str, str] = field(default_factory=dict)
    judge: Callable[[str, list[dict[str, Any]]], int] = lambda _thing, _rows: Status.SUCCESS
    key: str = KEY
    endpoint: int | None = None
    silent_services: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    stored: list[tuple[str, str, int, Any]] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    replies: dict[int, Response] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """No connection yet."""
        self.session = 100
        self.numbers = itertools.count(1)
        self.last_number = 0
        self.reassembler = Reassembler(lambda: 0.0)

    def connect(self) -> None:
        """A new connection: what was bound is not bound any more."""
        self.session += 1
        self.bound.clear()
        self.reassembler = Reassembler(lambda: 0.0)

    def handle(self, frame: bytes) -> list[bytes]:
        """Frames that answer a frame."""
        assert len(frame) <= 8192
        message = self.reassembler.receive(frame)
        if message is None:
            return []
        self.heard.append(message)
        match message:
            case Auth():
                return self.authenticate(message)
            case Bind():
                assert message.ids.session == self.session
                return self.bind(message)
            case Request():
                assert message.ids.session == self.session
                return self.serve(message)
            case Response():
                self.replies[message.ids.request] = message
                return []
        raise AssertionError(message)

    def authenticate(self, message: Auth) -> list[bytes]:
        if message.claims["appKey"] != self.key:
            return self.respond(message.ids, Status.UNAUTHORIZED, f"{message.claims['appKey']} is no key")
        return self.respond(message.ids._replace(session=self.session), Status.SUCCESS)

    def bind(self, message: Bind) -> list[bytes]:
        if message.method is Method.UNBIND:
            self.bound.difference_update(message.names)
            return self.respond(message.ids, Status.SUCCESS)
        refused = [name for name in message.names if self.refuses(name)]
        if refused and (not self.per_name or len(refused) == len(message.names)):
            if refused[0] in self.taken:
                return self.respond(message.ids, Status.CONFLICT, "bound by another connection")
            return self.respond(message.ids, Status.FORBIDDEN, "not visible")
        frames = self.respond(message.ids, Status.SUCCESS)
        for name in message.names:
            if name in refused:
                continue
            self.bound.add(name)
            frames += self.synchronise(name)
        return frames

    def refuses(self, name: str) -> bool:
        if name.startswith("*"):
            return name[1:] not in self.identifiers.values()
        return name in self.invisible | self.taken or name in self.identifiers

    def synchronise(self, name: str) -> list[bytes]:
        if self.mode == "silent":
            return []
        if self.mode == "legacy":
            return self.ask(name, "NotifyPropertyUpdate")
        state = Value(BaseType.INFOTABLE, self.wishes.get(name, self.default))
        return self.ask(name, "GetMetadata") + self.ask(
            name, "SynchronizeModelState", InfoTable.of({"propertyInfo": state})
        )

    def ask(self, name: str, service: str, params: InfoTable | None = None) -> list[bytes]:
        """A request of the platform that calls a service of an edge Thing."""
        return self.request(Method.POST, name, Characteristic.SERVICES, service, params)

    def request(
        self,
        method: Method,
        name: str,
        characteristic: Characteristic,
        target: str,
        params: InfoTable | None = None,
    ) -> list[bytes]:
        """A request of the platform; endpoint ids are the platform's own business."""
        self.last_number = next(self.numbers)
        ids = Ids(self.last_number, 0x8000_0001, self.session)
        return encode_message(Request(ids, method, EntityType.THINGS, name, characteristic, target, params))

    def serve(self, message: Request) -> list[bytes]:
        if message.target in self.silent_services:
            return []
        if message.target == "GetPropertySubscriptions":
            if message.entity_name in self.invisible:
                return self.respond(message.ids, Status.NOT_FOUND, "no such Thing")
            wishes = self.wishes.get(message.entity_name, self.default)
            return self.respond(message.ids, Status.SUCCESS, None, wishes)
        if message.target == "GetIdentifier":
            identifier = self.identifiers.get(message.entity_name, "")
            result = InfoTable.of({"result": Value(BaseType.STRING, identifier)})
            return self.respond(message.ids, Status.SUCCESS, None, result)
        assert message.target == "UpdateSubscribedPropertyValues"
        assert message.params is not None
        rows = list(message.params.first("values").value.records())
        status = self.judge(message.entity_name, rows)
        if status == Status.SUCCESS:
            for row in rows:
                self.stored.append(
                    (message.entity_name, row["name"].value, row["time"].value, row["value"].value.value)
                )
        return self.respond(message.ids, status)

    def respond(
        self, ids: Ids, status: int, reason: str | None = None, content: InfoTable | None = None
    ) -> list[bytes]:
        if self.endpoint is not None and ids.endpoint == 0:
            ids = ids._replace(endpoint=self.endpoint)
        return encode_message(Response(ids, status, reason, content))

    def binds(self) -> list[tuple[str, ...]]:
        """Names of each BIND message, in order."""
        return [m.names for m in self.heard if isinstance(m, Bind) and m.method is Method.BIND]

    def calls(self, service: str) -> list[str]:
        """Things whose service was called, in order."""
        return [m.entity_name for m in self.heard if isinstance(m, Request) and m.target == service]


@dataclass
class Forgetful(Peer):
    """Each BIND makes a new binding; what is pushed before that is synchronised is acknowledged and lost.

    Attributes:
        lost: Things of which values were lost.
        bindings: Thing -> number of its latest binding.
        synchronised: bindings that are.
        asked: the binding that a SynchronizeModelState is about, by request id.
    """

    lost: list[str] = field(default_factory=list)
    bindings: dict[str, int] = field(default_factory=dict)
    synchronised: set[tuple[str, int]] = field(default_factory=set)
    asked: dict[int, tuple[str, int]] = field(default_factory=dict)

    def handle(self, frame: bytes) -> list[bytes]:
        frames = super().handle(frame)
        heard = self.heard[-1]
        if isinstance(heard, Response) and heard.ids.request in self.asked:
            self.synchronised.add(self.asked[heard.ids.request])
        return frames

    def bind(self, message: Bind) -> list[bytes]:
        if message.method is Method.BIND:
            for name in message.names:
                self.bindings[name] = self.bindings.get(name, 0) + 1
        return super().bind(message)

    def ask(self, name: str, service: str, params: InfoTable | None = None) -> list[bytes]:
        frames = super().ask(name, service, params)
        if service == "SynchronizeModelState":
            self.asked[self.last_number] = (name, self.bindings[name])
        return frames

    def serve(self, message: Request) -> list[bytes]:
        binding = (message.entity_name, self.bindings.get(message.entity_name, 0))
        if message.target == "GetPropertySubscriptions":
            self.synchronised.add(binding)
        if message.target == "UpdateSubscribedPropertyValues" and binding not in self.synchronised:
            self.lost.append(message.entity_name)
            return self.respond(message.ids, Status.SUCCESS)
        return super().serve(message)
