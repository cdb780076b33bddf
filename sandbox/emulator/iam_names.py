"""IAM: the permission that a batch call of SQS needs.

Restored behaviour: SendMessageBatch, DeleteMessageBatch and ChangeMessageVisibilityBatch are allowed by
the permission of the single call; permissions of these names do not exist (Amazon SQS permissions
reference). Only matters when the emulator enforces policies (AUTH=true).
Replaces iam_actions.extract_iam_action.
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_actions

from . import patching

_SINGLE = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


def install() -> None:
    """Put this part of the overlay on."""
    patching.replace(iam_actions, "extract_iam_action", _named_for)


def _named_for(original: Any) -> Any:
    def extract(*arguments: Any) -> str | None:
        action: str | None = original(*arguments)
        return _SINGLE.get(action or "", action)

    return extract
