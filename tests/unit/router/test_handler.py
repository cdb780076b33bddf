"""What the handler promises besides routing, which tests/integration/test_router.py shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lambdas.router.handler import service
from lambdas.shared.errors import SettingError


def test_importing_it_loads_neither_the_aws_sdk_nor_redis() -> None:
    code = "import sys, lambdas.router.handler; print(sorted({'boto3', 'redis'} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_missing_settings_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STACK", "REDIS_URL", "HELD_TABLE"):
        monkeypatch.delenv(name, raising=False)
    service.cache_clear()
    with pytest.raises(SettingError) as error:
        service()
    assert all(name in str(error.value) for name in ("STACK", "REDIS_URL", "HELD_TABLE"))
