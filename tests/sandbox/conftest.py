"""One emulator for the whole folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.emulator_process import EmulatorProcess
from tests.sandbox.aws import Aws

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {
    "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1",
    "SANDBOX_EXECUTION_HISTORY_LIMIT": "200",
    "SANDBOX_KINESIS_RETRY_SECONDS": "0.05",
    "SANDBOX_SQS_DELETED_QUEUE_SECONDS": "1",
}


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), extra_env=SETTINGS) as process:
        yield process


@pytest.fixture(scope="session")
def aws(emulator: EmulatorProcess) -> Aws:
    return Aws(emulator)
