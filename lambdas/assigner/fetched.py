"""Reading what the fetcher has staged, and putting it together with what was known before."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from lambdas.assigner.plan import Findings
from lambdas.shared.seen import Mistake, Seen, from_lists
from lambdas.shared.shape import Shape, shape_from_item
from lambdas.shared.staging import StagingFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lambdas.shared.staging import Staging

__all__ = ["Fetched", "read_fetched"]

_NOT_FETCHED = "its packet was not fetched"


@dataclass
class Fetched:
    """All packets of a run.

    Attributes:
        found: what to plan with.
        shapes: the shapes that `found` names.
        unsupported: Thing name -> properties left out, since their base type isn't supported; of the
            Things read in this run.
        seen: what the next run may rely on, once this one is published; None when it's about some
            Things only.
        mistakes: Thing name -> what its owner got wrong.
        listed: how many Things were listed.
        read: how many of them were read.
        why_all: why all were read; empty when only what had changed was.
        steps: step -> [begin, end], milliseconds since 1970 UTC.
    """

    found: Findings
    shapes: dict[str, Shape]
    unsupported: dict[str, list[str]] = field(default_factory=dict)
    seen: Seen | None = None
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)
    listed: int = 0
    read: int = 0
    why_all: str = ""
    steps: dict[str, list[int]] = field(default_factory=dict)


def read_fetched(staging: Staging) -> Fetched:
    """Everything the fetcher staged; a listed Thing that no packet speaks of counts as failed.

    Raises:
        StagingFault: there is no list, which is not the same as an empty one.
    """
    listing = staging.find("listing") or _listing_of_packets(staging)
    draft = Seen.from_document(listing)
    limited = listing.get("limited")
    failed: dict[str, str] = {}
    unsupported: dict[str, list[str]] = {}
    read: dict[str, str] = {}
    marks: list[list[int]] = []
    for document in staging.all("definitions"):
        read.update(document["things"])
        failed.update(document["failed"])
        unsupported.update(document.get("unsupported", {}))
        draft.shapes.update(document["shapes"])
        for name, found in from_lists(document.get("mistakes", {})).items():
            draft.mistakes[name] = [*draft.mistakes.get(name, ()), *found]
        marks.append([document["began"], document["ended"]] if "began" in document else [])
    things: dict[str, str] = {}
    seen: dict[str, Any] = {}
    for name, (stamp, known) in draft.things.items():
        shape = known or read.get(name)
        if shape is None:
            failed.setdefault(name, _NOT_FETCHED)
        else:
            things[name] = shape
            seen[name] = [stamp, shape]
    listed = len(draft.things)
    draft.things = seen
    draft.mistakes = {name: found for name, found in draft.mistakes.items() if name in things}
    shapes: dict[str, Shape] = {name: shape_from_item(item) for name, item in draft.shapes.items()}
    empty = frozenset(name for name, shape in things.items() if not shapes[shape])
    served = {name: shape for name, shape in things.items() if name not in empty} if empty else things
    only = None if limited is None else frozenset(limited)
    return Fetched(
        Findings(served, failed, empty, only),
        shapes,
        unsupported,
        draft if only is None and draft.url else None,
        draft.mistakes,
        listed,
        len(read),
        listing.get("why_all", ""),
        _steps(listing, marks),
    )


def _listing_of_packets(staging: Staging) -> dict[str, Any]:
    """The list as the release before staged it: all Things in packets, and all of them read."""
    lists = [document["things"] for document in staging.all("list")]
    if not lists:
        raise StagingFault("the run has listed nothing; start a new run")
    draft = Seen("", "", 0, "")
    draft.things = dict.fromkeys(chain.from_iterable(lists), (None, None))
    return draft.to_document()


def _steps(listing: Mapping[str, Any], marks: Iterable[list[int]]) -> dict[str, list[int]]:
    steps = {}
    if "began" in listing:
        steps["list"] = [listing["began"], listing["ended"]]
    known = [mark for mark in marks if mark]
    if known:
        steps["fetch"] = [min(begin for begin, _ in known), max(end for _, end in known)]
    return steps
