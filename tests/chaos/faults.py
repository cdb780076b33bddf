"""Carries out what a schedule says: each method is a kind of action."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.chaos.aws_faults import AwsFault, FaultKind
from tests.chaos.machines import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.functions import Environment
    from tests.chaos.world import World

__all__ = ["Faults"]

_PUSH = "UpdateSubscribedPropertyValues"


class Faults:
    """The faults of one run.

    Args:
        world: what they strike.
        seed: of what a schedule leaves open, such as which connector is killed.

    Attributes:
        deaf: spans in which the platform read nothing from its connections.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._later: list[threading.Timer] = []
        self._healed = False
        self._away: set[str] = set()
        self._replaced: set[str] = set()
        self.deaf: list[tuple[float, float]] = []

    def strike(self, kind: str, values: dict[str, Any]) -> None:
        """Carry out an action."""
        getattr(self, kind)(**values)

    def heal(self) -> None:
        """End everything that lasts."""
        self._healed = True
        for timer in self._later:
            timer.cancel()
            timer.join()
        world = self._world
        for thing in self._away:
            world.platform.call("tag", thing)
        world.functions.thaw()
        world.edge.faults.clear()
        world.platform.call("clear")
        world.stream.repeat = world.stream.forget = 0.0
        world.machines.double = world.machines.drop = 0.0

    def _after(self, seconds: float, what: Callable[[], object]) -> None:
        if self._healed:
            return
        timer = threading.Timer(seconds * self._world.pace, what)
        timer.daemon = True
        self._later.append(timer)
        timer.start()

    def _rule(self, seconds: float, **rule: Any) -> None:
        number = self._world.platform.call("fault", **rule)
        self._after(seconds, lambda: self._world.platform.call("lift", number))

    # Processes

    def kill_connector(self) -> None:
        """Kill one that is at work."""
        self._hit("connector", lambda environment: environment.kill())

    def kill_router(self) -> None:
        """Kill one in the middle of a batch."""
        self._hit("router", lambda environment: environment.kill())

    def freeze_connector(self, seconds: float, lonely: float) -> None:
        """Stop one, and let it go on after some time: past its lease, or within it.

        For `lonely` seconds more it doesn't reach the control table, which would tell it whose the slot is.
        """

        def freeze(environment: Environment) -> None:
            self._freeze(environment, seconds)
            if lonely:
                self._cut_off(environment.name, seconds + lonely)

        self._hit("connector", freeze)

    def freeze_router(self, seconds: float) -> None:
        """Stop one in the middle of a batch for a while."""
        self._hit("router", lambda environment: self._freeze(environment, seconds))

    def _freeze(self, environment: Environment, seconds: float) -> None:
        environment.freeze()
        self._after(seconds, environment.thaw)

    def _hit(self, function: str, what: Callable[[Environment], None]) -> None:
        environment = self._world.functions.pick(function, self._random)
        if environment is not None:
            what(environment)

    # The platform

    def cut_sessions(self) -> None:
        """Cut every AlwaysOn connection."""
        self._world.platform.call("connections", self._random.choice(("drop", "close")))

    def half_open_sessions(self, seconds: float) -> None:
        """Read nothing from today's connections for a while, as behind a firewall that forgot them."""
        self._world.platform.call("connections", "freeze")
        # What was sent meanwhile arrives after it.
        self.deaf.append((time.time(), time.time() + (seconds + 1.0) * self._world.pace))
        self._after(seconds, lambda: self._world.platform.call("connections", "thaw"))

    def refuse_pushes(self, thing: str, row: str, status: int, seconds: float) -> None:
        """Refuse the values of a Thing, or of all, or calls with some row."""
        self._rule(seconds, service=_PUSH, thing=thing, row=row, status=status)

    def leave_pushes_unanswered(self, thing: str, how: str, when: str, times: int) -> None:
        """Break off at some pushes, before or after they took effect."""
        self._rule(5.0, service=_PUSH, thing=thing, when=when, times=times, **{how: True})

    def delay_pushes(self, milliseconds: float, seconds: float) -> None:
        """Take long for every push."""
        self._rule(seconds, service=_PUSH, delay_ms=milliseconds)

    def refuse_binds(self, thing: str, seconds: float) -> None:
        """Let nobody bind a Thing, and cut its session so that somebody must."""
        self._rule(seconds, method="BIND", thing=thing, status=403)
        self.cut_sessions()

    def disable(self, thing: str, seconds: float) -> None:
        """Switch a Thing off for a while."""
        self._world.platform.call("enable", thing, False)  # noqa: FBT003 - through the pipe, by position
        self._after(seconds, lambda: self._world.platform.call("enable", thing, True))  # noqa: FBT003 - same

    def restart_platform(self, seconds: float) -> None:
        """Be away as a platform that restarts: connections end, nothing is served for a while."""
        self._rule(seconds, status=503)
        self._world.platform.call("connections", "close")

    # AWS

    def fail_aws(
        self, service: str, operation: str, kind: FaultKind, probability: float, seconds: float
    ) -> None:
        """Let calls fail."""
        fault = AwsFault(service, operation, kind, probability, seconds=0.4 * self._world.pace)
        self._world.edge.faults.add(fault)
        self._after(seconds, lambda: self._world.edge.faults.remove(fault))

    def fail_sends(self, **rule: Any) -> None:
        """Let the router's calls fail in parts."""
        self.fail_aws(**rule)

    def lose_control_table(self, seconds: float) -> None:
        """Let no connector reach the control table, so that their leases end while they serve."""
        self._cut_off("connector-*", seconds)

    def _cut_off(self, caller: str, seconds: float) -> None:
        fault = AwsFault("dynamodb", "*", "error", 1.0, caller=caller)
        self._world.edge.faults.add(fault)
        self._after(seconds, lambda: self._world.edge.faults.remove(fault))

    def lose_registry(self) -> None:
        """Empty Redis, and repair it by a discovery run."""
        self._world.lose_registry()
        self._after(0.3, self.discover)

    def repeat_batches(self, seconds: float) -> None:
        """Give settled batches again."""
        self._world.stream.repeat = 0.3
        self._after(seconds, lambda: setattr(self._world.stream, "repeat", 0.0))

    def forget_answers(self, seconds: float) -> None:
        """Give whole batches again of which a part was settled."""
        self._world.stream.forget = 0.5
        self._after(seconds, lambda: setattr(self._world.stream, "forget", 0.0))

    def expire_visibility(self) -> None:
        """End the visibility timeout of every message in flight."""
        for queue in self._world.edge.sqs.queues.values():
            queue.expire()

    def reshard(self, shards: int) -> None:
        """End all shards and open others."""
        self._world.stream.reshard(shards)

    # The operator

    def deploy(self) -> None:
        """Let no environment of today serve again."""
        for function in ("router", "connector", "scaler", "assigner", "fetcher"):
            self._world.functions.deploy(function)

    def stop_execution(self) -> None:
        """Stop a slot's execution, as StopExecution does; discovery starts it anew."""
        running = self._world.machines.running(CONNECTOR)
        if running:
            self._world.machines.stop(CONNECTOR, self._random.choice(running))
            self._after(1.3, self.discover)

    def double_events(self, seconds: float) -> None:
        """Deliver connectors' asynchronous events twice."""
        self._world.machines.double = 0.7
        self._after(seconds, lambda: setattr(self._world.machines, "double", 0.0))

    def drop_events(self, seconds: float) -> None:
        """Lose connectors' asynchronous events, as those that grew too old."""
        self._world.machines.drop = 0.5
        self._after(seconds, lambda: setattr(self._world.machines, "drop", 0.0))

    def start_another(self) -> None:
        """Start a second execution for a slot by mistake."""
        running = self._world.machines.running(CONNECTOR)
        if running:
            self._world.start_another(self._random.choice(running))

    def change_shape(self, thing: str) -> None:
        """Give a Thing another property and have it discovered."""
        self._world.platform.call("define", thing, "later", "INTEGER")
        self.discover()

    def retire_slot(self) -> None:
        """Let no Thing of the smallest slot be the connector's any more, and have it forgotten."""
        slots = list(self._world.things().values())
        if len(set(slots)) < 2:
            return
        smallest = min(sorted(set(slots)), key=slots.count)
        for thing, slot in self._world.things().items():
            if slot == smallest:
                self._world.platform.call("untag", thing)
        self.discover()
        self._after(0.8, self._forget_all)

    def _forget_all(self) -> None:
        self._world.let_a_day_pass()
        self.discover()

    def leave(self, thing: str, seconds: float, *, deleted: bool, replaced: bool) -> None:
        """Let a Thing be the connector's no more, have it forgotten, and let it return after a while.

        One that is deleted refuses its values meanwhile, so that they are parked; where another Thing takes
        its place, it returns to another slot.
        """
        self._world.platform.call("untag", thing)
        self._away.add(thing)
        if deleted:
            self._rule(seconds, service=_PUSH, thing=thing, status=404)
        self.discover()
        self._after(0.4, lambda: self._forget(thing, replaced=replaced))
        self._after(seconds, lambda: self._return(thing))

    def _forget(self, thing: str, *, replaced: bool) -> None:
        if thing not in self._away:
            return  # it is back already
        if not self._world.let_a_day_pass(thing):
            self._after(0.1, lambda: self._forget(thing, replaced=replaced))
            return
        if replaced and thing not in self._replaced:
            self._replaced.add(thing)
            self._world.add_thing(f"successor-of-{thing}", "ALWAYS")
        self.discover()

    def _return(self, thing: str) -> None:
        self._world.platform.call("tag", thing)
        self._away.discard(thing)
        self.discover()

    def make_known(self, thing: str) -> None:
        """Add a Thing that publishes already."""
        self._world.add_thing(thing, "ALWAYS")
        self.discover()

    def discover(self) -> None:
        """Start a discovery run."""
        self._world.start_discovery()
