"""Faults on demand, and counts of what a platform was asked: shared by all protocol front ends.

A rule matches requests and says what happens to them. Rules are tried in the order they were added; the first
that matches and isn't used up acts, alone.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FaultRule", "Faults", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as rules see it: `service` is empty for anything but a service call.

    `protocol` is `rest` or `alwayson`; `direction` `in`, or `out` for what the platform asks an edge; `rows`
    the names in the rows of an AlwaysOn push, filled in when a rule asks for them.
    """

    method: str
    path: str
    collection: str = ""
    entity: str = ""
    service: str = ""
    protocol: str = "rest"
    direction: str = "in"
    rows: tuple[str, ...] = ()


@dataclass(slots=True)
class FaultRule:
    """Which requests fail, how often and how.

    Attributes:
        method, path, collection, thing, service: Patterns (`*`, `?`) that must all match; `thing` is the
            entity's name in any collection. AlwaysOn has the methods UPGRADE (the WebSocket handshake),
            AUTH, BIND and UNBIND (once for each Thing), GET, PUT, POST, and PING, which no other fits.
        protocol: Pattern of `rest` and `alwayson`.
        direction: `in`, or `out` for requests of the platform to an edge.
        row: Pattern of an edge name in a push over AlwaysOn.
        skip: Matching requests let through first.
        times: Requests it then acts on; None for ever.
        when: `before` the request is carried out, `after` (it takes effect, only its answer is replaced), or,
            over AlwaysOn, `answered` (it takes effect and is answered first).
        delay_ms: Wait first.
        status: HTTP status to answer; None to answer normally (after the delay).
        body: What to answer; for `html` the text in the page.
        html: Answer an HTML page.
        headers: Further headers, such as `Retry-After`.
        redirect: Answer 302 to this address.
        drop: Close the connection without an answer.
        bad_json: Answer 200 with JSON that ends in the middle.
        silent, freeze, cut, close: Over AlwaysOn (REST: as `drop`) give no answer; stop reading and
            answering on this connection while it stays open; close it in the middle of the answer's frame
            (`out`: of the request's); close it with this WebSocket close code.
    """

    method: str = "*"
    path: str = "*"
    collection: str = "*"
    thing: str = "*"
    service: str = "*"
    protocol: str = "*"
    direction: Literal["in", "out"] = "in"
    row: str = "*"
    skip: int = 0
    times: int | None = None
    when: Literal["before", "after", "answered"] = "before"
    delay_ms: float = 0
    status: int | None = None
    body: str = ""
    html: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    drop: bool = False
    bad_json: bool = False
    silent: bool = False
    freeze: bool = False
    cut: bool = False
    close: int | None = None
    id: int = 0
    hits: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FaultRule:
        """A rule from the control API.

        Raises:
            ValueError: A key is unknown.
        """
        unknown = values.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        if values.get("when", "before") not in {"before", "after", "answered"}:
            raise ValueError("when is before or after, or answered")
        if values.get("direction", "in") not in {"in", "out"}:
            raise ValueError("direction is in or out")
        return cls(**values)

    @property
    def answers(self) -> bool:
        """Whether it replaces the answer, rather than only delaying it."""
        return self.status is not None or bool(self.redirect) or self.bad_json or self.breaks

    @property
    def breaks(self) -> bool:
        """Whether there is no answer at all."""
        return self.drop or self.silent or self.freeze or self.cut or self.close is not None

    def matches(self, request: Request) -> bool:
        """Whether all its patterns fit."""
        if request.direction != self.direction or (request.method == "PING" and self.method != "PING"):
            return False
        if self.row != "*" and not any(fnmatchcase(name, self.row) for name in request.rows):
            return False
        return (
            fnmatchcase(request.protocol, self.protocol)
            and fnmatchcase(request.service, self.service)
            and fnmatchcase(request.entity, self.thing)
            and fnmatchcase(request.method, self.method)
            and fnmatchcase(request.collection, self.collection)
            and fnmatchcase(request.path, self.path)
        )


class Faults:
    """Rules, global conditions and counters; every method may be called from any thread.

    Attributes:
        latency_ms: Added to every request.
        starting: Answer 503 to everything, as a platform that starts.
    """

    def __init__(self) -> None:
        self.latency_ms: float = 0
        self.starting = False
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []
        self._ids = itertools.count(1)
        self._by_service: Counter[str] = Counter()
        self._by_status: Counter[int] = Counter()
        self._running = self._most = self._requests = self._sessions = 0

    def add(self, **values: Any) -> FaultRule:
        """Add a rule, given by its fields.

        Raises:
            ValueError: A field is unknown.
        """
        rule = FaultRule.from_json(values)
        with self._lock:
            rule.id = next(self._ids)
            self._rules.append(rule)
        return rule

    def remove(self, rule_id: int) -> bool:
        """Remove a rule; whether there was one."""
        with self._lock:
            kept = [rule for rule in self._rules if rule.id != rule_id]
            found = len(kept) < len(self._rules)
            self._rules = kept
        return found

    def clear(self) -> None:
        """Remove all rules, latency and the starting state."""
        with self._lock:
            self._rules = []
        self.latency_ms, self.starting = 0, False

    def rules(self) -> list[dict[str, Any]]:
        """The rules as JSON, with how often each acted."""
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    @property
    def wants_rows(self) -> bool:
        """Whether a rule looks at the rows of a push."""
        return any(rule.row != "*" for rule in self._rules)

    def take(self, request: Request) -> FaultRule | None:
        """The rule that acts on this request, counted as used; None when all is well."""
        if not self._rules:
            return None
        with self._lock:
            for rule in self._rules:
                if not rule.matches(request):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                if rule.times is None or rule.hits < rule.times:
                    rule.hits += 1
                    return rule
        return None

    # Counters

    def began(self, request: Request) -> None:
        """Count a request in."""
        with self._lock:
            self._requests += 1
            self._by_service[request.service or f"{request.method} {request.collection}".rstrip()] += 1
            self._running += 1
            self._most = max(self._most, self._running)

    def ended(self, status: int) -> None:
        """Count a request out; 499 for one dropped by a rule, 0 for one that broke off."""
        with self._lock:
            self._running -= 1
            self._by_status[status] += 1

    def session_opened(self) -> None:
        """Count a server session, which a client gets that doesn't decline it."""
        with self._lock:
            self._sessions += 1

    def counters(self) -> dict[str, Any]:
        """Counts since the start or the last reset."""
        with self._lock:
            return {
                "requests": self._requests,
                "by_service": dict(self._by_service),
                "by_status": {str(status): count for status, count in self._by_status.items()},
                "running": self._running,
                "max_concurrency": self._most,
                "sessions": self._sessions,
            }

    def reset_counters(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._by_service.clear()
            self._by_status.clear()
            self._requests = self._sessions = 0
            self._most = self._running

    def __iter__(self) -> Iterator[FaultRule]:
        return iter(list(self._rules))
