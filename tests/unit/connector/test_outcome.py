"""What becomes of readings whose push failed."""

from __future__ import annotations

import pytest

from lambdas.connector.outcome import Outcome, outcome_of
from lambdas.shared.errors import ThingworxCallFailed, ThingworxRefused, ThingworxUnavailable


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ThingworxUnavailable("503"), Outcome.WAIT, "platform_unavailable"),
        (ThingworxRefused("401"), Outcome.WAIT, "platform_unavailable"),
        (TypeError("nobody foresaw this"), Outcome.WAIT, "internal_error"),
        (ThingworxCallFailed(400, "bad"), Outcome.REJECT, "refused_as_malformed"),
        (ThingworxCallFailed(403, "no"), Outcome.PARK, "no_permission"),
        (ThingworxCallFailed(404, "none"), Outcome.PARK, "thing_not_found"),
        (ThingworxCallFailed(405, "verb"), Outcome.PARK, "service_not_allowed"),
        (ThingworxCallFailed(406, "json"), Outcome.REJECT, "refused_as_malformed"),
        (ThingworxCallFailed(413, "big"), Outcome.REJECT, "refused_as_too_large"),
        (ThingworxCallFailed(500, "script"), Outcome.RETRY, "write_failed"),
        (ThingworxCallFailed(418, "teapot"), Outcome.RETRY, "write_failed"),
    ],
)
def test_the_table_of_outcomes(error: Exception, outcome: Outcome, reason: str) -> None:
    verdict = outcome_of(error)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert str(error) in verdict.detail, "a person reading the held store learns what the platform said"
