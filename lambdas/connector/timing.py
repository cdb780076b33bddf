"""When a connector hands over, when it gives up waiting for a successor, and how long each step may take.

    |---------------- serve -----------------|--- leaving ---|- stop, settle, answer -|
    start                               handover_at        end_at              the function is killed

All of it follows from the settings and the time the function has, so that a lifetime of half a minute
works like one of fifteen.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lambdas.shared.settings import ConnectorSettings

__all__ = ["Timing", "plan"]

_MOST_END_SECONDS = 30.0
_MOST_SETTLE_SECONDS = 8.0
_MOST_GRACE_SECONDS = 5.0
_MOST_POLL_SECONDS = 10
_MOST_TICK_SECONDS = 0.5
#: Between two looks of a successor that has asked for the slot: each is a read of one item, for seconds.
_MOST_QUICK_SECONDS = 0.03
#: How long all lanes may take to come to rest for a hand-over: readings wait meanwhile.
_MOST_REST_SECONDS = 2.0


class Timing(NamedTuple):
    """Moments and durations of one connector's life, in seconds.

    Attributes:
        handover_at: when a successor is called for, on the clock of `now`.
        end_at: when to stop though no successor has come, on the same clock.
        settle: how long work under way may go on after receiving has stopped.
        grace: how long calls already sent may then take before their lanes are left behind.
        poll: longest receive call; what a stop may have to wait for, whole seconds.
        tick: pause between looks at the lease while somebody waits.
        quick: the same while the owner is about to offer it.
        rest: how long lanes at work may take to end before the slot is handed over without a way back.
    """

    handover_at: float
    end_at: float
    settle: float
    grace: float
    poll: int
    tick: float
    quick: float = _MOST_QUICK_SECONDS
    rest: float = _MOST_REST_SECONDS


def plan(settings: ConnectorSettings, seconds_left: float, now: float) -> Timing:
    """Timing of a connector that is killed `seconds_left` after `now`.

    Half of a short life is served before a hand-over, whatever the settings say: a margin longer than
    the life would make each connector hand over at once, for ever.
    """
    margin = min(settings.handover_before_end_seconds, seconds_left / 2)
    end = min(_MOST_END_SECONDS, margin / 3)
    spread = min(float(settings.handover_jitter_seconds), margin / 3)
    return Timing(
        handover_at=now + seconds_left - margin + random.uniform(-spread, spread),
        end_at=now + seconds_left - end,
        settle=min(_MOST_SETTLE_SECONDS, 0.3 * end),
        grace=min(_MOST_GRACE_SECONDS, 0.2 * end),
        poll=max(1, min(_MOST_POLL_SECONDS, int(min(end, settings.lease_seconds) / 3))),
        tick=min(_MOST_TICK_SECONDS, settings.lease_seconds / 10),
        quick=min(_MOST_QUICK_SECONDS, settings.lease_seconds / 10),
        rest=min(_MOST_REST_SECONDS, 0.3 * end),
    )
