"""What a session tells its shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from lambdas.thingworx.alwayson.calls import Answer
    from lambdas.thingworx.alwayson.model import InfoTable, Request

__all__ = [
    "Answered",
    "Asked",
    "AuthRefused",
    "Authenticated",
    "Broken",
    "Event",
    "ModelChanged",
    "Reply",
    "ThingParked",
    "ThingReady",
]


class Authenticated(NamedTuple):
    """The platform takes requests from now on."""


class AuthRefused(NamedTuple):
    """The platform refuses the application key; the connection is of no use."""

    reason: str


class Broken(NamedTuple):
    """The session can't go on over this connection: drop it and connect anew."""

    reason: str


class ThingReady(NamedTuple):
    """A Thing is bound and synchronised, or synchronised anew: values may be pushed."""

    thing: str


class ModelChanged(NamedTuple):
    """A Thing that was served already was changed in the platform: saved, restarted, or bound otherwise."""

    thing: str


class ThingParked(NamedTuple):
    """A Thing can't be bound now, or no longer shall be.

    Attributes:
        status: of the refusal; 0 without a response.
        reason: for people.
    """

    thing: str
    status: int
    reason: str


class Answered(NamedTuple):
    """A request of the shell is over."""

    call: int
    answer: Answer


class Asked(NamedTuple):
    """The platform asks a bound Thing for something that the session doesn't answer itself.

    Attributes:
        thing: Thing name, however the platform addressed it.
        request: GET or PUT of a property, or a service.
        connection: which connection it came over; a reply goes over that or nowhere.
    """

    thing: str
    request: Request
    connection: int


class Reply(NamedTuple):
    """Answer to the platform.

    Attributes:
        status: a `Status` or another number from 0x40 up.
        reason: for people, when it isn't success.
        content: result of one row.
    """

    status: int
    reason: str | None = None
    content: InfoTable | None = None


Event: TypeAlias = (
    Authenticated | AuthRefused | Broken | ThingReady | ThingParked | ModelChanged | Answered | Asked
)
