"""What must hold of a history. Pure: no clock, no process, no network."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.history import Hold, Write, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.history import History

__all__ = ["Violation", "check"]

#: What a frame may take from the check of the lease to the platform, in seconds at pace 1. It is the stated
#: residual: what a holder had sent before its lease ended may still arrive.
_FLIGHT_SECONDS = 0.3
_SHOWN = 8


class Violation(NamedTuple):
    """A promise that was broken: its name, and the part of the history that shows it."""

    promise: str
    evidence: str


def check(history: History) -> list[Violation]:
    """Everything that is wrong with a history; empty when all promises were kept."""
    found = [Violation("comes to rest", history.stuck)] if history.stuck else []
    for promise, evidence in (
        ("nothing is lost", _lost(history)),
        ("nothing is invented", _invented(history)),
        ("order is kept", _out_of_order(history)),
        ("the current value is the newest", _gone_back(history)),
        ("a Thing never goes back to an earlier session", _sessions_mixed(history)),
        ("only the owner of a slot delivers", _strangers(history)),
        ("counters add up", _miscounted(history)),
        ("no function crashes", iter(history.crashes)),
    ):
        shown = [text for _, text in zip(range(_SHOWN), evidence, strict=False)]
        if shown:
            found.append(Violation(promise, "\n".join(shown)))
    return found


def _delivered(history: History) -> set[tuple[str, str, int, Any]]:
    return {(w.thing, w.property, w.time, _plain(w.value)) for w in history.writes}


def _lost(history: History) -> Iterator[str]:
    delivered = _delivered(history)
    held: dict[str, set[str]] = defaultdict(set)
    for put in history.held:
        held[put.reading].add(put.reason)
    ever = {put.reading for put in history.puts}
    for offer in history.offers:
        if offer.broken:
            if offer.reading not in held:
                yield f"{offer.thing} {offer.reading}: a broken payload that isn't in the held store"
            continue
        missing = [
            f"{name}={value}"
            for name, value in offer.values.items()
            if (offer.thing, name, offer.time, _plain(value)) not in delivered
        ]
        if missing and not held.get(offer.reading, set()) - {"value_refused"}:
            was = "was in the held store, " if offer.reading in ever else ""
            sent = any(offer.reading in message.readings for message in history.sent)
            way = "reached its queue" if sent else "never reached a queue"
            yield (
                f"{offer.thing} {offer.reading} at {offer.time}: {', '.join(missing)} neither delivered nor "
                f"held; {was}{way}"
            )


def _invented(history: History) -> Iterator[str]:
    offered = {
        (offer.thing, name, offer.time, _plain(value))
        for offer in history.offers
        if not offer.broken
        for values in (offer.values, offer.optional)
        for name, value in values.items()
    }
    for write in history.writes:
        if (write.thing, write.property, write.time, _plain(write.value)) not in offered:
            yield f"{line(write)}: nobody published this"


def _first_writes(history: History) -> dict[tuple[str, str], list[Write]]:
    """Of each Thing and property, the first write of each reading, in order."""
    seen: set[tuple[str, str, int]] = set()
    first: dict[tuple[str, str], list[Write]] = defaultdict(list)
    for write in history.writes:
        key = (write.thing, write.property, write.time)
        if key not in seen:
            seen.add(key)
            first[write.thing, write.property].append(write)
    return first


def _out_of_order(history: History) -> Iterator[str]:
    """First deliveries go on in time; what was sent again from the held store may be late if counted so."""
    replayed = {reading for message in history.sent if message.replay for reading in message.readings}
    replayed |= {put.reading for put in history.puts if put.state == "unrouted"}
    may_be_late = {(offer.thing, offer.time) for offer in history.offers if offer.reading in replayed}
    late: set[tuple[str, int]] = set()
    killed = _killed(history)
    for (thing, name), writes in _first_writes(history).items():
        newest: Write | None = None
        seen: dict[
            int, int
        ] = {}  # by session: a connector counts as late what is older than what it delivered
        for write in writes:
            if newest is None or write.time > newest.time:
                newest = write
            elif (thing, write.time) not in may_be_late:
                yield f"{thing}.{name}: {line(write)} came after {line(newest)}"
            elif write.client not in killed and write.time < seen.get(write.session, 0):
                late.add((thing, write.time))
            seen[write.session] = max(write.time, seen.get(write.session, 0))
    totals = _totals(history)
    counted = totals["connector.late"] + totals["connector.replayed_late"]
    if len(late) > counted:
        yield f"{len(late)} readings came late, {counted} were counted as late, such as {sorted(late)[:3]}"


def _gone_back(history: History) -> Iterator[str]:
    newest: dict[tuple[str, str], Write] = {}
    for write in history.writes:
        key = (write.thing, write.property)
        if key not in newest or write.time >= newest[key].time:
            newest[key] = write
    for (thing, name), write in newest.items():
        value, time = history.values.get(thing, {}).get(name, (write.value, write.time))
        if (_plain(value), time) != (_plain(write.value), write.time):
            yield f"{thing}.{name} is {value} of {time}, although {line(write)} was stored"


def _sessions_mixed(history: History) -> Iterator[str]:
    """Writes over a session that another had followed, but for repetitions that the platform read late."""
    sessions: dict[str, list[Write]] = defaultdict(list)
    stored: set[tuple[str, str, int]] = set()
    for write in history.writes:
        known, key = sessions[write.thing], (write.thing, write.property, write.time)
        repeated = key in stored
        stored.add(key)
        if (known and known[-1].session == write.session) or (repeated and _read_late(history, write)):
            continue
        if any(earlier.session == write.session for earlier in known):
            yield f"{line(write)} came over a session that {line(known[-1])} had followed already"
        known.append(write)


def _strangers(history: History) -> Iterator[str]:
    """Writes that arrived from a process while another one owned the slot, or when its lease had ended."""
    changes: dict[str, list[Hold]] = defaultdict(list)
    process: dict[str, str] = {}
    for hold in history.holds:
        changes[hold.slot].append(hold)
        if hold.owner:
            process.setdefault(hold.owner, hold.caller)
    for write in history.writes:
        known = [changes[slot] for slot in history.slots.get(write.thing, ()) if slot in changes]
        if not known or _read_late(history, write):
            continue
        owners = {
            process[hold.owner] for holds in known for hold in _in_force(holds, write.arrived, history.pace)
        }
        if write.client not in owners:
            names = ", ".join(sorted(owners)) or "nobody"
            yield f"{line(write)} arrived at {write.arrived:.3f} while {names} owned the slot"


def _read_late(history: History, write: Write) -> bool:
    """Whether the platform had been deaf, so that the frame may have been sent long before."""
    return any(start <= write.arrived <= end for start, end in history.deaf)


def _in_force(changes: list[Hold], moment: float, pace: float) -> Iterator[Hold]:
    """The leases that held at some time of the last moments before `moment`."""
    since = moment - _FLIGHT_SECONDS * pace
    times = [hold.at for hold in changes]
    for index in range(max(0, bisect_right(times, since) - 1), bisect_right(times, moment)):
        hold = changes[index]
        end = changes[index + 1].at if index + 1 < len(changes) else float("inf")
        if hold.owner and min(hold.until, end) >= since:
            yield hold


def _killed(history: History) -> set[str]:
    """Processes whose last counters may be missing."""
    return {name for name, client in history.clients.items() if client.killed}


def _totals(history: History) -> Counter[str]:
    """All counters, as `{stage}.{name}`."""
    totals: Counter[str] = Counter()
    for client in history.clients.values():
        for stage, counters in client.counters:
            totals.update({f"{stage}.{name}": number for name, number in counters.items()})
    return totals


def _miscounted(history: History) -> Iterator[str]:
    totals = _totals(history)
    for name, client in history.clients.items():
        for stage, counters in client.counters:
            for total, parts in _SUMS.get(stage, ()):
                expected = sum(counters.get(part, 0) for part in parts)
                if counters.get(total, 0) != expected:
                    yield f"{name}: {total} is {counters.get(total, 0)}, its parts are {expected}: {counters}"
    if totals["router.readings_in"] != history.settled:
        yield f"the router counted {totals['router.readings_in']} readings of {history.settled} settled"
    yield from _uncounted(history, totals["connector.delivered"] + totals["connector.late"])


def _uncounted(history: History, counted: int) -> Iterator[str]:
    """Readings that were delivered and not counted, though none of their processes was killed."""
    writers: dict[tuple[str, int], set[str]] = defaultdict(set)
    for write in history.writes:
        writers[write.thing, write.time].add(write.client)
    held = {put.reading for put in history.puts}
    killed = _killed(history)
    sure = sum(
        1
        for offer in history.offers
        if offer.reading not in held
        and (offer.thing, offer.time) in writers
        and not writers[offer.thing, offer.time] & killed
    )
    if counted < sure:
        yield f"{sure} readings were delivered by processes that lived on, {counted} were counted"


_SETTLED = ("delivered", "late", "duplicate", "held_parked", "held_rejected", "dropped_held_full")
_SUMS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "router": [
        (
            "readings_in",
            ("routed", "held_unrouted", "held_rejected", "dropped_unregistered", "dropped_held_full"),
        )
    ],
    "connector": [
        ("taken", _SETTLED),
        ("replayed_taken", tuple(f"replayed_{part}" for part in _SETTLED)),
    ],
}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
