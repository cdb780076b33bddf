"""Devices that publish all the while, and what of it ThingWorx has taken."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from sandbox.observe import Observer
    from sandbox.stack import Sandbox

__all__ = ["TOPIC", "Reading", "Traffic"]

TOPIC = "/sample/topic"


class Reading(NamedTuple):
    """A published value; the values of a Thing count up."""

    thing: str
    value: int


class Traffic:
    """A context manager: publishes for each Thing in turn, until its end.

    Args:
        sandbox: deployed.
        things: names of Things with a property `temp`.
        pause: seconds between two rounds.
    """

    def __init__(self, sandbox: Sandbox, things: Iterable[str], pause: float = 0.25) -> None:
        self._sandbox = sandbox
        self._things = list(things)
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._publish, name="traffic")
        self._devices = ExitStack()
        self.published: list[Reading] = []

    def __enter__(self) -> Self:
        self._fleet = [self._devices.enter_context(self._sandbox.device(name)) for name in self._things]
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        self._devices.close()

    def _publish(self) -> None:
        number = 0
        while not self._end.wait(self._pause):
            number += 1
            for device in self._fleet:
                device.publish(TOPIC, {"temp": number})
                self.published.append(Reading(device.name, number))

    def missing(self, observer: Observer) -> set[Reading]:
        """What was published and hasn't arrived yet."""
        published = set(self.published)
        return published - {Reading(write.thing, write.value) for write in observer.writes()}

    def newest(self, observer: Observer) -> dict[str, int]:
        """The highest value that arrived, by Thing of this traffic."""
        newest = dict.fromkeys(self._things, 0)
        for write in observer.writes():
            if write.thing in newest:
                newest[write.thing] = max(newest[write.thing], write.value)
        return newest

    def wait_for_arrival(self, observer: Observer, seconds: float) -> set[Reading]:
        """Wait until nothing is missing of what has been published by now; what still is at the end."""
        published = set(self.published)
        deadline = time.monotonic() + seconds
        while True:
            missing = published & self.missing(observer)
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.3)
