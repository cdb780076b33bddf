"""What the last good run saw of the fleet, so that the next one reads only what has changed.

One object of the staging bucket, outside the runs' folders. It is made in two steps: `list` writes a
draft in which the Things to be read have no shape yet, `assign` fills it in, and `publish` puts it in
the last run's place, once the registry says the same. Times of changes are the platform's own and are
only ever compared for being equal, so that clocks don't matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.observability import logger
from lambdas.shared.staging import Staging, StagingFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mypy_boto3_s3 import S3Client

__all__ = ["FOLDER", "NAME", "Mistake", "Seen", "Stamp", "as_lists", "from_lists", "last_seen"]

#: Folder and name of the object in the staging bucket.
FOLDER, NAME = "fleet", "seen"

Stamp = int | str | None


class Mistake(NamedTuple):
    """Something that a Thing's owner got wrong in ThingWorx.

    Attributes:
        code: which mistake; docs/discovery.md lists them.
        property: name of the property, or empty when it is the Thing as a whole.
        detail: what was found, or empty.
    """

    code: str
    property: str = ""
    detail: str = ""


@dataclass
class Seen:
    """The fleet at one time.

    Attributes:
        category: property category the definitions were read with.
        url: platform they were read from.
        full_at: when all Things were last read, milliseconds since 1970 UTC.
        way: how the platform lists Things, see `lambdas.fetcher.listing`.
        models: `ThingTemplate/{name}` or `ThingShape/{name}` -> when the platform says it was changed.
        things: Thing name -> (when the platform says it was changed, shape id); None where not known.
        shapes: shape id -> properties, in their staged form.
        mistakes: Thing name -> mistakes of its owner, each as a list.
    """

    category: str
    url: str
    full_at: int
    way: str
    models: dict[str, Stamp] = field(default_factory=dict)
    things: dict[str, tuple[Stamp, str | None]] = field(default_factory=dict)
    shapes: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """The staged form."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return document | {"mistakes": as_lists(self.mistakes)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Seen:
        """Inverse of `to_document`.

        Raises:
            KeyError: it is of another form.
        """
        found = {entry.name: document[entry.name] for entry in fields(cls)}
        return cls(**found | {"mistakes": from_lists(document["mistakes"])})


def as_lists(mistakes: Mapping[str, Iterable[Mistake]]) -> dict[str, list[list[str]]]:
    """Mistakes by Thing in their staged form."""
    return {name: [list(entry) for entry in found] for name, found in mistakes.items()}


def from_lists(mistakes: Mapping[str, Iterable[Iterable[str]]]) -> dict[str, list[Mistake]]:
    """Inverse of `as_lists`."""
    return {name: [Mistake(*entry) for entry in found] for name, found in mistakes.items()}


def last_seen(client: S3Client, bucket: str) -> Seen | None:
    """What the last good run saw; None when it's missing, or not of this release's form."""
    try:
        document = Staging(client, bucket, FOLDER).find(NAME)
        return None if document is None else Seen.from_document(document)
    except (StagingFault, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("what the last run saw can't be read; all is read anew", extra={"reason": repr(error)})
        return None
