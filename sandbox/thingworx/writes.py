"""How values get into Things, and what a write to a remotely bound property does instead.

Documented by PTC: a write to a remotely bound property is only forwarded to the edge and changes nothing on
the platform; `UpdateSubscribedPropertyValues` (remote Things only, names are edge names) stores value, time
and quality; values can't be null; several rows of one property are processed one by one. Inferred: the
current value never goes back in time (an older value goes to the history only), a row that doesn't fit is
skipped without a word in the reply, rows before a failing one stay stored, and
an edge's own UpdatePropertyValues and PUT store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.basetypes import convert, parse_datetime, unwrap_variant
from sandbox.thingworx.errors import (
    AccessDeniedError,
    EdgeUnavailableError,
    PlatformError,
    PropertyNotFoundError,
    ThingNotEnabledError,
    ValueConversionError,
)
from sandbox.thingworx.history import History
from sandbox.thingworx.infotable import Tags
from sandbox.thingworx.model import VTQ
from sandbox.thingworx.platform import EdgeWrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from sandbox.thingworx.model import PropertyDefinition, RemoteBinding, Thing
    from sandbox.thingworx.platform import EdgeLink, Platform

__all__ = [
    "QUALITIES",
    "WriteBatch",
    "check_enabled",
    "current",
    "push_values",
    "set_values",
    "update_values",
]

QUALITIES: Final = frozenset({"GOOD", "BAD", "UNKNOWN", "OUT_OF_RANGE", "UNVERIFIED_SOURCE"})
_DEFAULTS: Final[dict[str, Any]] = {
    "NUMBER": 0.0,
    "INTEGER": 0,
    "LONG": 0,
    "BOOLEAN": False,
    "DATETIME": 0,
    "TAGS": Tags(),
    "LOCATION": {"latitude": 0.0, "longitude": 0.0, "elevation": 0.0, "units": "WGS84"},
}
_TEXT_DEFAULT: Final = frozenset(
    {"STRING", "TEXT", "HTML", "HYPERLINK", "GUID", "THINGNAME", "THINGTEMPLATENAME"}
)


@dataclass(slots=True)
class WriteBatch:
    """What one call did: values stored, and writes on their way to the edge.

    A front end waits for `forwards` before it answers: the edge's refusal is the client's.
    """

    stored: int = 0
    forwards: list[Future[None]] = field(default_factory=list)


def current(platform: Platform, thing: Thing, definition: PropertyDefinition) -> VTQ:
    """The current value; one that was never written has its default, time 0 and quality UNKNOWN."""
    with platform.lock:
        known = thing.values.get(definition.name)
        if known is not None:
            return known
        if definition.is_built_in:
            return VTQ(_built_in_value(thing, definition), thing.last_modified, "GOOD")
        default = definition.default_value
        if default is None:
            default = "" if definition.base_type in _TEXT_DEFAULT else _DEFAULTS.get(definition.base_type)
        return VTQ(default, 0, "UNKNOWN")


def _built_in_value(thing: Thing, definition: PropertyDefinition) -> Any:
    attributes = {
        "name": thing.name,
        "description": thing.description,
        "thingTemplate": thing.template.name,
        "tags": thing.tags,
    }
    return attributes.get(definition.name, _DEFAULTS.get(definition.base_type))


def set_values(
    platform: Platform,
    thing: Thing,
    values: Mapping[str, Any],
    service: str,
    origin: EdgeLink | None = None,
) -> WriteBatch:
    """Write properties by name with the platform's time: PUT, SetPropertyValues.

    What the Thing's own edge (`origin`) writes to properties bound to it is stored, not sent back to it.

    Raises:
        PlatformError: Unknown or read-only property, value that doesn't fit, Thing switched off, no edge.
            What came before the offending property stays written.
    """
    with platform.lock:
        writer = _Writer(platform, thing, service, origin)
        for name, value in values.items():
            definition = thing.definition(name)
            if definition.is_read_only:
                raise AccessDeniedError(f"Property [{name}] on Thing [{thing.name}] is read-only")
            writer.store_or_forward(definition, VTQ(writer.convert(value, definition), writer.now, "GOOD"))
        return writer.batch


def update_values(
    platform: Platform,
    thing: Thing,
    rows: Iterable[Mapping[str, Any]],
    service: str,
    origin: EdgeLink | None = None,
) -> WriteBatch:
    """Write NamedVTQ rows by property name: UpdatePropertyValues; `origin` as for `set_values`.

    Raises:
        PlatformError: Thing switched off, no edge for a bound property; a bad row when the settings say so.
    """
    with platform.lock:
        writer = _Writer(platform, thing, service, origin)
        for row in rows:
            name = str(row.get("name"))
            try:
                definition = thing.definition(name)
                vtq = writer.vtq(row, definition)
            except (PropertyNotFoundError, ValueConversionError) as error:
                writer.refuse(name, error, platform.settings.bad_value)
                continue
            writer.store_or_forward(definition, vtq)
        return writer.batch


def push_values(
    platform: Platform, thing: Thing, rows: Iterable[Mapping[str, Any]], service: str
) -> WriteBatch:
    """Store NamedVTQ rows by edge name, as an edge pushes them: UpdateSubscribedPropertyValues.

    Raises:
        PlatformError: Thing switched off; a bad row or unknown name when the settings say so.
    """
    with platform.lock:
        writer = _Writer(platform, thing, service)
        for row in rows:
            name = str(row.get("name"))
            definition = thing.by_edge_name(name)
            if definition is None:
                writer.refuse(
                    name, PropertyNotFoundError(name, thing.name), platform.settings.unknown_edge_name
                )
                continue
            try:
                vtq = writer.vtq(row, definition)
            except ValueConversionError as error:
                writer.refuse(name, error, platform.settings.bad_value)
                continue
            writer.store(definition, vtq)
        return writer.batch


def check_enabled(thing: Thing) -> None:
    """Refuse a Thing that is switched off.

    Raises:
        ThingNotEnabledError: It is.
    """
    if not thing.enabled:
        raise ThingNotEnabledError(thing.name)


class _Writer:
    """One call's writes to one Thing; all of them are received at the same moment."""

    def __init__(
        self, platform: Platform, thing: Thing, service: str, origin: EdgeLink | None = None
    ) -> None:
        check_enabled(thing)
        self.now = platform.now()
        self.batch = WriteBatch()
        self._platform = platform
        self._thing = thing
        self._service = service
        self._origin = origin
        self._strict = platform.settings.strict_base_types

    def convert(self, value: Any, definition: PropertyDefinition) -> Any:
        return convert(unwrap_variant(value), definition.base_type, strict=self._strict)

    def vtq(self, row: Mapping[str, Any], definition: PropertyDefinition) -> VTQ:
        value = self.convert(row.get("value"), definition)
        time = row.get("time")
        try:
            moment = self.now if time is None else parse_datetime(time)
        except ValueError as error:
            raise ValueConversionError(time, "DATETIME", str(error)) from error
        quality = str(row.get("quality") or "GOOD")
        return VTQ(value, moment, quality if quality in QUALITIES else "UNKNOWN")

    def refuse(self, name: str, error: PlatformError, policy: str) -> None:
        self._platform.log.reject(self._thing.name, name, str(error), self._service)
        if policy == "fail":
            raise error

    def store_or_forward(self, definition: PropertyDefinition, vtq: VTQ) -> None:
        thing = self._thing
        binding = thing.binding(definition)
        link = self._platform.edges.get(thing.name)
        if binding is None or (link is not None and link is self._origin):
            self.store(definition, vtq)
            return
        write = EdgeWrite(thing.name, definition.name, binding.source_name, definition.base_type, vtq.value)
        if link is not None:
            self.batch.forwards.append(link.write(write))
        elif not _keep_for_later(thing, binding, write):
            raise EdgeUnavailableError(thing.name)

    def store(self, definition: PropertyDefinition, vtq: VTQ) -> None:
        name, thing = definition.name, self._thing
        known = thing.values.get(name)
        if known is None or vtq.time >= known.time:
            thing.values[name] = vtq
        if definition.is_logged:
            if thing.history is None:
                thing.history = History(self._platform.settings.history_limit)
            thing.history.add(name, vtq)
        self._platform.log.accept(self.now, thing.name, name, vtq, self._service)
        self.batch.stored += 1


def _keep_for_later(thing: Thing, binding: RemoteBinding, write: EdgeWrite) -> bool:
    if binding.fold_type == "FOLD":
        thing.waiting = [waiting for waiting in thing.waiting if waiting.property != write.property]
    if binding.fold_type != "NONE":
        thing.waiting.append(write)
    return binding.fold_type != "NONE"
