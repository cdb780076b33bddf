"""Every error the functions raise on purpose.

    ConnectorError
    ├── SettingError            a setting is missing or malformed: names it and the form it must have
    ├── Conflict                a conditional write lost: somebody else changed the item first
    ├── RunLost                 a discovery run has lost its lock: another one carries on
    ├── RegistryUnavailable     Redis can't answer now
    │   └── RegistryLost        Redis answers, but what it holds is incomplete: a repair rebuilds it
    ├── MalformedParcel         a queue message that is no parcel this version can read
    ├── WireError               bytes that are no AlwaysOn message, or values that have no bytes
    └── ThingworxError
        ├── ThingworxUnavailable    no answer, 429, 503: the platform may answer later
        ├── ThingworxRefused        app key refused, redirect, HTML, bad certificate: needs a person
        └── ThingworxCallFailed     one call failed with a status and a reason
            └── ThingNotServed      the platform doesn't take this Thing from us now

Step Functions sees the class names; the state machines' Retry clauses name them.
"""

from __future__ import annotations

from http import HTTPStatus

__all__ = [
    "Conflict",
    "ConnectorError",
    "MalformedParcel",
    "RegistryLost",
    "RegistryUnavailable",
    "RunLost",
    "SettingError",
    "ThingNotServed",
    "ThingworxCallFailed",
    "ThingworxError",
    "ThingworxRefused",
    "ThingworxUnavailable",
    "WireError",
]


class ConnectorError(Exception):
    """Base of all errors raised on purpose."""


class SettingError(ConnectorError):
    """A setting is missing or malformed; the message names it and the form it must have."""


class Conflict(ConnectorError):  # noqa: N818 - the field's word for a lost conditional write
    """A conditional write lost: the item changed since it was read."""


class RunLost(ConnectorError):  # noqa: N818 - read as a state, like the SDKs' own
    """A discovery run has lost its lock, for good: another one carries on."""


class RegistryUnavailable(ConnectorError):  # noqa: N818 - read as a state, like the SDKs' own
    """Redis can't answer now; the caller keeps its input and tries again."""


class RegistryLost(RegistryUnavailable):
    """Redis answers, but holds no registry, or a part of one; a repair rebuilds it from the control table."""


class MalformedParcel(ConnectorError):  # noqa: N818 - names the thing that is wrong
    """A queue message that is no parcel this version can read."""


class WireError(ConnectorError):
    """Bytes that are no AlwaysOn message, or values that AlwaysOn has no bytes for.

    Attributes:
        problem: what is wrong, for example `3 bytes needed, 1 left`.
        field: path of the field, for example `params.rows[0].values`.
        offset: where the field starts in the bytes, 0-based; None when encoding.
    """

    def __init__(self, problem: str, field: str, offset: int | None = None) -> None:
        where = field if offset is None else f"offset {offset}, {field}"
        super().__init__(f"{where}: {problem}")
        self.problem = problem
        self.field = field
        self.offset = offset

    def inside(self, outer: str) -> WireError:
        """The same error, seen from the structure that holds the field."""
        joint = "" if self.field.startswith("[") else "."
        return WireError(self.problem, f"{outer}{joint}{self.field}", self.offset)


class ThingworxError(ConnectorError):
    """Base of what can go wrong with the platform."""


class ThingworxUnavailable(ThingworxError):  # noqa: N818 - read as a state, like the SDKs' own
    """No answer, 429 or 503: the same call may succeed later."""


class ThingworxRefused(ThingworxError):  # noqa: N818 - read as a state, like the SDKs' own
    """The platform won't talk to us as configured: app key, URL or certificate; needs a person."""


class ThingworxCallFailed(ThingworxError):  # noqa: N818 - read as a state, like the SDKs' own
    """One call failed.

    Attributes:
        status: HTTP status of the answer.
        reason: excerpt of the body, at most 300 characters.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"ThingWorx answered {status}: {reason}")
        self.status = status
        self.reason = reason


class ThingNotServed(ThingworxCallFailed):
    """The platform doesn't take this Thing from us now: its bind was refused, or its subscriptions."""

    def __init__(self, reason: str) -> None:
        super().__init__(HTTPStatus.FORBIDDEN, reason)
