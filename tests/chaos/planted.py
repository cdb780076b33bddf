"""Bugs to plant, one at a time, in the processes of a run: the checker must catch each of them.

`python -m tests.chaos.planted [--seeds N] [NAME ...]` runs seeds with each bug until one is found broken, and
prints which. The code of the product is never changed: a bug replaces a method where it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.assigner import held
from lambdas.connector import slot_queue
from lambdas.connector.backlog import Backlog
from lambdas.connector.lease import Lease
from lambdas.connector.recent import RecentIds
from lambdas.shared import send

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

__all__ = ["BUGS", "Bug"]


class Bug(NamedTuple):
    """A bug: what it does, and how to plant it in this process."""

    text: str
    plant: Callable[[], None]


def _acknowledge_first() -> None:
    receive = slot_queue.SlotQueue._receive

    def received(self: slot_queue.SlotQueue, attempt: str, wait_seconds: int) -> list[slot_queue.Message]:
        messages = receive(self, attempt, wait_seconds)
        if messages:
            self._delete(dict(enumerate(messages)))
        return messages

    slot_queue.SlotQueue._receive = received  # type: ignore[method-assign] # that is the bug


def _go_on_in_the_lane() -> None:
    def stop(self: Any, lanes: list[deque[Any]], cause: str) -> None:
        for lane in list(lanes):
            self.unsent.append(lane.popleft())
            self.cause = cause

    send._SlotRun._stop = stop  # type: ignore[method-assign] # that is the bug


def _never_look_at_the_lease() -> None:
    Lease.valid = lambda *_: True  # type: ignore[method-assign] # that is the bug


def _take_ids_for_a_watermark() -> None:
    highest: dict[int, int] = defaultdict(int)

    def add(self: RecentIds, reading_id: str) -> None:
        highest[id(self)] = max(highest[id(self)], _sequence(reading_id))

    RecentIds.add = add  # type: ignore[method-assign] # that is the bug
    RecentIds.__contains__ = (  # type: ignore[method-assign] # that is the bug
        lambda self, reading_id: _sequence(reading_id) <= highest[id(self)]
    )


def _sequence(reading_id: str) -> int:
    return int(reading_id.split(":")[1])


def _overtake_parked_readings() -> None:
    Backlog.__contains__ = lambda *_: False  # type: ignore[method-assign] # that is the bug


def _forget_what_was_parked() -> None:
    held._STATES = ("unrouted",)  # type: ignore[assignment] # that is the bug
    held._BEFORE = held._AFTER = held._Place()


BUGS = {
    "ack-before-delivery": Bug("messages are deleted before their readings are pushed", _acknowledge_first),
    "lane-stop": Bug("a lane goes on behind a message that was not taken", _go_on_in_the_lane),
    "lease-check": Bug("readings are pushed without a look at the lease", _never_look_at_the_lease),
    "watermark": Bug(
        "readings older than the newest delivered are taken for repeats", _take_ids_for_a_watermark
    ),
    "park-order": Bug("readings overtake the parked ones of their Thing", _overtake_parked_readings),
    "parked-return": Bug("what was parked of a Thing isn't sent when it returns", _forget_what_was_parked),
}


def main() -> int:
    """Plant bugs; 1 when one was not caught."""
    from tests.chaos.runner import Runner  # noqa: PLC0415 - environments import this module too

    parser = argparse.ArgumentParser(prog="python -m tests.chaos.planted", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(BUGS), metavar="NAME", help=", ".join(BUGS))
    parser.add_argument("--seeds", type=int, default=50, help="seeds to try with each bug (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show the broken history")
    options = parser.parse_args()
    missed = 0
    with Runner() as runner:
        for name in options.names:
            for seed in range(1, options.seeds + 1):
                report = runner.run(seed, planted=name)
                if report.violations:
                    broken = ", ".join(violation.promise for violation in report.violations)
                    sys.stdout.write(f"{name} ({BUGS[name].text}): caught at seed {seed}: {broken}\n")
                    if options.verbose:
                        sys.stdout.write(f"{report.text()}\n")
                    break
            else:
                missed += 1
                sys.stdout.write(f"{name} ({BUGS[name].text}): NOT caught in {options.seeds} seeds\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
