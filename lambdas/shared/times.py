"""Times in text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["iso_milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def iso_milliseconds(text: str) -> int:
    """Milliseconds since 1970, UTC, of ISO 8601 text; finer digits are cut off, no offset means UTC.

    Raises:
        ValueError: the text is no time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND
