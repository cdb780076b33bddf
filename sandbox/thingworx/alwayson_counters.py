"""What the AlwaysOn front end counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["AlwaysOnCounters"]


class AlwaysOnCounters:
    """Counts since the start or the last reset; used in the server's thread.

    Attributes:
        counts: By name: connections, auth_accepted, auth_refused, not_authenticated, wrong_session, binds and
            unbinds (names), bind_messages, takeovers, pushes, pushed_rows, lost_rows (pushed before
            synchronisation), synchronised, sync_fallbacks, edge_requests, edge_timeouts, unmatched_answers,
            malformed, unknown_messages, pings, idle_closed, frames_in, frames_out.
        refused: BIND refusals by reason.
        largest_frame: Of what was sent, in bytes.
        most_in_flight: Most requests of one Thing that were unanswered at one time, by Thing; pushes, calls
            and property requests of edges.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.largest_frame = 0
        self.most_in_flight: dict[str, int] = {}
        self._in_flight: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        self.counts[name] += count

    def frame(self, size: int) -> None:
        """Count a frame that was sent."""
        self.counts["frames_out"] += 1
        self.largest_frame = max(self.largest_frame, size)

    def began(self, thing: str) -> None:
        """Count a Thing's request in."""
        now = self._in_flight[thing] = self._in_flight[thing] + 1
        if now > self.most_in_flight.get(thing, 0):
            self.most_in_flight[thing] = now

    def ended(self, thing: str) -> None:
        """Count it out: answered, or never to be."""
        self._in_flight[thing] -= 1
        if not self._in_flight[thing]:
            del self._in_flight[thing]

    def as_json(self) -> dict[str, Any]:
        """All of it; of the Things, those that ever had more than one request in flight."""
        return {
            **self.counts,
            "bind_refusals": dict(self.refused),
            "largest_frame": self.largest_frame,
            "max_in_flight": max(self.most_in_flight.values(), default=0),
            "several_in_flight": {name: n for name, n in self.most_in_flight.items() if n > 1},
        }

    def reset(self) -> None:
        """Start counting anew."""
        self.counts.clear()
        self.refused.clear()
        self.largest_frame = 0
        self.most_in_flight = dict(self._in_flight)
