"""Send held readings again."""

from __future__ import annotations

import itertools
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lambdas.shared.held_items import STATES, HeldItems
from lambdas.shared.held_store import HeldStore
from lambdas.shared.replay import Replayer
from lambdas.shared.send import Sender
from lambdas.shared.times import iso_milliseconds
from ops.command import OperatorError
from ops.routing import Routing
from ops.selection import Selection

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lambdas.shared.destination import Destination
    from lambdas.shared.held_items import HeldItem
    from ops.stack import Stack

__all__ = ["HELP", "add_arguments", "run"]

HELP = "send held readings again, with the times they had, through today's assignments and properties"

_AT_ONCE = 500
_PROGRESS_EVERY = 20
_THINGS_SHOWN = 50
_NO_ROOM = (
    "what ThingWorx can't take finds no room as rejected (input held); run the same command again tomorrow"
)
_CATCHING_UP = "its connector sends it, as soon as ThingWorx takes the Thing's readings again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `Command.add_arguments`."""
    parser.add_argument("--thing", metavar="NAME", help="only this Thing")
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="only readings from this time on (ISO 8601; UTC)"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="only readings up to this time")
    parser.add_argument("--reason", help="only readings held for this reason, for example not_json")
    parser.add_argument(
        "--state", choices=STATES, action="append", help="only in this state; may be given again"
    )
    parser.add_argument("--all", action="store_true", help="everything that is held")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")


def run(arguments: argparse.Namespace, stack: Stack) -> int:
    """See `Command.run`."""
    selection = _selection(arguments)
    items = HeldItems(stack.held_table, stack.dynamodb)
    routing = Routing(stack)
    if arguments.dry_run:
        return _preview(selection, items, routing)
    return _replay(selection, items, routing, stack)


def _selection(arguments: argparse.Namespace) -> Selection:
    chosen = (arguments.thing, arguments.since, arguments.until, arguments.reason, arguments.state)
    if any(chosen) and arguments.all:
        raise OperatorError("--all goes without --thing, --from, --to, --reason and --state")
    if not any(chosen) and not arguments.all:
        raise OperatorError("say what to send: --thing, --from, --to, --reason, --state, or --all")
    return Selection(
        states=tuple(dict.fromkeys(arguments.state or STATES)),
        thing=arguments.thing,
        reason=arguments.reason,
        **{
            name: _time(text, option)
            for name, option in (("since", "--from"), ("until", "--to"))
            if (text := getattr(arguments, name))
        },
    )


def _time(text: str, option: str) -> int:
    try:
        return iso_milliseconds(text)
    except ValueError as error:
        raise OperatorError(f"{option} {text!r} is no time; give one like 2026-03-01T12:30:00Z") from error


class _Chosen:
    """The selected readings of one Thing: those that can be sent now, and why the others can't.

    Attributes:
        skipped: why -> how many; it grows while `parts` is read.
    """

    def __init__(self, thing: str, selection: Selection, items: HeldItems, routing: Routing) -> None:
        self._thing = thing
        self._routing = routing
        self._destination, self._trouble = routing.find(thing)
        self._catches_up = False
        self._found = selection.of(thing, items)
        self.skipped: Counter[str] = Counter()

    def parts(self) -> Iterator[tuple[Destination, list[HeldItem]]]:
        """What can be sent, oldest first, and where it goes."""
        if self._destination is None:
            self.skipped[self._trouble] += sum(1 for _ in self._found)
            return
        while part := list(itertools.islice(self._found, _AT_ONCE)):
            if ready := self._ready(part, self._destination):
                yield self._destination, ready

    def _ready(self, part: list[HeldItem], destination: Destination) -> list[HeldItem]:
        """Those of a part that no connector sends itself."""
        parked = sum(item.reading.state == "parked" for item in part)
        if parked and not self._catches_up:
            # Only now that they are read: whoever parks a reading has marked its Thing before.
            self._catches_up = self._routing.catches_up(self._thing, destination)
        if not parked or not self._catches_up:
            return part
        self.skipped[_CATCHING_UP] += parked
        return [item for item in part if item.reading.state != "parked"]


def _preview(selection: Selection, items: HeldItems, routing: Routing) -> int:
    by_thing: Counter[str] = Counter()
    by_reason: Counter[tuple[str, str]] = Counter()
    skipped: Counter[str] = Counter()
    for thing in selection.things(items):
        chosen = _Chosen(thing, selection, items, routing)
        for _, part in chosen.parts():
            by_thing[thing] += len(part)
            by_reason.update((item.reading.state, item.reading.reason) for item in part)
        skipped.update(chosen.skipped)
    print(f"would send {by_thing.total()} readings of {len(by_thing)} Things")
    for (state, reason), number in sorted(by_reason.items()):
        print(f"  {number:>9}  {state} {reason}")
    for thing, number in by_thing.most_common(_THINGS_SHOWN):
        print(f"  {number:>9}  {thing}")
    if len(by_thing) > _THINGS_SHOWN:
        print(f"             and {len(by_thing) - _THINGS_SHOWN} more Things")
    _print_skipped(skipped)
    return 0


def _replay(selection: Selection, items: HeldItems, routing: Routing, stack: Stack) -> int:
    name = f"ops-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
    replayer = Replayer(items, _store(stack), Sender(stack.sqs, concurrency=1), name)
    counters: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    causes: dict[str, str] = {}
    things = selection.things(items)
    for number, thing in enumerate(things, 1):
        chosen = _Chosen(thing, selection, items, routing)
        for destination, part in chosen.parts():
            replayed = replayer.send(part, destination, lambda: True)
            counters.update(replayed.counters)
            if replayed.cause:
                causes[thing] = replayed.cause
                break  # what comes after what is unsent would overtake it
        skipped.update(chosen.skipped)
        if number % _PROGRESS_EVERY == 0:
            sys.stderr.write(f"{number} of {len(things)} Things, {counters['sent']} readings sent\n")
    print(f"sent {counters['sent']} readings (replay {name})")
    if counters["rejected"]:
        print(f"  {counters['rejected']:>9}  became rejected: they can't be converted")
    if counters["still_rejected"]:
        print(f"  {counters['still_rejected']:>9}  stay rejected, for the reason they had")
    if counters["unsent"]:
        print(f"  {counters['unsent']:>9}  stay held")
    _print_skipped(skipped)
    for thing, cause in causes.items():
        sys.stderr.write(f"error: {thing}: {cause}\n")
    if counters["unsent"]:
        why = "run the same command again" if causes else _NO_ROOM
        sys.stderr.write(f"error: not all was sent; {why}\n")
    return 1 if counters["unsent"] else 0


def _print_skipped(skipped: Counter[str]) -> None:
    for why, number in skipped.most_common():
        print(f"  {number:>9}  left alone: {why}")


def _store(stack: Stack) -> HeldStore:
    return HeldStore(
        stack.held_table,
        stack.dynamodb,
        days=int(stack.setting("connector", "HELD_DAYS")),
        per_thing_per_day=int(stack.setting("connector", "HELD_PER_THING_PER_DAY")),
        per_day=int(stack.setting("connector", "HELD_PER_DAY")),
    )
