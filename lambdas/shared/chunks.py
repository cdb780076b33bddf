"""Cutting sequences to the sizes that services accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["chunks"]

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of `items`, each `size` long but the last, which may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
