"""BIND and UNBIND: which names a connection gets, and why not.

Documented by PTC: a Thing with an identifier must be bound by it; names that match nothing become unbound
Things; which of two connections has a Thing is the platform's policy; a gateway whose name no Thing has
becomes a Thing of its template until it is unbound, if the template is a gateway's. Seen in the vendor's
clients: one answer for the whole message, without a word about single names. Inferred: the statuses and
texts, that a group is refused as a whole, and that an unbound name is bound once a Thing has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from lambdas.thingworx.alwayson import Method, Response, Status
from sandbox.thingworx.alwayson_edge import BoundThing
from sandbox.thingworx.alwayson_requests import Outcome, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lambdas.thingworx.alwayson import Bind
    from sandbox.thingworx.alwayson_connection import Connection
    from sandbox.thingworx.faults import FaultRule
    from sandbox.thingworx.model import Thing

__all__ = ["Binder"]

_GATEWAYS: Final = frozenset({"SDKGateway", "EMSGateway"})


class _Refusal(NamedTuple):
    """Why a name isn't bound: HTTP-like status, key in the counters, text."""

    status: int
    key: str
    text: str


class Binder:
    """The Things of one connection; used in the server's thread.

    Attributes:
        things: By the Thing's name.
    """

    def __init__(self, connection: Connection) -> None:
        self.things: dict[str, BoundThing] = {}
        self._connection = connection
        self._platform = connection.platform
        self._names: dict[str, str] = {}
        self._unbound: set[str] = set()
        self._gateways: set[str] = set()

    def resolve(self, entity: str) -> str:
        """The Thing that a client means by its name, `*identifier`, or bare identifier if it bound that."""
        if entity in self._platform.things:
            return entity
        known = self._names.get(entity) or self._names.get(f"*{entity}")
        if known is None and entity.startswith("*"):
            known = self._identified([entity]).get(entity[1:])
        return known or entity

    def serve(self, message: Bind, rules: Mapping[str, FaultRule]) -> Outcome:
        """Bind or unbind; `rules` refuse single names."""
        with self._platform.lock:
            if message.method is Method.UNBIND:
                return self._unbind(message)
            return self._bind(message, rules)

    def release(self) -> None:
        """Unbind everything, as at the end of the connection."""
        with self._platform.lock:
            for name in self._unbound:
                self._platform.unbound.pop(name, None)
            self._unbound.clear()
            for name in list(self.things):
                self._drop(name)

    def _identified(self, names: list[str] | tuple[str, ...]) -> dict[str, str]:
        """Things by identifier, when one is asked for."""
        if not any(name.startswith("*") for name in names):
            return {}
        return {thing.identifier: name for name, thing in self._platform.things.items() if thing.identifier}

    def _bind(self, message: Bind, rules: Mapping[str, FaultRule]) -> Outcome:
        settings, counters = self._platform.settings, self._connection.counters
        counters.add("bind_messages")
        if message.gateway is not None:
            self._make_gateway(message.gateway.name, message.gateway.type)
        names = [*message.names, *([message.gateway.name] if message.gateway else [])]
        identified = self._identified(names)
        found = {name: identified.get(name[1:]) if name.startswith("*") else name for name in names}
        things = {name: self._platform.things.get(thing or "") for name, thing in found.items()}
        refused: list[_Refusal] = []
        taken: list[str] = []
        for name, thing in things.items():
            refusal = self._refusal(name, thing, rules.get(name))
            if refusal is None:
                taken.append(name)
            else:
                refused.append(refusal)
                counters.refused[refusal.key] += 1
        if refused and (settings.bind_policy == "all-or-nothing" or not taken):
            return Outcome(Response(message.ids, code_of(refused[0].status), refused[0].text))
        bound = [link for name in taken if (link := self._take(name, things[name])) is not None]
        return Outcome(
            Response(message.ids, Status.SUCCESS), then=lambda: self._connection.synchroniser.start(bound)
        )

    def _refusal(self, name: str, thing: Thing | None, rule: FaultRule | None) -> _Refusal | None:
        if rule is not None and rule.status is not None:
            return _Refusal(rule.status, "fault", rule.body or "Unable to bind")
        settings = self._platform.settings
        if thing is None:
            if settings.unknown_bind == "accept":
                return None
            return _Refusal(404, "unknown", "Unable to bind: no such Thing")
        owner = self._platform.edges.get(thing.name)
        held = owner is not None and owner is not self.things.get(thing.name)
        checks = (
            (thing.name in self._platform.invisible, _Refusal(403, "invisible", "Not authorized to bind")),
            (not thing.is_remote, _Refusal(403, "not_remote", "Unable to bind: not a remote Thing")),
            (not thing.enabled, _Refusal(503, "disabled", "Unable to bind: the Thing is not enabled")),
            (
                bool(thing.identifier) and not name.startswith("*"),
                _Refusal(400, "has_identifier", "Unable to bind: the Thing has an identifier"),
            ),
            (
                held and settings.bind_protection == "first-in-wins",
                _Refusal(409, "bound_elsewhere", "Unable to bind: bound by another connection"),
            ),
        )
        return next((refusal for applies, refusal in checks if applies), None)

    def _take(self, name: str, thing: Thing | None) -> BoundThing | None:
        counters = self._connection.counters
        counters.add("binds")
        if thing is None:
            self._unbound.add(name)
            self._platform.unbound[name] = self._retry(name)
            return None
        owner = self._platform.edges.get(thing.name)
        if owner is not None and owner is not self.things.get(thing.name):
            counters.add("takeovers")
        link = BoundThing(self._connection, thing.name, name)
        self.things[thing.name] = link
        self._names[name] = thing.name
        self._platform.bind_edge(thing.name, link)
        return link

    def _retry(self, name: str) -> Callable[[], None]:
        """What binds an unbound name once a Thing has it."""

        def appeared() -> None:
            with self._platform.lock:
                thing_name = self._identified([name]).get(name[1:]) if name.startswith("*") else name
                thing = self._platform.things.get(thing_name or "")
                if name not in self._unbound or thing is None or self._refusal(name, thing, None):
                    return
                self._unbound.discard(name)
                self._platform.unbound.pop(name, None)
                link = self._take(name, thing)
            self._connection.synchroniser.start([link] if link else [])

        return lambda: self._connection.in_loop(appeared)

    def _unbind(self, message: Bind) -> Outcome:
        identified = self._identified(message.names)
        for name in message.names:
            self._connection.counters.add("unbinds")
            if name in self._unbound:
                self._unbound.discard(name)
                self._platform.unbound.pop(name, None)
            thing = identified.get(name[1:]) if name.startswith("*") else name
            if thing in self.things:
                self._drop(thing)
            self._names.pop(name, None)
        if message.gateway is not None and message.gateway.name in self.things:
            self._drop(message.gateway.name)
        return Outcome(Response(message.ids, Status.SUCCESS))

    def _drop(self, thing: str) -> None:
        self._platform.unbind_edge(thing, self.things.pop(thing))
        if thing in self._gateways and thing in self._platform.things:
            self._gateways.discard(thing)
            self._platform.delete_thing(thing)

    def _make_gateway(self, name: str, template: str) -> None:
        known = self._platform.templates.get(template)
        if name in self._platform.things or known is None or not _GATEWAYS.intersection(known.ancestry()):
            return
        self._platform.add_thing(name, template, tags=())
        self._gateways.add(name)
