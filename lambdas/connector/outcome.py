"""The one place that decides what becomes of readings whose push failed."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from lambdas.shared.errors import ThingNotServed, ThingworxCallFailed, ThingworxError

__all__ = ["INTERNAL_ERROR", "PERHAPS_A_READING", "Outcome", "Verdict", "outcome_of"]

#: Reason of failures that nobody foresaw.
INTERNAL_ERROR = "internal_error"
_WRITE_FAILED = "write_failed"
_THING_NOT_FOUND = "thing_not_found"
#: Reasons that don't say whether it is the Thing or one of its readings: a 404 may be about a property.
PERHAPS_A_READING = frozenset({INTERNAL_ERROR, _WRITE_FAILED, _THING_NOT_FOUND})


class Outcome(Enum):
    """What to do next."""

    #: The platform serves nobody: keep everything, try until it does. SQS is the buffer. When it serves
    #: others all the same, it is this Thing's trouble: after `thing_retry_seconds` of that, park. So it is
    #: for no known reason when no other Thing has failed meanwhile.
    WAIT = "wait"
    #: This call failed for a reason that may pass: try again for `thing_retry_seconds`, then park.
    RETRY = "retry"
    #: The Thing can't take values now: to the held store, readings after it follow it there.
    PARK = "park"
    #: These readings can never be written as they are: to the held store, others go on.
    REJECT = "reject"


class Verdict(NamedTuple):
    """An outcome with what goes into the held store: a code and a sentence."""

    outcome: Outcome
    reason: str
    detail: str = ""


_BY_STATUS: dict[int, Verdict] = {
    HTTPStatus.BAD_REQUEST: Verdict(Outcome.REJECT, "refused_as_malformed"),
    HTTPStatus.FORBIDDEN: Verdict(Outcome.PARK, "no_permission"),
    HTTPStatus.NOT_FOUND: Verdict(Outcome.PARK, _THING_NOT_FOUND),
    HTTPStatus.METHOD_NOT_ALLOWED: Verdict(Outcome.PARK, "service_not_allowed"),
    HTTPStatus.NOT_ACCEPTABLE: Verdict(Outcome.REJECT, "refused_as_malformed"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Verdict(Outcome.REJECT, "refused_as_too_large"),
}


def outcome_of(error: Exception) -> Verdict:
    """Outcome of a failed push.

    A 500 is about the call, not about the server: a failing service, a disabled Thing and a bad
    parameter all answer it, so it is tried again for a while and then parked, never waited for.
    An error nobody foresaw loses nothing: while several Things have it, or the platform is away, it is
    waited for; one that has it alone is parked after `thing_retry_seconds`.
    """
    if isinstance(error, ThingNotServed):
        verdict = Verdict(Outcome.PARK, "not_bound")
    elif isinstance(error, ThingworxCallFailed):
        verdict = _BY_STATUS.get(error.status, Verdict(Outcome.RETRY, _WRITE_FAILED))
    elif isinstance(error, ThingworxError):
        verdict = Verdict(Outcome.WAIT, "platform_unavailable")
    else:
        verdict = Verdict(Outcome.WAIT, INTERNAL_ERROR)
    return verdict._replace(detail=f"{type(error).__name__}: {error}")
