"""From readings and presence to parcels: per lane, in order, each within the size of one SQS message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.shared.parcel import MAX_BYTES, PresenceChange, Reading, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lambdas.shared.shape import Shape

__all__ = ["Chunk", "Packed", "Routed", "Unpackable", "pack"]


class Routed(NamedTuple):
    """A reading or a change of presence on its way.

    Attributes:
        position: index of its record in the batch; several may come from one.
        item: what is sent.
        slot: id of the slot that serves its Thing.
        lane: its lane in the slot.
    """

    position: int
    item: Reading | PresenceChange
    slot: str
    lane: int


class Chunk(NamedTuple):
    """One message to send.

    Attributes:
        slot: id of the slot whose queue takes it.
        lane: its lane; chunks of one lane must be sent in the order in which `pack` gives them.
        body: the parcel.
        first: position of the first record in it.
    """

    slot: str
    lane: int
    body: bytes
    first: int


class Unpackable(NamedTuple):
    """A reading or a change of presence that fits in no message.

    Attributes:
        position: index of its record in the batch.
        reason: `too_large` or `internal`.
        detail: a sentence for a person.
    """

    position: int
    reason: str
    detail: str


class Packed(NamedTuple):
    """Everything is in one chunk or unpackable."""

    chunks: list[Chunk]
    unpackable: list[Unpackable]


def pack(routed: Iterable[Routed], shapes: Mapping[str, Shape], replay: str = "") -> Packed:
    """Chunks of all lanes; the same items always give the same bytes.

    Args:
        routed: in the order of the batch.
        shapes: at least the shapes that the readings name.
        replay: name of the replay that sends them again.
    """
    lanes: dict[tuple[str, int], list[Routed]] = {}
    for entry in routed:
        lanes.setdefault((entry.slot, entry.lane), []).append(entry)
    packed = Packed([], [])
    for entries in lanes.values():
        for part in _parts(entries, shapes, replay):
            (packed.chunks if isinstance(part, Chunk) else packed.unpackable).append(part)  # type: ignore[arg-type]
    return packed


def _parts(
    entries: Sequence[Routed], shapes: Mapping[str, Shape], replay: str
) -> Iterator[Chunk | Unpackable]:
    """One chunk, or as many even parts as the size asks for, each cut further where it must be."""
    head = entries[0]
    parts = 2
    reason = "internal"
    try:
        items = [entry.item for entry in entries]
        readings = [item for item in items if type(item) is Reading]
        presence = (
            [item for item in items if type(item) is PresenceChange] if len(readings) < len(items) else ()
        )
        body = encode(readings, shapes, presence, replay)
    except Exception as error:  # noqa: BLE001 - one item's fault must not stop its neighbours
        detail = f"it can't be encoded: {type(error).__name__}: {error}"
    else:
        if len(body) <= MAX_BYTES:
            yield Chunk(head.slot, head.lane, body, head.position)
            return
        parts = -(-len(body) // MAX_BYTES)
        reason, detail = "too_large", f"as a message of {len(body)} bytes; a message has at most {MAX_BYTES}"
    if len(entries) == 1:
        yield Unpackable(head.position, reason, detail)
        return
    size = max(1, -(-len(entries) // parts))
    for start in range(0, len(entries), size):
        yield from _parts(entries[start : start + size], shapes, replay)
