"""Calling a platform that may be busy: which errors are tried again, and how often."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from lambdas.shared.errors import ThingworxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TRIES", "pauses", "persistently"]

T = TypeVar("T")

TRIES = 4
#: Seconds: the longest first pause, and the longest of all.
_FIRST, _LONGEST = 0.5, 5.0


def pauses() -> Iterator[float]:
    """Seconds to wait before each further try: random, so that many callers don't return together."""
    for number in range(TRIES - 1):
        yield random.uniform(0, min(_LONGEST, _FIRST * 2**number))


def persistently(call: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The answer of `call`, which is tried again while the platform is unavailable.

    Nothing else is tried again: a refused key stays refused, and a 500 is about the call itself.

    Raises:
        ThingworxUnavailable: at every one of 4 tries.
        ThingworxError: any other failure, at once.
    """
    for pause in pauses():
        try:
            return call()
        except ThingworxUnavailable:
            sleep(pause)
    return call()
