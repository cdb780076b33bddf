"""The simulated platform: its Things, templates, vocabularies and connected edges. No protocol, no I/O.

Every public method takes the platform's lock, so that tests may use it while a front end serves. Use
`with platform.lock:` around several calls that belong together.

Inferred rather than documented: a tag of an unknown vocabulary or term creates it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sandbox.thingworx import templates
from sandbox.thingworx.basetypes import parse_tags
from sandbox.thingworx.errors import AccessDeniedError, EntityNotFoundError, ParameterError
from sandbox.thingworx.history import WriteLog
from sandbox.thingworx.model import NO_TAGS, VTQ, PropertyDefinition, Shape, Template, Thing
from sandbox.thingworx.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from concurrent.futures import Future

    from sandbox.thingworx.infotable import Tags

__all__ = ["EdgeLink", "EdgeWrite", "Platform", "Settings", "Transition"]

_CACHED_SELECTIONS: Final = 32
_KEPT_TRANSITIONS: Final = 100_000
_KEPT_EVENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class EdgeWrite:
    """A write forwarded to a Thing's edge: the edge's property name, and the value in native form."""

    thing: str
    property: str
    edge_name: str
    base_type: str
    value: Any


class EdgeLink(Protocol):
    """A connected edge, as the platform uses it."""

    def write(self, write: EdgeWrite) -> Future[None]:
        """Hand a write to the edge; the future ends when the edge answered, with its refusal as exception.

        Called with the platform's lock held: must not wait.
        """
        ...

    def read(self, edge_name: str) -> Future[Any]:
        """Ask the edge for a property's value, by the edge's name for it; likewise."""
        ...

    def model_changed(self) -> None:
        """The Thing was restarted, or its properties or bindings changed; likewise."""
        ...


class Transition(NamedTuple):
    """A change of a Thing's isConnected: `time` in ms since 1970 UTC; `sequence` counts from 1."""

    sequence: int
    time: int
    thing: str
    connected: bool


class Platform:
    """All entities and values of one simulated platform.

    Args:
        settings: Switches; may be changed while it runs (limits count from the start).
        clock: Milliseconds since 1970 UTC.
        app_keys: The application keys that are accepted.

    Attributes:
        invisible: Things that edges may not see: binding them or asking for them is refused.
        unbound: Names that edges bound although no Thing has them, with what binds them once one has.
        transitions: Changes of isConnected, oldest first; the last 100,000.
        events: Events that edges sent, as (thing, event, values); the last 10,000.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        clock: Callable[[], int] | None = None,
        app_keys: Iterable[str] = (),
    ) -> None:
        self.settings = settings or Settings()
        self.app_keys = set(app_keys)
        self.now = clock or (lambda: time.time_ns() // 1_000_000)
        self.lock = threading.RLock()
        self.things: dict[str, Thing] = {}
        self.templates: dict[str, Template] = templates.built_in()
        self.shapes: dict[str, Shape] = {}
        self.vocabularies: dict[str, dict[str, None]] = {}
        self.edges: dict[str, EdgeLink] = {}
        self.invisible: set[str] = set()
        self.unbound: dict[str, Callable[[], None]] = {}
        self.transitions: deque[Transition] = deque(maxlen=_KEPT_TRANSITIONS)
        self.events: deque[tuple[str, str, Any]] = deque(maxlen=_KEPT_EVENTS)
        self.log = WriteLog(self.settings.log_limit)
        self._transitions = 0
        self._selections: OrderedDict[Hashable, list[Thing]] = OrderedDict()

    # Entities

    def add_template(
        self,
        name: str,
        base: str = "RemoteThing",
        properties: Iterable[PropertyDefinition] = (),
        shapes: Iterable[str] = (),
    ) -> Template:
        """Define a ThingTemplate under `base`; define it before its Things.

        Raises:
            EntityNotFoundError: No such base or shape.
            ParameterError: The name is taken.
        """
        with self.lock:
            if name in self.templates:
                raise ParameterError(f"ThingTemplate [{name}] already exists")
            made = templates.derive(
                name, self.template(base), properties, shapes=[self.shape(shape) for shape in shapes]
            )
            made.last_modified = self.now()
            self.templates[name] = made
            return made

    def add_shape(self, name: str, properties: Iterable[PropertyDefinition] = ()) -> Shape:
        """Define a ThingShape, for templates to implement.

        Raises:
            ParameterError: The name is taken.
        """
        with self.lock:
            if name in self.shapes:
                raise ParameterError(f"ThingShape [{name}] already exists")
            self.shapes[name] = Shape(name, {found.name: found for found in properties}, self.now())
            return self.shapes[name]

    def edit_template(self, name: str, *properties: PropertyDefinition, removed: Iterable[str] = ()) -> None:
        """Add or replace properties of a template itself, and remove some; its Things follow at once.

        Raises:
            EntityNotFoundError: No such template.
        """
        with self.lock:
            template = self.template(name)
            self._edit(template.added, properties, removed)
            template.last_modified = self.now()
            self._redefine()

    def edit_shape(self, name: str, *properties: PropertyDefinition, removed: Iterable[str] = ()) -> None:
        """Add or replace properties of a ThingShape, and remove some; its Things follow at once.

        Raises:
            EntityNotFoundError: No such shape.
        """
        with self.lock:
            shape = self.shape(name)
            self._edit(shape.definitions, properties, removed)
            shape.last_modified = self.now()
            self._redefine()

    def _edit(
        self,
        definitions: dict[str, PropertyDefinition],
        properties: Iterable[PropertyDefinition],
        removed: Iterable[str],
    ) -> None:
        definitions.update((found.name, found) for found in properties)
        for name in removed:
            definitions.pop(name, None)

    def _redefine(self) -> None:
        """Bases come before what is derived from them: a template is added under one that is there."""
        for template in self.templates.values():
            template.define()
        for thing in self.things.values():
            thing.template_changed()
            link = self.edges.get(thing.name)
            if link is not None:
                link.model_changed()

    def add_thing(
        self,
        name: str,
        template: str = "RemoteThing",
        tags: Any = ("AWS_CONNECTED_THING:AWS_CONNECTED_THING",),
        properties: Iterable[PropertyDefinition] = (),
        *,
        description: str = "",
        identifier: str = "",
        project: str = "PTCDefaultProject",
        enabled: bool = True,
    ) -> Thing:
        """Create a Thing, by default a usable remote one with the connector's tag.

        Raises:
            EntityNotFoundError: No such template.
            ParameterError: The name is empty or taken, or a tag isn't `vocabulary:term`.
        """
        with self.lock:
            if not name or name in self.things:
                raise ParameterError(f"Thing [{name}] already exists" if name else "A Thing needs a name")
            thing = Thing(name, self.template(template), description, NO_TAGS, identifier, project, enabled)
            thing.own = {definition.name: definition for definition in properties}
            thing.last_modified = self.now()
            self.things[name] = thing
            self.set_tags(thing, parse_tags(tags))
            self.appeared(thing)
            return thing

    def appeared(self, thing: Thing) -> None:
        """Let an edge that bound this Thing's name or identifier before there was such a Thing have it."""
        for name in (thing.name, f"*{thing.identifier}"):
            if name in self.unbound:
                self.unbound[name]()

    def delete_thing(self, name: str) -> None:
        """Delete a Thing with its values; its edge, if any, is bound to nothing from then on.

        Raises:
            EntityNotFoundError: No such Thing.
        """
        with self.lock:
            self.thing(name)
            del self.things[name]
            self.edges.pop(name, None)
            self._selections.clear()

    def thing(self, name: str) -> Thing:
        """The Thing of that name.

        Raises:
            EntityNotFoundError: There is none.
        """
        found = self.things.get(name)
        if found is None:
            raise EntityNotFoundError(f"Thing [{name}] Not Found")
        return found

    def template(self, name: str) -> Template:
        """The template of that name.

        Raises:
            EntityNotFoundError: There is none.
        """
        found = self.templates.get(name)
        if found is None:
            raise EntityNotFoundError(f"ThingTemplate [{name}] Not Found")
        return found

    def shape(self, name: str) -> Shape:
        """The ThingShape of that name.

        Raises:
            EntityNotFoundError: There is none.
        """
        found = self.shapes.get(name)
        if found is None:
            raise EntityNotFoundError(f"ThingShape [{name}] Not Found")
        return found

    def set_tags(self, thing: Thing, tags: Tags) -> None:
        """Replace a Thing's tags."""
        with self.lock:
            for tag in tags:
                vocabulary, _, term = tag.partition(":")
                self.vocabularies.setdefault(vocabulary, {})[term] = None
            thing.tags = tags
            thing.last_modified = self.now()
            self._selections.clear()

    def set_identifier(self, thing: Thing, identifier: str) -> None:
        """Set the identifier under which an edge may bind; empty takes it away."""
        with self.lock:
            thing.identifier = identifier
            thing.last_modified = self.now()
            self._selections.clear()
            self.appeared(thing)

    def select(self, key: Hashable, matches: Callable[[Thing], bool]) -> list[Thing]:
        """Things that match, by name; remembered under `key` until a Thing comes, goes or is tagged anew.

        Paging through a large fleet asks for the same selection page after page.
        """
        with self.lock:
            found = self._selections.get(key)
            if found is None:
                found = [self.things[name] for name in sorted(self.things) if matches(self.things[name])]
                self._selections[key] = found
                while len(self._selections) > _CACHED_SELECTIONS:
                    self._selections.popitem(last=False)
            return found

    # Definitions

    def define(self, thing: Thing, definition: PropertyDefinition) -> None:
        """Add a property to a Thing, or replace its own one of that name."""
        with self.lock:
            thing.own[definition.name] = definition
            if thing.rebound is not None:
                thing.rebound.pop(definition.name, None)
            self.model_changed(thing)

    def undefine(self, thing: Thing, name: str) -> None:
        """Remove a Thing's own property, with its current value.

        Raises:
            PropertyNotFoundError: No such property.
            AccessDeniedError: It is inherited.
        """
        with self.lock:
            thing.definition(name)
            if name not in thing.own:
                raise AccessDeniedError(f"Property [{name}] is inherited by Thing [{thing.name}]")
            del thing.own[name]
            thing.values.pop(name, None)
            self.model_changed(thing)

    def model_changed(self, thing: Thing) -> None:
        """Note that a Thing was restarted, or its properties or bindings changed; its edge is told."""
        with self.lock:
            thing.definitions_changed(self.now())
            link = self.edges.get(thing.name)
            if link is not None:
                link.model_changed()

    # Edges

    def bind_edge(self, thing_name: str, link: EdgeLink) -> None:
        """Connect an edge to a Thing: isConnected turns true, and writes that waited are handed over.

        Raises:
            EntityNotFoundError: No such Thing.
            AccessDeniedError: Its template isn't remote.
        """
        with self.lock:
            thing = self.thing(thing_name)
            if not thing.is_remote:
                raise AccessDeniedError(f"Thing [{thing_name}] is not a remote Thing")
            self.edges[thing_name] = link
            self._connection(thing, connected=True)
            waiting, thing.waiting = thing.waiting, []
            for write in waiting:
                link.write(write)

    def unbind_edge(self, thing_name: str, link: EdgeLink) -> None:
        """Disconnect an edge; nothing happens when another one has taken its place."""
        with self.lock:
            if self.edges.get(thing_name) is link:
                del self.edges[thing_name]
                self._connection(self.thing(thing_name), connected=False)

    def _connection(self, thing: Thing, *, connected: bool) -> None:
        now = self.now()
        known = thing.values.get("isConnected")
        if (known is not None and known.value) != connected:
            self._transitions += 1
            self.transitions.append(Transition(self._transitions, now, thing.name, connected))
            thing.values["isConnected"] = VTQ(connected, now, "GOOD")
        if connected:
            thing.values["lastConnection"] = VTQ(now, now, "GOOD")
