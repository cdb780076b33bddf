"""What discovery is wanted for: wishes that the router, connectors and refused runs leave behind.

One item of the control table, `run`/`wanted`. A wish stays until a run that took it has ended well:

    open --take--> taken by a run --done--> gone
      ^                  |
      +---- give back ---+   (the run failed or died; wanted again, later and later)

`repair` asks nothing of ThingWorx and is no wish to keep: whoever misses the registry asks again and
again, so it is just cleared by the run that does it. Asking is one unconditional write, allowed to
roles that may not read the item; everything else is decided by pure functions of the whole item, and
written only if nobody has asked since it was read (`seq`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = [
    "MOST_THINGS",
    "Options",
    "Wanted",
    "WantedRuns",
    "Wishes",
    "done",
    "give_back",
    "next_run",
    "take",
]

#: Names that are remembered; more of them make a run over all Things.
MOST_THINGS = 1000
#: Bytes of names that one run takes: they pass through the state machine's events and states.
_MOST_BYTES = 32 * 1024
#: Milliseconds between a failed run and the next one for the same wishes: doubled each time, up to the most.
_FIRST_PAUSE = 60_000
_MOST_PAUSE = 3_600_000
_MOST_DOUBLINGS = 16
_TRIES = 8
_KEY = {"pk": "run", "sk": "wanted"}
_VERSION = 1


class Wishes(NamedTuple):
    """What runs are wanted for.

    Attributes:
        unknown: when a run over all Things was last asked for, 0 when it is not wanted.
        full: the same of one that reads every Thing again.
        allow_removals: the same of one that removes however many Things are gone.
        things: names of Things to read again.
    """

    unknown: int = 0
    full: int = 0
    allow_removals: int = 0
    things: frozenset[str] = frozenset()


class Wanted(NamedTuple):
    """The whole item.

    Attributes:
        wishes: open ones.
        repair: when the registry was last missed, 0 when it is not.
        taken: wishes that a run works on.
        taken_by: execution name of that run.
        failures: runs for wishes that failed, in a row.
        retry_at: before then no run starts for wishes.
        seq: counts all changes.
    """

    wishes: Wishes = Wishes()
    repair: int = 0
    taken: Wishes = Wishes()
    taken_by: str | None = None
    failures: int = 0
    retry_at: int = 0
    seq: int = 0


class Options(NamedTuple):
    """How a run that takes wishes runs; `things` empty: all Things."""

    full: bool = False
    allow_removals: bool = False
    things: tuple[str, ...] = ()


_NOTHING = Wishes()


def next_run(wishes: Wishes) -> Options | None:
    """The run that comes next, or None when nothing is wanted."""
    if wishes.full or wishes.unknown or wishes.allow_removals:
        return Options(full=bool(wishes.full), allow_removals=bool(wishes.allow_removals))
    return Options(things=_some(wishes.things)) if wishes.things else None


def take(wanted: Wanted, run: str, options: Options, *, removals: bool) -> Wanted:
    """Let a run take the wishes that it fulfils; what a dead run had taken is open again.

    Args:
        wanted: as it is.
        run: execution name; one that has taken already keeps what it has.
        options: how it runs.
        removals: whether it takes the wish for removals too: it then runs with it.
    """
    if wanted.taken_by == run:
        return wanted
    every = _union(wanted.wishes, wanted.taken)
    if options.things:
        taken = Wishes(things=every.things & frozenset(options.things))
    else:
        taken = Wishes(
            unknown=every.unknown,
            full=every.full if options.full else 0,
            allow_removals=every.allow_removals if removals else 0,
            things=every.things if options.full else frozenset(),
        )
    left = Wishes(
        unknown=0 if taken.unknown else every.unknown,
        full=0 if taken.full else every.full,
        allow_removals=0 if taken.allow_removals else every.allow_removals,
        things=every.things - taken.things,
    )
    return wanted._replace(wishes=left, taken=taken, taken_by=run)


def done(wanted: Wanted, run: str) -> Wanted:
    """The run has ended well."""
    if wanted.taken_by != run:
        return wanted
    return wanted._replace(taken=_NOTHING, taken_by=None, failures=0, retry_at=0)


def give_back(wanted: Wanted, run: str, now: int) -> Wanted:
    """The run has failed or died: what it took is wanted again, after a pause."""
    if wanted.taken_by != run:
        return wanted
    pause = min(_FIRST_PAUSE * 2 ** min(wanted.failures, _MOST_DOUBLINGS), _MOST_PAUSE)
    return wanted._replace(
        wishes=_union(wanted.wishes, wanted.taken),
        taken=_NOTHING,
        taken_by=None,
        failures=wanted.failures + 1,
        retry_at=now + pause,
    )


class WantedRuns:
    """The item in the control table.

    Args:
        table: name of the control table.
        client: boto3 DynamoDB client.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table = table
        self._client = client

    def ask(self, *wishes: str, now: int) -> None:
        """Ask for a run: `unknown` (over all Things), `full`, `allow_removals` or `repair`."""
        self._client.update_item(
            TableName=self._table,
            Key=to_item(_KEY),
            UpdateExpression="SET " + ", ".join(f"#{wish} = :now" for wish in wishes) + " ADD seq :one",
            ExpressionAttributeNames={f"#{wish}": wish for wish in wishes},
            ExpressionAttributeValues=to_item({":now": now, ":one": 1}),
        )

    def ask_things(self, names: Iterable[str], now: int) -> None:
        """Ask for a run over these Things; when too many are waiting already, over all."""
        some = frozenset(names)
        if not some:
            return
        if len(some) <= MOST_THINGS:
            try:
                with conditional("ask for a run over some Things"):
                    self._client.update_item(
                        TableName=self._table,
                        Key=to_item(_KEY),
                        UpdateExpression="ADD things :names, seq :one",
                        ConditionExpression="attribute_not_exists(things) OR size(things) < :most",
                        ExpressionAttributeValues=to_item({":names": some, ":one": 1, ":most": MOST_THINGS}),
                    )
            except Conflict:
                pass
            else:
                return
        self.ask("unknown", now=now)

    def read(self) -> Wanted:
        """The item as it is."""
        answer = self._client.get_item(TableName=self._table, Key=to_item(_KEY), ConsistentRead=True)
        return _wanted(from_item(answer.get("Item", {})))

    def take(self, run: str, options: Options) -> None:
        """Take what a run with these options fulfils. See `take`."""
        self._change(lambda wanted: take(wanted, run, options, removals=False))

    def take_next(self, run: str, now: int) -> Options | None:
        """Take what comes next; None when nothing is wanted, or a failure is too recent."""
        chosen: Options | None = None

        def choose(wanted: Wanted) -> Wanted:
            nonlocal chosen
            if wanted.taken_by == run:  # a repeated task
                chosen = next_run(wanted.taken)
                return wanted
            chosen = next_run(_union(wanted.wishes, wanted.taken)) if now >= wanted.retry_at else None
            return wanted if chosen is None else take(wanted, run, chosen, removals=True)

        self._change(choose)
        return chosen

    def done(self, run: str) -> None:
        """The run has ended well."""
        self._change(lambda wanted: done(wanted, run))

    def give_back(self, run: str, now: int) -> None:
        """The run has failed, or died."""
        self._change(lambda wanted: give_back(wanted, run, now))

    def clear_repair(self) -> None:
        """The registry is about to be rebuilt."""
        self._change(lambda wanted: wanted._replace(repair=0))

    def _change(self, change: Callable[[Wanted], Wanted]) -> None:
        for _ in range(_TRIES):
            before = self.read()
            after = change(before)
            if after == before:
                return
            try:
                with conditional("change what is wanted"):
                    self._client.put_item(
                        TableName=self._table,
                        Item=_item(after._replace(seq=before.seq + 1)),
                        ConditionExpression="attribute_not_exists(pk) OR seq = :seq",
                        ExpressionAttributeValues=to_item({":seq": before.seq}),
                    )
            except Conflict:
                continue
            return
        raise Conflict(f"what is wanted changed at each of {_TRIES} tries")


def _union(one: Wishes, other: Wishes) -> Wishes:
    return Wishes(
        unknown=max(one.unknown, other.unknown),
        full=max(one.full, other.full),
        allow_removals=max(one.allow_removals, other.allow_removals),
        things=one.things | other.things,
    )


def _some(names: Iterable[str]) -> tuple[str, ...]:
    chosen: list[str] = []
    left = _MOST_BYTES
    for name in sorted(names):
        left -= len(name.encode())
        if left < 0 and chosen:
            break
        chosen.append(name)
    return tuple(chosen)


def _wanted(item: dict[str, Any]) -> Wanted:
    return Wanted(
        _wishes(item, ""),
        item.get("repair", 0),
        _wishes(item, "taken_"),
        item.get("taken_by"),
        item.get("failures", 0),
        item.get("retry_at", 0),
        item.get("seq", 0),
    )


def _wishes(item: dict[str, Any], prefix: str) -> Wishes:
    return Wishes(**{name: item[prefix + name] for name in Wishes._fields if prefix + name in item})


def _item(wanted: Wanted) -> dict[str, dict[str, Any]]:
    rest = {"taken_by": wanted.taken_by, "repair": wanted.repair, "failures": wanted.failures}
    wishes = wanted.wishes._asdict()
    taken = {f"taken_{name}": value for name, value in wanted.taken._asdict().items()}
    content = {**wishes, **taken, **rest, "retry_at": wanted.retry_at}
    # An empty set has no form; nothing else is worth writing down either.
    kept = {name: value for name, value in content.items() if value}
    return to_item({**_KEY, "v": _VERSION, **kept, "seq": wanted.seq})
