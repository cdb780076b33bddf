"""Short pauses: what the connector's back-off decides is tested, not how long it takes."""

from __future__ import annotations

import pytest

from lambdas.connector import gate


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_FIRST_SECONDS", 0.002)
    monkeypatch.setattr(gate, "_MOST_SECONDS", 0.02)
