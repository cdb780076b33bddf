"""Beginning and ending discovery runs: who may run, and for which wishes.

At most one run plans at a time. One that is refused leaves what it was asked for as a wish, so that the
run after the present one, or the next minute's, sees to it. A repair takes no lock: it changes no plan,
asks nothing of ThingWorx, and must not wait for a run that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lambdas.shared.errors import RunLost
from lambdas.shared.wanted import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.shared.run_lock import RunLock
    from lambdas.shared.wanted import WantedRuns

__all__ = ["Asked", "Runs"]


class Asked(NamedTuple):
    """What the execution was started with.

    Attributes:
        dry_run: plan only.
        repair: publish what the control table says, and nothing else.
        wanted: see to wishes; what kind of run that is follows from them.
        full: read every Thing again.
        allow_removals: remove however many Things are gone.
        things: only these; empty: all.
    """

    dry_run: bool = False
    repair: bool = False
    wanted: bool = False
    full: bool = False
    allow_removals: bool = False
    things: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """The options among the fields of an event."""
        flags = {name: bool(event.get(name)) for name in cls._fields if name != "things"}
        things = event.get("things") or ()
        return cls(**flags, things=(things,) if isinstance(things, str) else tuple(things))


class Runs:
    """Begins, renews and ends runs.

    Args:
        lock: the run lock.
        wanted: the wishes.
        lease: milliseconds until others may take the lock over.
    """

    def __init__(self, lock: RunLock, wanted: WantedRuns, lease: int) -> None:
        self._lock = lock
        self._wanted = wanted
        self._lease = lease

    def begin(self, run: str, asked: Asked, now: int) -> dict[str, Any]:
        """Take the lock and the wishes that this run fulfils; answer of the step.

        Returns:
            `acquired`, `holder`, and how to run: `full`, `allow_removals`, `things`. Not acquired without
            a holder: the run was to see to wishes, and there are none.

        Raises:
            Conflict: the lock or the wishes changed at every try.
        """
        if asked.repair:
            self._wanted.clear_repair()
            return _begun(asked)
        taken = self._lock.begin(run, self._lease, now, again=not asked.dry_run)
        if not taken.acquired:
            self._leave_word(asked, now)
            return _begun(asked, acquired=False, holder=taken.holder)
        if asked.wanted:
            return self._see_to_wishes(run, now)
        if not asked.dry_run:
            self._wanted.take(run, Options(full=asked.full, things=asked.things))
        return _begun(asked)

    def renew(self, run: str, now: int) -> None:
        """Keep the lock.

        Raises:
            RunLost: another run holds it.
        """
        self._lock.renew(run, self._lease, now)

    def end(self, run: str, asked: Asked, now: int, *, failed: bool) -> bool:
        """Give the lock back; whether another run was asked for meanwhile.

        Raises:
            RunLost: another run holds it. What this one had taken is that one's.
        """
        if asked.repair:
            return False
        if failed:
            self._wanted.give_back(run, now)
            try:
                return self._lock.end(run)
            except RunLost:
                return False  # it has failed anyhow, maybe of this
        self._wanted.done(run)
        return self._lock.end(run)

    def _see_to_wishes(self, run: str, now: int) -> dict[str, Any]:
        options = self._wanted.take_next(run, now)
        if options is None:
            self._lock.end(run)
            return _begun(Asked(), acquired=False)
        return _begun(Asked(full=options.full, allow_removals=options.allow_removals, things=options.things))

    def _leave_word(self, asked: Asked, now: int) -> None:
        if asked.dry_run or asked.wanted:
            return  # nothing to catch up on, or wishes already
        if asked.things:
            self._wanted.ask_things(asked.things, now)
            return
        options = {"full": asked.full, "allow_removals": asked.allow_removals}
        self._wanted.ask("unknown", *(name for name, chosen in options.items() if chosen), now=now)


def _begun(asked: Asked, *, acquired: bool = True, holder: str | None = None) -> dict[str, Any]:
    return {
        "acquired": acquired,
        "holder": holder,
        "full": asked.full,
        "allow_removals": asked.allow_removals,
        "things": list(asked.things),
    }
