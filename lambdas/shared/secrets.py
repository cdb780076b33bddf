"""One secret of AWS Secrets Manager, read when first needed and again when it may have changed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

__all__ = ["Secret"]


class Secret:
    """The text of a secret; its value never appears in `repr`, logs or errors.

    Args:
        client: boto3 Secrets Manager client.
        arn: ARN of the secret; its text is the value.
    """

    def __init__(self, client: SecretsManagerClient, arn: str) -> None:
        self._client = client
        self._arn = arn
        self._text: str | None = None
        self._lock = threading.Lock()

    def text(self) -> str:
        """The value, from memory after the first call."""
        with self._lock:
            if self._text is None:
                self._text = self._read()
            return self._text

    def changed(self) -> bool:
        """Read the secret again; true when its value differs from the one handed out before."""
        with self._lock:
            before, self._text = self._text, self._read()
            return before != self._text

    def latest(self) -> tuple[str, str]:
        """The value and the id of its version, read again."""
        with self._lock:
            answer = self._client.get_secret_value(SecretId=self._arn)
            self._text = answer["SecretString"].strip()
            return self._text, answer["VersionId"]

    def _read(self) -> str:
        return self._client.get_secret_value(SecretId=self._arn)["SecretString"].strip()

    def __repr__(self) -> str:
        return f"Secret({self._arn})"
