"""What the simulated platform refuses, and the HTTP status each refusal has.

    PlatformError
    +-- EntityNotFoundError      404
    +-- PropertyNotFoundError    404
    +-- ServiceNotFoundError     404 (500 when the settings say so)
    +-- ServiceFailedError       500 (or its cause's `in_service`)
    +-- AlreadyDefinedError      403
    +-- AccessDeniedError        403
    +-- ParameterError           500
    +-- ValueConversionError     500
    +-- ThingNotEnabledError     503
    +-- EdgeUnavailableError     503
    +-- EdgeRefusedError         as the edge answered

The statuses of `EntityNotFoundError`, `PropertyNotFoundError`, `AlreadyDefinedError` and `AccessDeniedError`
are in PTC's table of REST status codes. 503 for a Thing that is not enabled or not connected is inferred
from the Edge SDKs, which know the same texts. Inside a service nearly all of them end as 500.
"""

from __future__ import annotations

from http import HTTPStatus


class PlatformError(Exception):
    """A refusal by the platform; `str()` of it is the text a client sees.

    Attributes:
        status: HTTP status when the refusal comes from reading or writing an entity.
        in_service: HTTP status when it comes from inside a service.
    """

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    in_service: int = HTTPStatus.INTERNAL_SERVER_ERROR


class EntityNotFoundError(PlatformError):
    """No entity of that name in that collection."""

    status = HTTPStatus.NOT_FOUND


class PropertyNotFoundError(PlatformError):
    """The Thing has no property of that name."""

    status = HTTPStatus.NOT_FOUND

    def __init__(self, property_name: str, thing_name: str) -> None:
        super().__init__(f"Property [{property_name}] Does Not Exist On Thing [{thing_name}]")


class ServiceNotFoundError(PlatformError):
    """The entity has no service of that name."""

    def __init__(self, service: str, entity: str, status: int = HTTPStatus.NOT_FOUND) -> None:
        super().__init__(f"No service handler defined for service {service} on thing {entity}")
        self.status = status


class ServiceFailedError(PlatformError):
    """A service raised `cause`."""

    def __init__(self, service: str, entity: str, cause: Exception) -> None:
        super().__init__(f"Unable to Invoke Service {service} on {entity} : {cause}")
        if isinstance(cause, PlatformError):
            self.status = cause.in_service


class AlreadyDefinedError(PlatformError):
    """The Thing already has a property of that name."""

    status = HTTPStatus.FORBIDDEN
    in_service = HTTPStatus.FORBIDDEN


class AccessDeniedError(PlatformError):
    """The property is read-only, or the entity belongs to the system."""

    status = HTTPStatus.FORBIDDEN


class ParameterError(PlatformError):
    """A service parameter is missing or of the wrong kind."""


class ValueConversionError(PlatformError):
    """A value can't become the base type it is meant for."""

    def __init__(self, value: object, base_type: str, why: str = "") -> None:
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"Unable to convert {shown} to {base_type}" + (f": {why}" if why else ""))


class ThingNotEnabledError(PlatformError):
    """The Thing exists but is switched off (a new Thing is, until EnableThing)."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, thing_name: str) -> None:
        super().__init__(f"Thing [{thing_name}] is not enabled")


class EdgeUnavailableError(PlatformError):
    """A write to a remotely bound property has no connected edge to go to, or no answer from it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, thing_name: str, why: str = "is not connected") -> None:
        super().__init__(f"Thing [{thing_name}] {why}")


class EdgeRefusedError(PlatformError):
    """An edge answered a write or read with an error; `status` is the one it gave."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
