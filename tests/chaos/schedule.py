"""What a seed does: the surroundings, the devices' readings, and the faults with their moments.

Everything random of a run is drawn here, so that a seed is the same schedule for ever; what the processes
make of it depends on the machine as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAULT_SECONDS", "Action", "Publish", "Schedule", "Setting", "plan"]

#: How long devices publish and faults strike.
FAULT_SECONDS = 2.5
_FEWEST, _MOST = 4, 9


class Publish(NamedTuple):
    """A device publishes: `parts` names the values of the payload; see `World.publish`."""

    at: float
    thing: str
    parts: tuple[str, ...]


class Action(NamedTuple):
    """A fault, or something an operator does; `values` are the arguments of the method `kind` of `Faults`."""

    at: float
    kind: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """The surroundings of a run.

    Attributes:
        things: names and push types of the Things that exist from the start.
        strangers: Things that publish before ThingWorx knows them.
        things_per_slot: as the setting of the stack.
        shards: of the stream, at first.
        batch: records of a batch.
        lifetime: seconds of a connector's invocation.
        bind_protection: the platform's policy.
        latency_ms: the platform's.
        cache_seconds: how long the router remembers what it has looked up.
    """

    things: dict[str, str]
    strangers: list[str]
    things_per_slot: int
    shards: int
    batch: int
    lifetime: float
    bind_protection: str
    latency_ms: float
    cache_seconds: int


@dataclass(frozen=True)
class Schedule:
    """A seed's plan."""

    seed: int
    setting: Setting
    publishes: list[Publish] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The plan for people."""
        setting = ", ".join(f"{name}={value}" for name, value in vars(self.setting).items())
        listed = [f"{a.at:5.2f} s  {a.kind} {a.values or ''}".rstrip() for a in self.actions]
        return [f"seed {self.seed}: {setting}", f"{len(self.publishes)} readings", *listed]


def plan(seed: int, *, faults: bool = True) -> Schedule:
    """The schedule of a seed; without faults only the readings and hand-overs are left of it."""
    rng = random.Random(seed)
    setting = _setting(rng)
    publishes = _publishes(rng, setting)
    actions = _actions(rng, setting) if faults else []
    return Schedule(seed, setting, publishes, sorted(actions, key=lambda action: action.at))


def _setting(rng: random.Random) -> Setting:
    names = [f"pump-{number}" for number in range(rng.randint(3, 6))]
    return Setting(
        things={name: rng.choice(("ALWAYS", "VALUE")) for name in names},
        strangers=[f"stranger-{number}" for number in range(rng.choice((0, 0, 1)))],
        things_per_slot=rng.choice((3, 4, 8)),
        shards=rng.randint(1, 2),
        batch=rng.choice((5, 20, 60)),
        lifetime=rng.choice((2.0, 3.0, 5.0)),
        bind_protection=rng.choice(("first-in-wins", "last-in-wins")),
        latency_ms=rng.choice((0.0, 2.0, 20.0)),
        cache_seconds=rng.choice((0, 0, 1)),
    )


def _publishes(rng: random.Random, setting: Setting) -> list[Publish]:
    found: list[Publish] = []
    for thing in [*setting.things, *setting.strangers]:
        pause = rng.choice((0.03, 0.08, 0.2))
        at = rng.random() * pause
        while at < FAULT_SECONDS:
            # Some devices send their readings in bursts.
            for _ in range(rng.choice((1, 1, 1, 6))):
                found.append(Publish(at, thing, _parts(rng)))  # noqa: PERF401 - the loop draws as it goes
            at += rng.expovariate(1 / pause)
    return sorted(found)


def _parts(rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.02:
        return ("broken",)
    chosen = [name for name in ("count", "temp", "note") if rng.random() < 0.6] or ["count"]
    if rng.random() < 0.03:
        chosen.append("refused")
    if rng.random() < 0.2:
        chosen.append("later")
    return tuple(chosen)


def _actions(rng: random.Random, setting: Setting) -> list[Action]:
    found: list[Action] = []
    for stranger in setting.strangers:
        found.append(Action(rng.uniform(0.5, FAULT_SECONDS), "make_known", {"thing": stranger}))  # noqa: PERF401 - as above
    names = list(_KINDS)
    weights = [weight for weight, _ in _KINDS.values()]
    for kind in rng.choices(names, weights, k=rng.randint(_FEWEST, _MOST)):
        at = rng.uniform(0.1, FAULT_SECONDS - 0.3)
        found.append(Action(at, kind, _KINDS[kind][1](rng, setting)))
    return found


def _nothing(_rng: random.Random, _setting: Setting) -> dict[str, Any]:
    return {}


def _span(shortest: float, longest: float) -> Callable[[random.Random, Setting], dict[str, Any]]:
    return lambda rng, _: {"seconds": round(rng.uniform(shortest, longest), 2)}


def _freeze(rng: random.Random, _setting: Setting) -> dict[str, Any]:
    # Within a lease of one second, just past it with a successor at work, and long after it.
    return {"seconds": rng.choice((0.5, 1.3, 1.6, 1.9, 2.5)), "lonely": rng.choice((0.0, 0.7))}


def _thing_span(rng: random.Random, setting: Setting) -> dict[str, Any]:
    return {"thing": rng.choice(list(setting.things)), "seconds": round(rng.uniform(0.3, 1.5), 2)}


def _leave(rng: random.Random, setting: Setting) -> dict[str, Any]:
    return {
        "thing": rng.choice(list(setting.things)),
        "seconds": round(rng.uniform(0.9, 2.0), 2),
        "deleted": rng.random() < 0.7,
        "replaced": rng.random() < 0.7,
    }


def _push(rng: random.Random, setting: Setting) -> dict[str, Any]:
    status = rng.choice((400, 403, 404, 500, 503))
    thing = rng.choice([*setting.things, "*"])
    row = rng.choice(("*", "*", "temp"))
    return {"thing": thing, "row": row, "status": status, "seconds": round(rng.uniform(0.2, 1.2), 2)}


def _unanswered(rng: random.Random, setting: Setting) -> dict[str, Any]:
    how = rng.choice(("silent", "cut", "drop"))
    when = rng.choice(("before", "after"))
    return {"thing": rng.choice([*setting.things, "*"]), "how": how, "when": when, "times": rng.randint(1, 4)}


def _slow(rng: random.Random, _setting: Setting) -> dict[str, Any]:
    return {"milliseconds": rng.choice((50, 200, 900)), "seconds": round(rng.uniform(0.3, 1.2), 2)}


_AWS = (
    ("sqs", "SendMessageBatch", ("throttle", "error", "lost", "partial")),
    ("sqs", "ReceiveMessage", ("throttle", "error", "lost")),
    ("sqs", "DeleteMessageBatch", ("throttle", "error", "lost", "partial")),
    ("sqs", "ChangeMessageVisibilityBatch", ("throttle", "error", "lost", "partial")),
    ("dynamodb", "*", ("throttle", "error", "lost", "slow")),
    ("dynamodb", "BatchWriteItem", ("throttle", "partial", "lost")),
    ("states", "*", ("throttle", "error", "lost", "slow")),
)


def _aws(rng: random.Random, _setting: Setting) -> dict[str, Any]:
    service, operation, kinds = rng.choice(_AWS)
    return {
        "service": service,
        "operation": operation,
        "kind": rng.choice(kinds),
        "probability": rng.choice((0.3, 0.6, 1.0)),
        "seconds": round(rng.uniform(0.3, 1.6), 2),
    }


def _sends(rng: random.Random, _setting: Setting) -> dict[str, Any]:
    return {
        "service": "sqs",
        "operation": "SendMessageBatch",
        "kind": rng.choice(("partial", "partial", "lost")),
        "probability": rng.choice((0.2, 0.5)),
        "seconds": round(rng.uniform(0.5, 2.0), 2),
    }


_KINDS: dict[str, tuple[int, Callable[[random.Random, Setting], dict[str, Any]]]] = {
    "kill_connector": (4, _nothing),
    "freeze_connector": (5, _freeze),
    "lose_control_table": (3, _span(0.8, 2.6)),
    "kill_router": (2, _nothing),
    "freeze_router": (1, _span(0.2, 0.8)),
    "cut_sessions": (3, _nothing),
    "half_open_sessions": (3, _span(0.3, 1.5)),
    "refuse_pushes": (4, _push),
    "leave_pushes_unanswered": (3, _unanswered),
    "delay_pushes": (2, _slow),
    "refuse_binds": (2, _thing_span),
    "disable": (2, _thing_span),
    "restart_platform": (2, _span(0.2, 1.0)),
    "lose_registry": (1, _nothing),
    "fail_aws": (8, _aws),
    "fail_sends": (4, _sends),
    "repeat_batches": (2, _span(0.5, 2.0)),
    "forget_answers": (2, _span(0.5, 2.0)),
    "expire_visibility": (3, _nothing),
    "reshard": (2, lambda rng, _: {"shards": rng.randint(1, 3)}),
    "deploy": (1, _nothing),
    "stop_execution": (1, _nothing),
    "double_events": (1, _span(0.5, 2.0)),
    "drop_events": (1, _span(0.3, 1.0)),
    "start_another": (1, _nothing),
    "change_shape": (2, lambda rng, setting: {"thing": rng.choice(list(setting.things))}),
    "retire_slot": (2, _nothing),
    "leave": (3, _leave),
    "discover": (1, _nothing),
}
