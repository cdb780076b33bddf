"""Put back into the stream what never went through it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from ops.command import OperatorError
from ops.failure_bucket import FailureBucket
from ops.rule_error_queue import RuleErrorQueue
from ops.rule_errors import is_expression
from ops.stream_writer import StreamWriter
from ops.topic_rules import TopicRules

if TYPE_CHECKING:
    from ops.returning import Source
    from ops.stack import Stack

__all__ = ["HELP", "add_arguments", "run"]

HELP = "put into the stream what topic rules couldn't, and batches that the router gave up"

#: In this order: what the router gave up is hours old.
_SOURCES = ("failures", "errors")
#: A quarter of what one shard takes, so that devices keep the rest.
_PER_SECOND = 250.0
_KEYS_SHOWN = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `Command.add_arguments`."""
    parser.add_argument(
        "--source",
        choices=_SOURCES,
        help="only batches that the router gave up (failures), or only what topic rules couldn't put into "
        "the stream (errors); default: both",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be put back")
    parser.add_argument(
        "--per-second",
        type=_rate,
        default=_PER_SECOND,
        metavar="N",
        help=f"records a second at most, a larger one counting for each KiB ({_PER_SECOND:.0f}; a shard "
        "takes 1000)",
    )
    parser.add_argument(
        "--named-by",
        metavar="SQL",
        help="what named the Thing in topic rules that are gone by now: clientid() or topic(n)",
    )


def run(arguments: argparse.Namespace, stack: Stack) -> int:
    """See `Command.run`."""
    if arguments.named_by is not None and not is_expression(arguments.named_by):
        raise OperatorError(f"--named-by {arguments.named_by!r} names no Thing; write clientid() or topic(2)")
    named = _SOURCES if arguments.source is None else (arguments.source,)
    sources = [_open(name, arguments, stack) for name in named]
    if arguments.dry_run:
        return _preview(sources, stack)
    writer = StreamWriter(stack.kinesis, stack.ingest_stream, arguments.per_second)
    return max(_put_back(source, writer, stack) for source in sources)


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return rate


def _open(name: str, arguments: argparse.Namespace, stack: Stack) -> Source:
    if name == "failures":
        return FailureBucket(stack.objects, stack.failures_bucket)
    rules = TopicRules(stack.iot, arguments.named_by)
    return RuleErrorQueue(stack.sqs, stack.ingest_errors_url, rules, arguments.per_second)


def _preview(sources: list[Source], stack: Stack) -> int:
    """Say what a run would do, without deleting anything."""
    code = 0
    for source in sources:
        keys: Counter[str] = Counter()
        items = 0
        with source:
            for part in source.parts():
                items += len(part)
                keys.update(record.key for item in part for record in item.records)
        print(
            f"{source.place}: would put {keys.total()} records of {items} {source.unit} into "
            f"{stack.ingest_stream}"
        )
        for key, number in keys.most_common(_KEYS_SHOWN):
            print(f"  {number:>9}  {key}")
        if len(keys) > _KEYS_SHOWN:
            print(f"             and {len(keys) - _KEYS_SHOWN} more partition keys")
        code = max(code, _print_left(source))
    return code


def _put_back(source: Source, writer: StreamWriter, stack: Stack) -> int:
    records = items = 0
    try:
        with source:
            for part in source.parts():
                for done in writer.put(part):
                    source.delete([part[position].name for position in done])
                    items += len(done)
                    records += sum(len(part[position].records) for position in done)
                sys.stderr.write(f"{source.place}: {records} records so far\n")
    finally:  # how far it came is worth knowing also when it ends early
        print(f"{source.place}: put {records} records of {items} {source.unit} into {stack.ingest_stream}")
    return _print_left(source)


def _print_left(source: Source) -> int:
    """Say what is left and why; the exit code that this makes."""
    for why, names in source.left.items():
        sys.stderr.write(
            f"error: {source.place}: {len(names)} {source.unit} left there: {why} (the first: {names[0]})\n"
        )
    return 1 if source.left else 0
