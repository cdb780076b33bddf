"""A fleet over days: what can happen to it hour by hour, and what must be true of it at any time."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3

from sandbox.thingworx.basetypes import parse_tags
from tests.integration.living_stack import HOUR, MINUTE, LivingStack
from tests.integration.whole_stack import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from tests.integration.living_stack import Offered
    from tests.integration.whole_stack import Stack
    from tests.simulated_clock import SimulatedClock

__all__ = ["TAG", "Fleet"]

TAG = parse_tags("AWS_CONNECTED_THING:AWS_CONNECTED_THING")
#: Hours between two turns of each, beside those that a day asks for.
_LOOKED_EVERY, _DELIVERED_EVERY, _DISCOVERED_EVERY = 6, 24, 12


class Fleet(LivingStack):
    """The fleet, and what must be true of it.

    Args:
        stack: from `whole_stack`.
        clock: simulated time.
        patch: of the test.

    Attributes:
        absent: why readings of a Thing may be held: (Thing, reason, from, until), in milliseconds.
        frozen: readings that a router has looked up and not sent yet.
    """

    def __init__(self, stack: Stack, clock: SimulatedClock, patch: pytest.MonkeyPatch) -> None:
        super().__init__(stack, clock, patch)
        self.absent: list[tuple[str, str, int, float]] = []
        self.frozen: list[Offered] = []
        self._began = self.moment

    # How time passes

    def hours(self, number: int) -> None:
        """Devices speak every hour; discovery, the watch function and connectors do what they do."""
        for _ in range(number):
            self.step(HOUR - (self.moment // 1000) % HOUR)
            self.speak()
            assert self.route(), self.at("all records are settled")
            hour = self.moment // 1000 // HOUR
            if hour % _DISCOVERED_EVERY == 0:
                self.discover()
            if hour % _LOOKED_EVERY == 0:
                self.look()
            if hour % _DELIVERED_EVERY == 0:
                self.deliver()

    def minutes(self, number: int) -> list[str]:
        """The watch function looks every minute; the discovery runs that it started."""
        runs = []
        for _ in range(number):
            self.step(MINUTE)
            runs += self.look()
        return runs

    def until_midnight(self) -> None:
        """The rest of the day, and what is true at its end."""
        self.hours(24 - (self.moment // 1000 // HOUR) % 24)
        self.check_settled()

    # What changes

    def delete(self, name: str) -> None:
        """A Thing is deleted; its device doesn't know that."""
        self.platform.delete_thing(name)
        self.absence(name, "not_bound", self.taken)
        self.absence(name, "unknown_thing", self.moment)

    def untag(self, name: str) -> None:
        """A Thing loses its tag."""
        self.platform.set_tags(self.platform.thing(name), parse_tags(""))
        self.absence(name, "unknown_thing", self.moment)

    def tag(self, name: str) -> None:
        """And has it again."""
        self.platform.set_tags(self.platform.thing(name), TAG)

    def absence(self, name: str, reason: str, since: int) -> None:
        """From now on readings of a Thing may be held for this reason."""
        self.absent.append((name, reason, since, float("inf")))

    def present(self, name: str) -> None:
        """Nothing of a Thing may be held any more."""
        self.absent = [entry for entry in self.absent if entry[0] != name or entry[3] < float("inf")]

    def parts(self, since: int, until: int) -> None:
        """While a Thing's edge names were edited, a value under its old one may have come too late."""
        for name in ("pump-3", "pump-4"):
            self.absent.append((name, "not_bound", since, until))

    # What must be true

    def check_served(self, names: Iterable[str], slots: int) -> None:
        """All of them are known to routers, in so many slots with queues."""
        found = self.published()
        assert found.keys() == set(names), self.at("all Things are published")
        assert found == self.places(), self.at("as the control table has them")
        assert set(found.values()) == self.queues() == set(self.slots()), self.at("each slot has its queue")
        assert len(self.queues()) == slots, self.at(f"{slots} slots suffice")

    def arrived(self, readings: Iterable[Offered]) -> None:
        """These readings are in ThingWorx."""
        for found in readings:
            values = [
                (write.time, write.value) for write in self.written(found.thing) if write.property == "temp"
            ]
            assert (found.time, found.number) in values, self.at(f"{found} has arrived")

    def check_settled(self) -> None:
        """Everything that was offered has arrived once, in order, or is held for a reason that fits."""
        log = self.platform.log.since(0)
        stored = Counter((write.thing, write.time, write.value) for write in log if write.property == "temp")
        held: dict[str, list[Any]] = {}
        for item in self.held():
            held.setdefault(item.reading.id, []).append(item.reading)
        for found in self.offered:
            if found in self.frozen:
                continue
            key = (found.thing, found.time, found.number)
            why = held.pop(found.id, [])
            whole = [entry for entry in why if entry.values is None or "temp" in json.loads(entry.values)]
            assert stored.pop(key, 0) + len(whole) == 1, self.at(f"{found} has arrived once, or is held", why)
            for entry in why:
                part = entry in whole or json.loads(entry.values).keys() <= {"state", "extra"}
                assert part, self.at("a part that is held is of a property that was edited", entry)
                assert (entry.thing, entry.time) == (found.thing, found.time), self.at(
                    "under its name and time"
                )
                assert any(
                    (name, reason) == (entry.thing, entry.reason) and since <= entry.time < until
                    for name, reason, since, until in self.absent
                ), self.at(f"{entry} is held for a reason that fits")
        assert (stored, held) == (Counter(), {}), self.at("nothing is there that nobody sent")
        last: dict[tuple[str, str], int] = {}
        for write in log:
            before = last.get((write.thing, write.property), 0)
            assert before < write.time, self.at(f"{write} is in order")
            last[write.thing, write.property] = write.time

    def check_counters(self) -> None:
        """The counters of the whole week add up."""
        router, taken = self.counted.sums["router"], self.counted.sums["connector"]
        assigner, late = self.counted.sums["assigner"], len(self.late)
        unrouted = sum(item.pk.startswith("unrouted#") for item in self.held())
        ways = ("held_unrouted", "held_rejected", "dropped_unregistered", "dropped_held_full")
        assert router["readings_in"] == len(self.offered) - late, self.at(
            "the router counts each reading once"
        )
        assert router["readings_in"] == router["routed"] + sum(router[way] for way in ways), self.at(
            "and each has one way"
        )
        ends = ("delivered", "late", "duplicate", "held_parked", "held_rejected", "dropped_held_full")
        assert taken["taken"] == sum(taken[end] for end in ends), self.at(
            "connectors count each reading once"
        )
        assert taken["taken"] == router["routed"] + late, self.at("they take what routers send")
        again = ("delivered", "late", "held_parked", "held_rejected", "dropped_held_full")
        assert taken["replayed_taken"] == sum(taken[f"replayed_{end}"] for end in again), self.at(
            "replays too"
        )
        assert router["held_unrouted"] == assigner["replay_sent"] + unrouted, self.at(
            "what was held of unknown devices was sent, or waits"
        )
        for name in ("late", "duplicate", "dropped_held_full", "replayed_late", "replayed_dropped_held_full"):
            assert taken[name] == 0, self.at(f"nothing is {name}")
        assert not +Counter({way: router[way] for way in ways[1:]}), self.at(
            "the router drops and rejects nothing"
        )

    def check_full_passes(self) -> None:
        """All Things were read at least once a day, whatever the platform said of their changes."""
        full = [
            self.staged(f"{run}/listing")["began"]
            for run, output in self.outputs.items()
            if output
            and output["outcome"] == "Published"
            and not run.startswith("repair")
            and self.staged(f"{run}/listing")["why_all"]
        ]
        times = [self._began, *full, self.moment]
        longest = max(later - earlier for earlier, later in itertools.pairwise(times))
        # The run that comes some seconds before the day is over leaves it to the next.
        limit = (24 + _DISCOVERED_EVERY) * HOUR * 1000 + 60_000
        assert longest <= limit, self.at("all are read at least once a day", times)

    # Words

    def at(self, promise: str, *found: object) -> str:
        """A promise with the day and the time at which it was not kept, and what was found instead."""
        moment = datetime.fromtimestamp(self.moment / 1000, UTC)
        return f"{moment:%A %H:%M}: {promise}{': ' if found else ''}{', '.join(map(str, found))}"

    def plan(self, run: str) -> dict[str, Any]:
        """The whole plan of a run."""
        return self.staged(f"{run}/plan")

    def report(self, run: str) -> dict[str, Any]:
        """The report of a run."""
        s3 = boto3.client("s3")
        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix="reports/")["Contents"]]
        [key] = [key for key in keys if key.endswith(f"Z-{run}.json")]
        return self.staged(key.removesuffix(".json"))

    def staged(self, name: str) -> dict[str, Any]:
        """A document of the staging bucket."""
        body = boto3.client("s3").get_object(Bucket=BUCKET, Key=f"{name}.json")["Body"].read()
        return dict(json.loads(body))
