"""What goes back into the stream, where it lies until then, and why something can't go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LONGEST_KEY", "Returning", "Source", "StreamRecord", "UnreadableError"]


#: Characters of a partition key; the stream refuses a call with a longer one as a whole.
LONGEST_KEY = 256


class UnreadableError(Exception):
    """No record can be made of it; the message says why, and what to do where something can be done."""


class StreamRecord(NamedTuple):
    """A record as the topic rules write it.

    Attributes:
        key: partition key, 1 to `LONGEST_KEY` characters.
        data: the envelope, or the lifecycle event.
    """

    key: str
    data: bytes


class Returning(NamedTuple):
    """A message or an object, and the records in it.

    Attributes:
        name: its message id, or its key in the bucket.
        records: at least one, oldest first.
    """

    name: str
    records: list[StreamRecord]


class Source(Protocol):
    """A place to put readings back from; a context manager that lets go of what it holds.

    Attributes:
        place: what it is called.
        unit: what it holds, in the plural.
        left: why something can't be put back -> its messages or objects.
    """

    place: str
    unit: str
    left: dict[str, list[str]]

    def __enter__(self) -> Self:
        """Nothing happens yet."""

    def __exit__(self, *_: object) -> None:
        """What was not deleted can be seen by others again."""

    def parts(self) -> Iterator[list[Returning]]:
        """What can be put back, oldest first; `left` grows meanwhile."""

    def delete(self, names: Sequence[str]) -> None:
        """These are in the stream."""
