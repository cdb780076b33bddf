"""IAM: requests count as made over TLS.

Restored behaviour: SDKs reach AWS by HTTPS, for which aws:SecureTransport is true. The emulator listens on
loopback without TLS; a policy that refuses plain HTTP would refuse everybody here.
Replaces iam_evaluator._resolve_condition_key.
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_evaluator

from . import patching


def install() -> None:
    """Put this part of the overlay on."""
    patching.replace(iam_evaluator, "_resolve_condition_key", _over_tls_for)


def _over_tls_for(original: Any) -> Any:
    def resolve(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else original(key, context)

    return resolve
