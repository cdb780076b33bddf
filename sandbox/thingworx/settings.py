"""What differs from platform to platform, or is not known of the real one: switches of the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIXED_AT_START", "Settings"]

FIXED_AT_START: Final = frozenset({"history_limit", "log_limit"})
"""Settings that count from the start only."""


@dataclass(slots=True)
class Settings:
    """Switches of one platform; those of AlwaysOn may change while connections are open.

    Attributes:
        version: What GetThingworxVersion answers.
        strict_base_types: Refuse text for numbers and booleans, and numbers for text.
        unknown_edge_name: What UpdateSubscribedPropertyValues does with a row of an unknown name.
        bad_value: What a bulk update does with a row whose value doesn't fit.
        unknown_service_status: 404 as PTC's table has it; some releases answer 500.
        missing_services: Services this platform is too old for.
        allow_app_key_in_url: As platforms before 8.0 did.
        history_limit: Values kept per property; None for all.
        log_limit: Write records kept; None for all.
        edge_answer_seconds: How long the platform waits for an edge's answer.
        bind_protection: Who has a Thing that two connections bind.
        bind_policy: Whether one refused name fails its whole BIND, or only itself.
        unknown_bind: Whether a BIND takes names that match no Thing (they wait as unbound), or refuses them.
        sync_mode: What follows a BIND: `current` GetMetadata and SynchronizeModelState, `legacy`
            NotifyPropertyUpdate, `none` nothing.
        sync_window: Things that are synchronised at one time, per connection.
        unsynchronised_push: Whether values pushed over AlwaysOn before the Thing is bound and synchronised on
            that connection are lost (answered, stored nowhere), or stored.
        identifier_entity: How the platform addresses a Thing bound by identifier: as it was bound
            (`*identifier`), by its name, or by the bare identifier.
        idle_seconds: A connection that sends nothing for so long is closed; 0 for never.
        upgrade_key: What is done with the appKey header of the WebSocket handshake: `check` (a wrong one is
            refused with 401, none is fine), `require`, `ignore`.
        check_session: Refuse requests whose session id isn't the one AUTH gave.
        announce_session: After AUTH, send a response that answers nothing and only tells the session.
        first_request_id: Of the platform's own requests on each connection.
    """

    version: str = "9.7.0"
    strict_base_types: bool = False
    unknown_edge_name: Literal["skip", "fail"] = "skip"
    bad_value: Literal["skip", "fail"] = "skip"
    unknown_service_status: int = 404
    missing_services: frozenset[str] = frozenset()
    allow_app_key_in_url: bool = False
    history_limit: int | None = None
    log_limit: int | None = None
    edge_answer_seconds: float = 30.0
    bind_protection: Literal["first-in-wins", "last-in-wins"] = "first-in-wins"
    bind_policy: Literal["all-or-nothing", "per-name"] = "all-or-nothing"
    unknown_bind: Literal["accept", "refuse"] = "accept"
    sync_mode: Literal["current", "legacy", "none"] = "current"
    sync_window: int = 32
    unsynchronised_push: Literal["lose", "store"] = "lose"
    identifier_entity: Literal["binding", "name", "identifier"] = "binding"
    idle_seconds: float = 60.0
    upgrade_key: Literal["check", "require", "ignore"] = "check"
    check_session: bool = True
    announce_session: bool = False
    first_request_id: int = 1

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several, or none when one of them isn't valid; lists become sets, whole numbers fractions.

        Raises:
            ValueError: There is no such setting, or it doesn't take that value.
        """
        kinds = get_type_hints(type(self))
        changed = {name: _checked(name, kinds.get(name), value) for name, value in values.items()}
        for name, value in changed.items():
            setattr(self, name, value)


def _checked(name: str, kind: Any, value: Any) -> Any:
    if kind is None:
        raise ValueError(f"unknown: {name}")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is frozenset:
        return frozenset(value)
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is of type {getattr(kind, '__name__', kind)}")
    return value
