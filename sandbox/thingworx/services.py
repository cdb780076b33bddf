"""The platform's services: one table, called by every protocol front end.

A front end calls `invoke` with the parameters as a mapping: JSON values over REST, native values elsewhere;
tables may be `InfoTable`s or their JSON form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sandbox.thingworx.basetypes import parse_datetime, parse_tags
from sandbox.thingworx.errors import (
    EntityNotFoundError,
    ParameterError,
    PlatformError,
    ServiceFailedError,
    ServiceNotFoundError,
)
from sandbox.thingworx.infotable import InfoTable, Tags, rows_of
from sandbox.thingworx.writes import WriteBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from sandbox.thingworx.model import Template, Thing
    from sandbox.thingworx.platform import EdgeLink, Platform

__all__ = ["MAX_ITEMS", "Call", "Params", "Reply", "invoke", "service"]

MAX_ITEMS: Final = 500
"""What maxItems is when a client leaves it out: the result then ends there without a sign."""


class Params:
    """Parameters of a call, read by type; null counts as absent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, name: str, default: Any = None) -> Any:
        """The bare value."""
        value = self._values.get(name)
        return default if value is None else value

    def required(self, name: str) -> Any:
        """The bare value.

        Raises:
            ParameterError: It is absent.
        """
        value = self._values.get(name)
        if value is None:
            raise ParameterError(f"Required parameter [{name}] is missing")
        return value

    def text(self, name: str, default: str = "") -> str:
        """Text, `default` when absent."""
        return str(self.get(name, default))

    def whole(self, name: str, default: int) -> int:
        """A whole number of 0 or more.

        Raises:
            ParameterError: It is something else.
        """
        value = self.get(name, default)
        try:
            number = int(value)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"Parameter [{name}] is not a number") from error
        if number < 0:
            raise ParameterError(f"Parameter [{name}] is negative")
        return number

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, or text that reads as one."""
        value = self.get(name, default)
        return value.lower() == "true" if isinstance(value, str) else bool(value)

    def moment(self, name: str) -> int | None:
        """A DATETIME in ms, or None.

        Raises:
            ParameterError: It is no time.
        """
        value = self.get(name)
        try:
            return None if value is None or value == "" else parse_datetime(value)
        except ValueError as error:
            raise ParameterError(f"Parameter [{name}] is not a DATETIME") from error

    def tags(self, name: str = "tags") -> Tags:
        """Tags in any of their forms."""
        return parse_tags(self.get(name))

    def rows(self, name: str) -> list[dict[str, Any]] | None:
        """Rows of an INFOTABLE, or None when absent."""
        value = self.get(name)
        return None if value is None else rows_of(value, name)

    def items(self, name: str) -> list[str]:
        """A list given as JSON `{"items": [...]}` or as an array."""
        value = self.get(name, [])
        return [str(item) for item in (value.get("items", []) if isinstance(value, dict) else value)]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service; `origin` is the edge whose connection it came over, None over REST."""

    platform: Platform
    collection: str
    entity: str
    service: str
    params: Params
    origin: EdgeLink | None = None

    @property
    def thing(self) -> Thing:
        """The Thing that was called."""
        return self.platform.thing(self.entity)

    @property
    def template(self) -> Template:
        """The template that was called."""
        return self.platform.template(self.entity)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service gives: a table or nothing, once `forwards` (writes to the edge) have all ended."""

    table: InfoTable | None = None
    forwards: list[Future[None]] = field(default_factory=list)


if TYPE_CHECKING:
    Handler = Callable[[Call], InfoTable | WriteBatch | None]


@dataclass(frozen=True, slots=True)
class _Service:
    handler: Handler
    remote_only: bool


_SERVICES: Final[dict[tuple[str, str], _Service]] = {}


def service(path: str, *, remote_only: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler as `<Collection>/<Service>`, or `<Collection>/<Entity>/<Service>` for one entity."""

    def register(handler: Handler) -> Handler:
        owner, _, name = path.rpartition("/")
        _SERVICES[owner, name] = _Service(handler, remote_only)
        return handler

    return register


def invoke(
    platform: Platform,
    collection: str,
    entity: str,
    name: str,
    params: Mapping[str, Any],
    *,
    origin: EdgeLink | None = None,
) -> Reply:
    """Run a service.

    Args:
        platform: Whose.
        collection: Such as `Things`.
        entity: Its name.
        name: The service's.
        params: By name.
        origin: The edge that calls; its own writes to properties bound to it are stored.

    Raises:
        EntityNotFoundError: No such collection or entity.
        ServiceNotFoundError: The entity has no such service, or this platform is too old for it.
        ServiceFailedError: The service failed; its text says why.
    """
    with platform.lock:
        _check_entity(platform, collection, entity)
        found = _SERVICES.get((f"{collection}/{entity}", name)) or _SERVICES.get((collection, name))
        absent = found is None or name in platform.settings.missing_services
        if found is None or absent or (found.remote_only and not platform.thing(entity).is_remote):
            raise ServiceNotFoundError(name, entity, platform.settings.unknown_service_status)
        try:
            outcome = found.handler(Call(platform, collection, entity, name, Params(params), origin))
        except (PlatformError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            # Parameters of a shape no client should send: the platform fails the service, not the request.
            raise ServiceFailedError(name, entity, error) from error
    if isinstance(outcome, WriteBatch):
        return Reply(None, outcome.forwards)
    return Reply(outcome)


def _check_entity(platform: Platform, collection: str, entity: str) -> None:
    if collection == "Things":
        platform.thing(entity)
    elif collection == "ThingTemplates":
        platform.template(entity)
    elif collection == "ThingShapes":
        platform.shape(entity)
    elif collection == "ModelTags":
        if entity not in platform.vocabularies:
            raise EntityNotFoundError(f"ModelTags [{entity}] Not Found")
    elif collection not in {"Resources", "Subsystems"}:
        raise EntityNotFoundError(f"Entity Not Found : [{collection}]")
    elif not any(owner == f"{collection}/{entity}" for owner, _ in _SERVICES):
        raise EntityNotFoundError(f"Entity Not Found : [{entity}]")
