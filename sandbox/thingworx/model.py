"""Things, templates, properties, bindings and values: the platform's nouns, without any protocol.

Documented by PTC: the names of the remote templates, the aspects, the built-in properties, that bindings have
an edge-side name that may differ from the property's, and the push types. Inferred: that a template sits
directly under its base (`RemoteThing` under `GenericThing`, the others under `RemoteThing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sandbox.thingworx.basetypes import BASE_TYPES
from sandbox.thingworx.errors import ParameterError, PropertyNotFoundError
from sandbox.thingworx.infotable import Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.thingworx.history import History

__all__ = [
    "PUSH_TYPES",
    "REMOTE_TEMPLATES",
    "VTQ",
    "PropertyDefinition",
    "RemoteBinding",
    "Shape",
    "Template",
    "Thing",
    "remote_property",
]

REMOTE_TEMPLATES: Final = (
    "RemoteThing",
    "RemoteThingWithFileTransfer",
    "RemoteThingWithTunnels",
    "RemoteThingWithTunnelsAndFileTransfer",
    "SDKGateway",
    "EMSGateway",
    "ConnectionServer",
)
PUSH_TYPES: Final = ("ALWAYS", "VALUE", "ON", "OFF", "NEVER", "DEADBAND")
FOLD_TYPES: Final = ("NONE", "FOLD", "QUEUE")
NO_TAGS: Final = Tags()


class VTQ(NamedTuple):
    """A value with its time (ms since 1970 UTC) and quality."""

    value: Any
    time: int
    quality: str


@dataclass(frozen=True, slots=True)
class RemoteBinding:
    """Where a property's value comes from: the edge property `source_name`, and when the edge pushes it.

    `cache_time` and `timeout` in ms (cache -1 = the platform's copy, 0 = ask the edge each time); `fold_type`
    says whether writes wait (QUEUE: all, FOLD: the last) while no edge is connected.
    """

    source_name: str
    push_type: str = "ALWAYS"
    push_threshold: float = 0.0
    cache_time: float = -1.0
    fold_type: str = "NONE"
    timeout: float = 0.0
    start_type: str = "readEdgeValue"
    aspects: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuse push and fold types that the platform doesn't know."""
        if self.push_type not in PUSH_TYPES:
            raise ParameterError(f"[{self.push_type}] is not a push type")
        if self.fold_type not in FOLD_TYPES:
            raise ParameterError(f"[{self.fold_type}] is not a fold type")


@dataclass(frozen=True, slots=True)
class PropertyDefinition:
    """A property as a Thing or template defines it; shared by all Things that have the same one."""

    name: str
    base_type: str = "STRING"
    description: str = ""
    category: str = ""
    is_read_only: bool = False
    is_persistent: bool = False
    is_logged: bool = False
    data_shape: str = ""
    default_value: Any = None
    data_change_type: str = "VALUE"
    data_change_threshold: float = 0.0
    units: str = ""
    is_built_in: bool = False
    binding: RemoteBinding | None = None
    extra_aspects: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuse base types that the platform doesn't know."""
        if self.base_type not in BASE_TYPES:
            raise ParameterError(f"[{self.base_type}] is not a base type")

    def aspects(self) -> dict[str, Any]:
        """The aspects table as the platform's metadata has it."""
        aspects: dict[str, Any] = {
            "isReadOnly": self.is_read_only,
            "isPersistent": self.is_persistent,
            "isLogged": self.is_logged,
            "isBuiltIn": self.is_built_in,
            "dataChangeType": self.data_change_type,
            "dataChangeThreshold": self.data_change_threshold,
        }
        optional = {"dataShape": self.data_shape, "units": self.units}
        aspects |= {name: value for name, value in optional.items() if value}
        if self.default_value is not None:
            aspects["defaultValue"] = self.default_value
        if self.binding is not None:
            aspects |= {
                "cacheTime": self.binding.cache_time,
                "pushType": self.binding.push_type,
                "pushThreshold": self.binding.push_threshold,
            }
        return aspects | dict(self.extra_aspects)


def remote_property(
    name: str,
    base_type: str = "NUMBER",
    category: str = "AWSConnectorBound",
    edge_name: str | None = None,
    push_type: str = "ALWAYS",
    *,
    is_logged: bool = True,
    push_threshold: float = 0.0,
    cache_time: float = -1.0,
    fold_type: str = "NONE",
    **options: Any,
) -> PropertyDefinition:
    """A remotely bound property; `edge_name` is its name at the edge, by default its own."""
    binding = RemoteBinding(edge_name or name, push_type, push_threshold, cache_time, fold_type)
    return PropertyDefinition(
        name, base_type, category=category, is_logged=is_logged, binding=binding, **options
    )


@dataclass(slots=True)
class Shape:
    """A ThingShape: properties that templates take over."""

    name: str
    definitions: dict[str, PropertyDefinition] = field(default_factory=dict)
    last_modified: int = 0


@dataclass(slots=True)
class Template:
    """A ThingTemplate.

    Attributes:
        definitions: What it has in all: of its base, of its shapes, its own.
        own: Its own properties, and its shapes'.
        added: Its own definitions.
        shapes: The ThingShapes it implements.
    """

    name: str
    parent: Template | None = None
    description: str = ""
    is_remote: bool = False
    definitions: dict[str, PropertyDefinition] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    added: dict[str, PropertyDefinition] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    last_modified: int = 0

    def define(self) -> None:
        """Put the definitions together anew: after the base's, a shape's or its own have changed."""
        mine = {name: found for shape in self.shapes for name, found in shape.definitions.items()}
        mine |= self.added
        self.definitions = (self.parent.definitions if self.parent else {}) | mine
        self.own = frozenset(mine)

    def implements(self, shape: str) -> bool:
        """Whether it, or a template above it, has a ThingShape."""
        template: Template | None = self
        while template is not None:
            if any(found.name == shape for found in template.shapes):
                return True
            template = template.parent
        return False

    def ancestry(self) -> Iterator[str]:
        """Its own name, then its base's, up to the root."""
        template: Template | None = self
        while template is not None:
            yield template.name
            template = template.parent

    def source_of(self, property_name: str) -> str:
        """The template in the ancestry that defines the property."""
        template = self
        while property_name not in template.own and template.parent is not None:
            template = template.parent
        return template.name


@dataclass(slots=True, eq=False)
class Thing:
    """One Thing: what it is, and the values it has.

    Attributes:
        own: Properties defined on the Thing itself.
        rebound: Bindings set or (None) removed after definition, by property.
        values: Current values by property; only what was ever written.
        history: Logged values, once there is one.
        waiting: Writes that wait for an edge (fold types QUEUE and FOLD).
    """

    name: str
    template: Template
    description: str = ""
    tags: Tags = NO_TAGS
    identifier: str = ""
    project: str = ""
    enabled: bool = True
    last_modified: int = 0
    own: dict[str, PropertyDefinition] = field(default_factory=dict)
    rebound: dict[str, RemoteBinding | None] | None = None
    values: dict[str, VTQ] = field(default_factory=dict)
    history: History | None = None
    waiting: list[Any] = field(default_factory=list)
    _by_edge_name: dict[str, PropertyDefinition] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether an edge can be bound to it."""
        return self.template.is_remote

    def definitions(self) -> Iterator[PropertyDefinition]:
        """All properties, inherited ones first."""
        yield from (d for name, d in self.template.definitions.items() if name not in self.own)
        yield from self.own.values()

    def definition(self, name: str) -> PropertyDefinition:
        """The property of that name.

        Raises:
            PropertyNotFoundError: There is none.
        """
        found = self.own.get(name) or self.template.definitions.get(name)
        if found is None:
            raise PropertyNotFoundError(name, self.name)
        return found

    def source_of(self, name: str) -> tuple[str, str]:
        """Who defines a property: (entity type, entity name)."""
        if name in self.own:
            return "Thing", self.name
        return "ThingTemplate", self.template.source_of(name)

    def binding(self, definition: PropertyDefinition) -> RemoteBinding | None:
        """The property's remote binding, or None when it's not bound."""
        if self.rebound is not None and definition.name in self.rebound:
            return self.rebound[definition.name]
        return definition.binding

    def by_edge_name(self, edge_name: str) -> PropertyDefinition | None:
        """The bound property of that edge name, or None."""
        if self._by_edge_name is None:
            self._by_edge_name = {
                binding.source_name: definition
                for definition in self.definitions()
                if (binding := self.binding(definition)) is not None
            }
        return self._by_edge_name.get(edge_name)

    def definitions_changed(self, now: int) -> None:
        """Note a change of properties or bindings at `now` (ms)."""
        self._by_edge_name = None
        self.last_modified = now

    def template_changed(self) -> None:
        """Note a change of the template's properties, which leaves the time of the Thing's own as it is."""
        self._by_edge_name = None
