"""Gets the Things of a session bound and synchronised, and keeps them so; without I/O."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from lambdas.shared.observability import logger
from lambdas.thingworx.alwayson.binding import Bindings, BoundThing, Phase, groups_of
from lambdas.thingworx.alwayson.calls import Answer, NoAnswer
from lambdas.thingworx.alwayson.codes import Method, Status, is_success
from lambdas.thingworx.alwayson.deadlines import Deadlines
from lambdas.thingworx.alwayson.events import ModelChanged, ThingParked, ThingReady
from lambdas.thingworx.alwayson.model import Bind, Response
from lambdas.thingworx.alwayson.multipart import encode_message
from lambdas.thingworx.alwayson.outbox import Outbox, explained, lost
from lambdas.thingworx.alwayson.push_types import subscriptions_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lambdas.thingworx.alwayson.model import Ids, InfoTable
    from lambdas.thingworx.alwayson.timeouts import Timeouts

__all__ = ["Binder"]

#: BIND messages under way at once: each holds up to a frame full of names.
_BINDS_AT_ONCE = 8
_MOST_DOUBLINGS = 16
#: Whether a platform that sends SynchronizeModelState sends NotifyPropertyUpdate as well isn't documented:
#: so soon after a Thing became ready, it may belong to the synchronisation and not to a change.
_SETTLED_SECONDS = 5.0
_CONFLICT_TRIES = 12
_CONFLICT_MOST_SECONDS = 8.0
#: The platform is busy or away, which says nothing about the Thing that was asked for.
_PASSING = frozenset(
    {Status.REQUEST_TIMEOUT, Status.BAD_GATEWAY, Status.SERVICE_UNAVAILABLE, Status.GATEWAY_TIMEOUT}
)


class Binder:
    """Binds, synchronises, parks and retries.

    Args:
        outbox: where requests and events go.
        timeouts: how long to wait for what.
        jitter: random number of 0..1.
        counters: what happened, by name.

    Attributes:
        bindings: the Things.
        open: whether the platform takes requests now.
    """

    def __init__(
        self, outbox: Outbox, timeouts: Timeouts, jitter: Callable[[], float], counters: Counter[str]
    ) -> None:
        self.bindings = Bindings()
        self.open = False
        self._outbox = outbox
        self._timeouts = timeouts
        self._jitter = jitter
        self._counters = counters
        self._sync: Deadlines[BoundThing] = Deadlines()
        self._retry: Deadlines[BoundThing] = Deadlines()
        self._under_way = 0

    def start(self) -> None:
        """AUTH was answered: bind what shall be bound."""
        self.open = True
        self._bind_more()

    def stop(self) -> None:
        """The connection is gone: all Things have to be bound anew, parked ones when their time comes."""
        self.open = False
        self._under_way = 0
        self._sync.clear()
        self.bindings.restart()

    def bind(self, names: Iterable[str]) -> None:
        """See `Session.bind`."""
        self.bindings.want(names)
        self._bind_more()

    def rebind(self, names: Iterable[str]) -> None:
        """See `Session.rebind`."""
        for name in names:
            thing = self.bindings.get(name)
            if thing is None:
                self.bindings.want([name])
            elif thing.phase in (Phase.SYNCHRONISING, Phase.READY):
                self._sync.discard(thing)
                self.bindings.anew(thing)
            elif thing.phase is Phase.BINDING:
                thing.stale = thing.overtaken = True
        self._bind_more()

    def unbind(self, names: Iterable[str], then: Callable[[int, Answer], None] | None = None) -> list[int]:
        """See `Session.unbind` and `Session.release`; the request ids of the messages."""
        bound: list[BoundThing] = []
        for name in names:
            thing = self.bindings.drop(name)
            if thing is None:
                continue
            self._sync.discard(thing)
            self._retry.discard(thing)
            self._outbox.events.append(ThingParked(name, 0, "unbound"))
            if thing.phase not in (Phase.WANTED, Phase.PARKED):
                bound.append(thing)
        if not self.open:
            return []
        return [self._leave(group, then or _unbound) for group in groups_of(bound)]

    def _leave(self, group: list[BoundThing], then: Callable[[int, Answer], None]) -> int:
        names = [thing.name for thing in group]
        self.bindings.leaving.update(names)

        def left(number: int, answer: Answer) -> None:
            if not lost(answer):  # else all are bound anew, with another connection
                self.bindings.leaving -= Counter(names)
                self._bind_more()
            then(number, answer)

        return self._outbox.ask(_frames(group, Method.UNBIND), self._timeouts.bind, left)

    def retry_parked(self, names: Iterable[str] | None = None) -> None:
        """See `Session.retry_parked`."""
        chosen = self.bindings.all() if names is None else [self.bindings.get(name) for name in names]
        for thing in chosen:
            if thing is not None:
                self._unpark(thing)
        self._bind_more()

    def tick(self, now: float) -> None:
        """Ask for the subscriptions of Things that waited too long, and bind parked ones again."""
        for thing in self._sync.passed(now):
            if thing.phase is Phase.SYNCHRONISING and self.bindings.knows(thing):
                self._overdue(thing)
        for thing in self._retry.passed(now):
            self._unpark(thing)
        self._bind_more()

    def deadlines(self) -> tuple[float | None, float | None]:
        """When `tick` has something to do."""
        return self._sync.next(), self._retry.next()

    def notified(self, thing: BoundThing) -> None:
        """The platform says that a Thing's remote bindings are to be read, or read again."""
        if thing.phase is Phase.PARKED:
            self._unpark(thing)
            self._bind_more()
            return
        if self._put_off(thing):
            return
        if thing.phase is Phase.BINDING:
            # Only a Thing that is bound is told: its BIND's answer is still on the way.
            self._synchronise(thing)
        if thing.phase is Phase.READY and self._outbox.now() - thing.ready_at >= _SETTLED_SECONDS:
            self._outbox.events.append(ModelChanged(thing.name))
        if thing.phase is not Phase.WANTED:
            self._ask_subscriptions(thing)

    def ready(self, thing: BoundThing, subscriptions: InfoTable | None) -> None:
        """The platform has told what it wants of a Thing, which it does only once that is bound."""
        if self._put_off(thing):
            return
        before, thing.subscriptions = thing.subscriptions, subscriptions_in(subscriptions)
        thing.asked, thing.overdue = 0, False
        thing.refusals, thing.status, thing.reason = 0, 0, ""
        self._sync.discard(thing)
        self._retry.discard(thing)
        if thing.phase is not Phase.READY:
            self.bindings.enter(thing, Phase.READY)
            thing.ready_at = self._outbox.now()
        elif thing.subscriptions != before:
            self._outbox.events.append(ModelChanged(thing.name))
        self._outbox.events.append(ThingReady(thing.name))

    @staticmethod
    def _put_off(thing: BoundThing) -> bool:
        """Whether what is told may be of the binding before: then it is asked for after the BIND."""
        if thing.stale and thing.phase in (Phase.WANTED, Phase.BINDING):
            thing.overdue = True
            return True
        return False

    def _bind_more(self) -> None:
        while self.open and self._under_way < _BINDS_AT_ONCE:
            group = self.bindings.next_group()
            if group is None:
                return
            self._under_way += 1
            self._outbox.ask(_frames(group, Method.BIND), self._timeouts.bind, partial(self._bound, group))

    def _bound(self, group: list[BoundThing], _: int, answer: Answer) -> None:
        if lost(answer):
            return
        self._under_way -= 1
        by_itself = len(group) == 1
        # Without those that were dropped, or that the platform has begun to synchronise already.
        group = [thing for thing in group if thing.phase is Phase.BINDING and self.bindings.knows(thing)]
        if isinstance(answer, Response) and is_success(answer.status):
            for thing in group:
                if thing.overtaken:
                    self.bindings.anew(thing)
                    continue
                thing.alone, thing.stale = by_itself, False
                self._synchronise(thing)
                if thing.overdue:
                    self._ask_subscriptions(thing)
        elif isinstance(answer, Response) and answer.status == Status.INVALID_SESSION:
            self._outbox.drop_connection(explained(answer))
            return
        elif len(group) > 1:
            self._counters["alwayson_bind_halved"] += 1
            self.bindings.halve(group)
        elif group:
            self._refused_alone(group[0], answer)
        self._bind_more()

    def _refused_alone(self, thing: BoundThing, refusal: Answer) -> None:
        other_reason = isinstance(refusal, NoAnswer) or refusal.status == Status.CONFLICT
        if other_reason or thing.identifier is not None:
            self._park(thing, refusal)
            return
        # A Thing that has an identifier can't be bound by its name.
        then = partial(self._identified, thing, refusal)
        self._outbox.ask_thing(thing.name, "GetIdentifier", self._timeouts.request, then)

    def _identified(self, thing: BoundThing, refusal: Answer, _: int, answer: Answer) -> None:
        if lost(answer) or thing.phase is not Phase.BINDING or not self.bindings.knows(thing):
            return
        identifier = None
        if isinstance(answer, Response) and is_success(answer.status) and answer.content is not None:
            identifier = answer.content.first("result").value
        if isinstance(identifier, str) and identifier:
            self.bindings.identify(thing, identifier)
            self.bindings.again(thing)
            self._bind_more()
        else:
            self._park(thing, refusal)

    def _synchronise(self, thing: BoundThing) -> None:
        self.bindings.enter(thing, Phase.SYNCHRONISING)
        self._sync.set(thing, self._outbox.now() + self._timeouts.sync)

    def _overdue(self, thing: BoundThing) -> None:
        """Neither synchronisation came: ask for the subscriptions, of a Thing that is surely bound.

        A platform that refuses name by name answers a group's BIND with success all the same, and loses
        what is pushed to a Thing that isn't bound. By itself, the Thing is bound or refused.
        """
        thing.overdue = True
        self._counters["alwayson_sync_overdue"] += 1
        if thing.alone:
            self._ask_subscriptions(thing)
        else:
            self.bindings.again(thing)

    def _ask_subscriptions(self, thing: BoundThing) -> None:
        then = partial(self._subscribed, thing)
        thing.asked = self._outbox.ask_thing(
            thing.name, "GetPropertySubscriptions", self._timeouts.request, then
        )

    def _subscribed(self, thing: BoundThing, request: int, answer: Answer) -> None:
        if lost(answer) or thing.asked != request or not self.bindings.knows(thing):
            return
        if isinstance(answer, Response) and is_success(answer.status):
            self.ready(thing, answer.content)
        elif thing.phase is Phase.READY:
            logger.warning("subscriptions not read again", thing=thing.name, reason=explained(answer))
        elif thing.phase is Phase.SYNCHRONISING:
            if isinstance(answer, NoAnswer) or answer.status in _PASSING:
                self._sync.set(thing, self._outbox.now() + self._timeouts.sync)
            else:
                self._park(thing, answer)

    def _park(self, thing: BoundThing, refusal: Answer) -> None:
        thing.status = refusal.status if isinstance(refusal, Response) else 0
        thing.reason = explained(refusal)
        thing.overdue = False
        self.bindings.unidentify(thing)
        self.bindings.enter(thing, Phase.PARKED)
        self._sync.discard(thing)
        # Up to a tenth longer, so that many that were refused together don't come back together.
        delay = self._pause(thing) * (1 + self._jitter() / 10)
        self._retry.set(thing, self._outbox.now() + min(delay, self._timeouts.park_most))
        thing.refusals += 1
        self._counters["alwayson_parked"] += 1
        logger.warning("Thing parked", thing=thing.name, reason=thing.reason)
        self._outbox.events.append(ThingParked(thing.name, thing.status, thing.reason))

    def _pause(self, thing: BoundThing) -> float:
        refusals, waits = thing.refusals, self._timeouts
        if thing.status == Status.CONFLICT and refusals < _CONFLICT_TRIES:
            # The platform keeps what a crashed connection had bound for a minute at most: the tries of
            # that minute are never far apart.
            return min(waits.conflict_first * 2.0**refusals, _CONFLICT_MOST_SECONDS)
        return waits.park_first * 2.0 ** min(refusals, _MOST_DOUBLINGS)

    def _unpark(self, thing: BoundThing) -> None:
        self._retry.discard(thing)
        if thing.phase is Phase.PARKED and self.bindings.knows(thing):
            self.bindings.again(thing)


def _frames(group: list[BoundThing], method: Method) -> Callable[[Ids], list[bytes]]:
    names = tuple(thing.bind_name for thing in group)
    return lambda ids: encode_message(Bind(ids, names, method=method))


def _unbound(_: int, answer: Answer) -> None:
    if isinstance(answer, Response) and not is_success(answer.status):
        logger.warning("UNBIND refused", reason=explained(answer))
