"""Which Things have to be read: those that may have changed since the last good run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.errors import ThingworxCallFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lambdas.fetcher.listing import Row
    from lambdas.fetcher.models import Models
    from lambdas.shared.seen import Seen

__all__ = ["FULL_EVERY", "Choice", "choose", "reason_for_all"]

#: Milliseconds after which all Things are read, whatever the platform says of their changes.
FULL_EVERY = 24 * 60 * 60 * 1000
#: Templates and shapes that are asked for their Things; where more have changed, all Things are read.
_MODELS_ASKED = 50


class Choice(NamedTuple):
    """What to read.

    Attributes:
        read: names of the Things to read.
        same: those of them that haven't changed, as far as the platform tells.
        why_all: why all are read, in words; empty when only what has changed is.
    """

    read: list[str]
    same: frozenset[str]
    why_all: str


def choose(
    listed: Mapping[str, Row],
    models: Models | None,
    seen: Seen | None,
    why_all: str,
    things_of: Callable[[str, str], set[str]],
) -> Choice:
    """The Things to read.

    Args:
        listed: the tagged Things.
        models: templates and shapes, None where the platform can't tell when they were changed.
        seen: what the last good run saw.
        why_all: why all have to be read, known beforehand; or empty.
        things_of: names of the Things of a template or shape, by kind and name.

    Raises:
        ThingworxUnavailable: the platform doesn't answer now.
        ThingworxRefused: the platform refuses us.
    """
    if seen is None or models is None:
        return Choice(list(listed), frozenset(), why_all or "the platform can't tell what has changed")
    if not models.cover(row.template for row in listed.values() if row.template):
        return Choice(list(listed), frozenset(), why_all or "not all templates can be seen")
    changed = {
        name
        for name, row in listed.items()
        if row.stamp is None or seen.things.get(name, (None, None))[0] != row.stamp
    }
    edited = [model for model, stamp in models.stamps.items() if seen.models.get(model) != stamp]
    if len(edited) > _MODELS_ASKED:
        return Choice(list(listed), frozenset(), why_all or f"{len(edited)} templates or shapes have changed")
    try:
        for model in edited:
            changed |= things_of(*model.split("/", 1)) & listed.keys()
    except ThingworxCallFailed as error:
        return Choice(
            list(listed), frozenset(), why_all or f"the Things of a template can't be listed: {error}"
        )
    if why_all:
        return Choice(list(listed), frozenset(listed.keys() - changed), why_all)
    return Choice(sorted(changed), frozenset(), "")


def reason_for_all(seen: Seen | None, category: str, url: str, now: int, *, asked: bool) -> str:
    """Why all Things have to be read, as far as that is known before they are listed; or empty."""
    if asked:
        return "asked for"
    if seen is None:
        return "nothing is known of an earlier run"
    if (seen.category, seen.url) != (category, url):
        return "the category or the platform is another"
    if not 0 <= now - seen.full_at < FULL_EVERY:
        return "once a day"
    return ""
