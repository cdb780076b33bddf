"""The list step: which Things there are, and which of them are read in this run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.fetcher.changes import choose, reason_for_all
from lambdas.fetcher.definitions import Ask
from lambdas.fetcher.identifiers import identified
from lambdas.fetcher.listing import find_things, list_things, packets_of, things_of
from lambdas.fetcher.models import read_models, stamps_of_things
from lambdas.shared.seen import Mistake, Seen, as_lists, from_lists
from lambdas.shared.shape import shape_from_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lambdas.fetcher.listing import Row, Services

__all__ = ["Subject", "Survey", "asks_of", "survey", "survey_of"]

#: So many Things are asked for their bindings one by one; of more, only the first of its like is.
_EACH_UP_TO = 1000
_IDENTIFIER = Mistake("identifier_set")


class Subject(NamedTuple):
    """What is looked for, and where.

    Attributes:
        tag: tag of the Things.
        category: category of the properties.
        url: the platform.
    """

    tag: str
    category: str
    url: str


class Survey(NamedTuple):
    """What there is, and what to read of it.

    Attributes:
        draft: the fleet as this run sees it; the Things to read have no shape yet.
        read: names of the Things to read.
        packets: the same in work packets, each as it is staged.
        limited: names that the run is limited to; None when it is about all Things.
        why_all: why all are read, in words; empty when only what has changed is.
    """

    draft: Seen
    read: list[str]
    packets: list[dict[str, Any]]
    limited: list[str] | None
    why_all: str

    def to_document(self) -> dict[str, Any]:
        """What is staged as `listing`."""
        return self.draft.to_document() | {"limited": self.limited, "why_all": self.why_all}


def survey(services: Services, subject: Subject, seen: Seen | None, *, now: int, full: bool) -> Survey:
    """List all Things and choose those that may have changed since they were `seen`.

    Args:
        services: the platform.
        subject: what to look for.
        seen: what the last good run saw, None when nothing is known of one.
        now: milliseconds since 1970 UTC.
        full: read all, and ask each for its bindings.

    Raises:
        ThingworxError: the platform doesn't answer, refuses, or cuts the list off.
    """
    why_all = reason_for_all(seen, subject.category, subject.url, now, asked=full)
    if seen is not None and (seen.category, seen.url) != (subject.category, subject.url):
        seen = None
    # Before the Things are read: what changes meanwhile has another time at the next run.
    models = read_models(services)
    listing = list_things(services, subject.tag, None if why_all or seen is None else seen.way)
    listed = stamps_of_things(services, subject.tag, listing.things)
    choice = choose(
        listed,
        models,
        seen,
        why_all,
        lambda kind, name: things_of(services, subject.tag, kind, name),
    )
    before = seen or Seen(subject.category, subject.url, 0, listing.way)
    mistakes = {
        name: [entry for entry in found if entry != _IDENTIFIER] for name, found in before.mistakes.items()
    }
    reading = frozenset(choice.read)
    draft = Seen(
        subject.category,
        subject.url,
        now if choice.why_all else before.full_at,
        listing.way,
        models.stamps if models else {},
        {
            name: (row.stamp, None if name in reading else before.things[name][1])
            for name, row in listed.items()
        },
    )
    draft.mistakes = {name: found for name, found in mistakes.items() if found and _kept(name, draft)}
    used = {shape for _, shape in draft.things.values() if shape is not None}
    draft.shapes = {shape: before.shapes[shape] for shape in sorted(used)}
    for name in identified(services, subject.tag):
        if name in listed:
            draft.mistakes[name] = [*draft.mistakes.get(name, ()), _IDENTIFIER]
    same = frozenset() if full else choice.same
    packets = _packets(choice.read, listed, before, mistakes, same, each=full)
    return Survey(draft, choice.read, packets, None, choice.why_all)


def survey_of(services: Services, subject: Subject, names: Iterable[str]) -> Survey:
    """Look for the named Things only, and read them.

    Raises:
        ThingworxError: the platform doesn't answer, or refuses.
    """
    limited = sorted(set(names))
    found = find_things(services, subject.tag, limited)
    draft = Seen(subject.category, subject.url, 0, "")
    draft.things = {name: (row.stamp, None) for name, row in found.items()}
    packets = _packets(list(found), found, draft, {}, frozenset(), each=True)
    return Survey(draft, list(found), packets, limited, "")


def asks_of(packet: Mapping[str, Any]) -> list[Ask]:
    """The Things of a staged packet."""
    shapes = {name: shape_from_item(item) for name, item in packet.get("shapes", {}).items()}
    before, templates = packet.get("before", {}), packet.get("templates", {})
    mistakes = from_lists(packet.get("mistakes", {}))
    return [
        Ask(name, templates.get(name), shapes.get(before.get(name)), tuple(mistakes.get(name, ())))
        for name in packet["things"]
    ]


def _kept(name: str, draft: Seen) -> bool:
    return draft.things.get(name, (None, None))[1] is not None


def _packets(
    names: list[str],
    listed: Mapping[str, Row],
    seen: Seen,
    mistakes: Mapping[str, Sequence[Mistake]],
    same: frozenset[str],
    *,
    each: bool,
) -> list[dict[str, Any]]:
    parts = packets_of(names)
    staged: list[dict[str, Any]] = []
    for part in parts:
        before = {name: seen.things[name][1] for name in part if name in same}
        staged.append(
            {
                "things": part,
                "templates": {name: listed[name].template for name in part},
                "before": before,
                "shapes": {shape: seen.shapes[shape] for shape in set(before.values()) if shape is not None},
                "mistakes": as_lists({name: mistakes[name] for name in before if mistakes.get(name)}),
                "each": each or len(names) <= _EACH_UP_TO,
                "packets": len(parts),
            }
        )
    return staged
