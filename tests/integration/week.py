"""A week of a fleet, from its first discovery to a retired slot, day by day.

Readings flow every hour from every device, and in the middle of each discovery run. Every promise has a name:
a failure says on which day, at what time, what was not so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lambdas.shared.run_lock import RunLock
from lambdas.shared.wanted import WantedRuns
from sandbox.thingworx.basetypes import parse_tags
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.discovery_machine import DiedError
from tests.integration.fleet import TAG, Fleet
from tests.integration.living_stack import HOUR, MINUTE

__all__ = ["MONDAY", "Week"]

#: 2027-01-04, midnight UTC.
MONDAY = datetime(2027, 1, 4, tzinfo=UTC).timestamp()
_FIRST = ("pump-1", "pump-2", "pump-3", "pump-4", "pump-5")
_LATER = ("pump-6", "pump-7", "pump-8")


class Week(Fleet):
    """The days of the week, each of which goes on where the one before has ended."""

    def begin(self) -> None:
        """What there is in ThingWorx before the first discovery."""
        self.platform.add_shape("Wet", [remote_property("level", "INTEGER")])
        self.platform.add_template(
            "Pump", properties=[remote_property("temp"), remote_property("state", "STRING")]
        )
        self.platform.add_template("Wet Pump", "Pump", shapes=["Wet"])
        for name in _FIRST:
            self.platform.add_thing(name, "Wet Pump" if name in _FIRST[:2] else "Pump")
        self.platform.define(self.platform.thing("pump-4"), remote_property("extra"))
        self.platform.define(self.platform.thing("pump-5"), remote_property("count", "INTEGER"))
        self.speaking += _FIRST
        # Readings come in while a run is under way, too.
        self.machine.before = self._in_between

    def _in_between(self, action: str) -> None:
        if action not in ("fetch", "publish"):
            return
        self.speak(self.speaking[len(self.offered) % len(self.speaking)])
        self.route()

    # Days

    def monday(self) -> None:
        """The first discovery, and devices that nobody knows yet: growth past two slots."""
        self.speak()
        assert not self.route(), self.at("before the first run the router holds its records back")
        assert not self.held(), self.at("and nobody counts as unknown")
        assert self.look() == ["wanted-20270104T0000"], self.at("the watch function starts the first run")
        assert self.route(), self.at("after it all records go on")
        self.check_served(_FIRST, slots=2)
        self.deliver()
        self.hours(3)

        self.speaking += _LATER
        self.step(HOUR)
        self.speak()
        assert self.route(), self.at("readings of unknown devices stop nobody")
        assert self.look() == ["wanted-20270104T0400"], self.at("they start a run within a minute")
        assert self.look() == [], self.at("and one only")
        assert {item.pk for item in self.held()} == {f"unrouted#{name}" for name in _LATER}, self.at(
            "they are held"
        )
        self.hours(2)
        for name in _LATER:
            self.platform.add_thing(name, "Pump")
        self.hours(1)
        self.look()
        self.check_served(_FIRST + _LATER, slots=3)
        self.deliver()
        assert self.held() == [], self.at("what was held is sent when they are known")
        for name in _LATER:
            times = [write.time for write in self.written(name) if write.property == "temp"]
            assert times[0] == min(found.time for found in self.offered if found.thing == name), self.at(
                "from the first"
            )
            assert times == sorted(times), self.at("in its order")
        self.until_midnight()

    def tuesday(self) -> None:
        """Edits of Things, of a template and of a shape, while readings are under way."""
        self.hours(5)
        pumps, places, began = self.platform, self.places(), self.taken
        pumps.undefine(pumps.thing("pump-4"), "extra")
        pumps.define(pumps.thing("pump-5"), remote_property("count", "STRING"))
        pumps.thing("pump-3").rebound = {"state": remote_property("state", edge_name="S3").binding}
        pumps.model_changed(pumps.thing("pump-3"))
        pumps.edit_template("Pump", remote_property("depth"))
        pumps.edit_shape("Wet", remote_property("level", "NUMBER"))
        self.discover()
        assert self.places() == places, self.at("edits move no Thing")
        self.deliver()
        self.step(HOUR)
        edited = self.moment
        self.speak()
        assert self.route(), self.at("readings flow after edits")
        self.deliver()

        def last(thing: str) -> dict[str, Any]:
            return {write.property: write.value for write in self.written(thing) if write.time >= edited}

        def sent(thing: str) -> int:
            return next(
                found.number for found in self.offered if found.thing == thing and found.time >= edited
            )

        assert "extra" not in last("pump-4"), self.at("a removed property gets nothing more")
        assert last("pump-5")["count"] == str(sent("pump-5")), self.at("a retyped property gets its new type")
        assert last("pump-3")["state"] == str(sent("pump-3")), self.at("a renamed edge name is followed")
        for name in _FIRST + _LATER:
            assert last(name)["depth"] == sent(name), self.at(f"{name} has what its template was given")
        assert last("pump-1")["level"] == float(sent("pump-1")), self.at("a shape's edit reaches its Things")

        wanted = WantedRuns(CONTROL_TABLE, self.stack.dynamodb)
        self.step(HOUR)
        self.speak()
        self.route()
        with self.serving():
            self.drained()
            pumps.define(pumps.thing("pump-7"), remote_property("speed"))
            self.waits(
                lambda: wanted.read().wishes.things == {"pump-7"},
                self.at("a Thing edited while it is served is wanted"),
            )
        [run] = self.look()
        assert self.report(run)["only"] == ["pump-7"], self.at("the run is about that Thing only")
        self.step(2 * MINUTE)
        edited = self.moment
        self.speak("pump-7")
        self.route()
        self.deliver()
        assert last("pump-7")["speed"] == sent("pump-7"), self.at("its new property arrives within minutes")
        self.parts(began, edited)
        self.until_midnight()

    def wednesday(self) -> None:
        """Things that can't be read, and a run that dies while it holds the lock."""
        self.hours(5)
        faults, before = self.stack.server.faults, self.registry.lookup(_FIRST)
        self.platform.edit_template("Pump", remote_property("flow"))
        bad: dict[str, tuple[dict[str, Any], str]] = {
            "pump-1": ({"status": 403, "body": "no permission"}, "no permission"),
            "pump-3": (
                {"status": 500, "body": "Unable to Invoke Service : broken definition"},
                "broken definition",
            ),
            "pump-4": ({"drop": True}, "no answer"),
        }
        for name, (fault, _) in bad.items():
            faults.add(thing=name, service="GetPropertyDefinitions", **fault)
        self.machine.before = self.delete_before_fetch
        self.discover("bad")
        self.machine.before = self._in_between
        failed = self.report("bad")["failed"]
        assert set(failed) == {*bad, "pump-5"}, self.at("what can't be read is named, and nothing else")
        for name, (_, reason) in bad.items():
            assert reason in failed[name], self.at(f"with the reason of {name}")
        after = dict(zip(_FIRST, self.registry.lookup(_FIRST), strict=True))
        for name, entry in zip(_FIRST, before, strict=True):
            same = name in failed
            assert (after[name] == entry) is same, self.at(
                f"{name} {'keeps what it had' if same else 'is edited'}"
            )
        faults.clear()
        self.deliver()
        self.step(HOUR)
        self.speak()
        self.route()
        self.discover()
        self.deliver()
        assert "pump-5" not in self.places(), self.at("a deleted Thing goes with the next run")
        self.speaking.remove("pump-5")
        assert all(
            entry != old
            for name, entry, old in zip(_FIRST, self.registry.lookup(_FIRST), before, strict=True)
            if name != "pump-5"
        ), self.at("and the others are read")
        self.hours(4)
        self.run_that_dies()
        self.until_midnight()

    def delete_before_fetch(self, action: str) -> None:
        """Somebody deletes a Thing between list and read."""
        self._in_between(action)
        if action == "fetch" and "pump-5" in self.platform.things:
            self.delete("pump-5")

    def run_that_dies(self) -> None:
        """A run dies after it has assigned, with a slot that has no queue yet."""
        before = set(self.slots())
        lock = RunLock(CONTROL_TABLE, self.stack.dynamodb)
        for name in ("pump-9", "pump-10"):
            self.platform.add_thing(name, "Pump")
            self.absence(name, "unknown_thing", self.moment)
            self.speaking.append(name)

        def die(action: str) -> None:
            self._in_between(action)
            if action == "open":
                raise DiedError

        self.machine.before = die
        self.discover("dies")
        self.machine.before = self._in_between
        [made] = set(self.slots()) - before
        assert self.slots()[made].queue_url is None, self.at("the dead run has left a slot without a queue")
        assert lock.holder(self.clock.ms) == "dies", self.at("and holds the lock")
        assert self.discover()["outcome"] == "AnotherRunIsUnderWay", self.at("a run in its lease leaves word")
        self.step(5 * MINUTE)
        self.speak()
        assert self.route(), self.at("readings flow beside a dead run")
        runs = self.look()
        assert not any(name.startswith("wanted") for name in runs), self.at(
            "nobody takes its lock within the lease"
        )
        self.step(13 * MINUTE)
        runs = self.minutes(4)
        assert [name[:6] for name in runs].count("wanted") == 1, self.at(
            "once its lease is over the next begins", runs
        )
        assert self.slots()[made].queue_url, self.at("and heals what it left half done")
        assert {"pump-9", "pump-10"} <= self.published().keys(), self.at("the new Things are known")
        self.deliver()
        for name in ("pump-9", "pump-10"):
            self.present(name)
        self.check_settled()

    def thursday(self) -> None:
        """A lost Redis, lists that can't be right; then deletions, a rename, a lost tag."""
        self.hours(2)
        self.redis_lost()
        self.hours(3)
        self.lists_that_cannot_be_right()
        self.hours(3)

        self.delete("pump-4")
        self.delete("pump-6")
        self.speaking[self.speaking.index("pump-6")] = "pump-6b"
        self.absence("pump-6b", "unknown_thing", self.moment)
        self.speak()
        self.route()
        self.platform.add_thing("pump-6b", "Pump")
        self.untag("pump-7")
        self.deliver()
        gone = {"pump-4", "pump-6", "pump-7"}
        self.discover("gone")
        assert set(self.plan("gone")["removed"]) == gone, self.at("what is gone is removed")
        assert not gone & self.published().keys(), self.at("and known to routers no more")
        self.deliver()
        assert "pump-6b" in self.published(), self.at("a renamed Thing is a new one")
        self.present("pump-6b")
        self.hours(6)
        self.speaking.remove("pump-9")
        self.frozen = [self.freeze("pump-9") for _ in range(4)]
        self.untag("pump-9")
        self.retiring = self.places()["pump-9"]
        self.discover()
        self.until_midnight()

    def redis_lost(self) -> None:
        """The registry is rebuilt while connectors serve."""
        self.step(HOUR)
        before, faults = self.published(), self.stack.server.faults
        with self.serving():
            self.waits(
                lambda: all(slot.owner for slot in self.slots().values()), self.at("all slots are served")
            )
            leases = {slot.id: (slot.owner, slot.epoch) for slot in self.slots().values()}
            self.redis.flushall()
            self.speak()
            assert not self.route(), self.at("without its registry the router stops")
            held = len(self.held())
            faults.reset_counters()
            runs = self.look()
            assert [name[:6] for name in runs] == ["repair"], self.at("a repair begins within a minute")
            asked = faults.counters()["by_service"].keys()
            assert not asked & {"QueryImplementingThingsOptimized", "GetPropertyDefinitions"}, self.at(
                "which doesn't ask ThingWorx"
            )
            assert self.published() == before, self.at("and gives everybody the place they had")
            now = {slot.id: (slot.owner, slot.epoch) for slot in self.slots().values()}
            assert now == leases, self.at("connectors are undisturbed")
            assert self.route(), self.at("records go on")
            assert len(self.held()) == held, self.at("nobody was taken for unknown meanwhile")

    def lists_that_cannot_be_right(self) -> None:
        """An empty list and a halved one remove nothing."""
        before = self.published()
        for left in (0, 4):
            for name in sorted(before)[left:]:
                self.platform.set_tags(self.platform.thing(name), parse_tags(""))
            run = f"left-{left}"
            self.discover(run)
            assert len(self.plan(run)["removals_withheld"]) == len(before) - left, self.at(
                "removals are withheld"
            )
            assert self.published() == before, self.at(f"a list of {left} of {len(before)} removes nobody")
            for name in before:
                self.platform.set_tags(self.platform.thing(name), TAG)
        self.discover("back")
        assert self.plan("back")["removed"] == [], self.at("when the list is back nothing has happened")
        assert self.published() == before, self.at("everybody is where they were")

    def friday(self) -> None:
        """A Thing that comes back within a day."""
        self.hours(5)
        slot = self.records()["pump-7"].slot
        self.tag("pump-7")
        self.discover()
        assert self.places()["pump-7"] == slot, self.at("who comes back within a day has the place they had")
        self.deliver()
        self.present("pump-7")
        self.hours(14)
        self.slot_that_retires()
        self.until_midnight()

    def slot_that_retires(self) -> None:
        """An empty slot goes, step by step; a frozen router wakes up between the steps."""
        slot = self.retiring
        self.discover()
        occupied = {record.slot for record in self.records().values()}
        assert slot not in occupied, self.at("after a day a place is free", slot, self.records())
        self.minutes(1)
        self.wakes(slot, "while it is empty")
        self.step(2 * HOUR)
        self.minutes(1)
        assert self.slots()[slot].state == "draining", self.at("an empty slot drains after two hours")
        self.wakes(slot, "before routers are told")
        self.minutes(2)
        assert slot not in self.registry.slots(), self.at("routers are told")
        self.step(16 * MINUTE)
        self.minutes(2)
        self.wakes(slot, "between two looks at its empty queue")
        self.minutes(2)
        assert self.slots()[slot].state == "draining", self.at("and the looks begin anew")
        self.minutes(1)
        assert self.slots()[slot].state == "stopping", self.at("after three looks in a row it stops")
        self.thaw(self.frozen.pop(0), slot)
        self.minutes(1)
        assert self.slots()[slot].state == "draining", self.at("a message after all takes it back")
        self.deliver()
        self.minutes(4)
        assert slot not in self.slots(), self.at("at last it is gone")
        assert slot not in self.queues(), self.at("with its queue")
        assert not self.items_of(slot), self.at("and all that was noted of it", self.items_of(slot))
        assert not self.frozen, self.at("and all of the frozen router's readings are through")
        self.arrived(found for found in self.late)

    def wakes(self, slot: str, when: str) -> None:
        """The frozen router sends one of its readings; it is delivered."""
        frozen = self.frozen.pop(0)
        self.thaw(frozen, slot)
        self.minutes(1)
        assert slot in self.slots(), self.at(f"a slot with a message stays, {when}")
        self.deliver()
        self.arrived([frozen])

    def saturday(self) -> None:
        """Things that come back after a day."""
        self.hours(6)
        for name in ("pump-4", "pump-6"):
            self.platform.add_thing(name, "Pump")
        self.speaking += ("pump-6", "pump-9")
        self.tag("pump-9")
        self.discover()
        back = {"pump-4", "pump-6", "pump-9"}
        assert back <= self.published().keys(), self.at("who comes back later is served again")
        assert self.retiring not in self.slots(), self.at("but a slot's number never returns")
        with self.serving():
            self.waits(
                lambda: (
                    not any(
                        item.reading.thing in back for item in self.held() if item.pk.startswith("parked#")
                    )
                ),
                self.at("what was parked is delivered"),
            )
        for name in back:
            self.present(name)
        self.until_midnight()

    def sunday(self) -> None:
        """A quiet day; at its end most of the fleet is taken out of service, and that is meant."""
        self.hours(8)
        self.discover()
        self.discover("quiet")
        report = self.report("quiet")
        assert (report["counts"]["read"], report["why_all"]) == (0, ""), self.at(
            "a run without changes reads nothing"
        )
        self.hours(3)
        out = sorted(self.published())[3:]
        for name in out:
            self.untag(name)
        self.discover("meant")
        assert set(self.plan("meant")["removals_withheld"]) == set(out), self.at(
            "more than half are kept at first"
        )
        self.discover("allowed", allow_removals=True)
        assert set(self.plan("allowed")["removed"]) == set(out), self.at("and go when that is allowed")
        self.until_midnight()
