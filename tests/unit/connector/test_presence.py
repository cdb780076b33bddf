"""Who is bound: each rule of presence, with a clock that the test moves."""

# ruff: noqa: D102 - the names of the small harness say what it does
from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector.presence import Actions, Presence, Tell
from lambdas.connector.presence_record import Answer, Check, Record
from lambdas.shared.parcel import PresenceChange

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
NOON = 1_800_000_000_000
NAMES = frozenset({"pump", "fan"})


class Slot:
    """A slot's presence, and the transport that does as it is told.

    Attributes:
        bound: what the transport keeps bound.
        seen: every change of it, as (Thing, bound).
    """

    def __init__(self, *records: Record, silence: int = 0, tells: bool = False) -> None:
        self.counters: Counter[str] = Counter()
        self.presence = Presence(
            unbind_delay=5 * SECOND, silence=silence, tells=tells, counters=self.counters
        )
        self.now = NOON
        self.bound: set[str] = set()
        self.seen: list[tuple[str, bool]] = []
        self.tells: list[Tell] = []
        self.presence.load(records, self.now)
        if not records:
            self.presence.assign(NAMES, self.now)
        self.follow()

    def follow(self) -> None:
        actions = self.presence.actions()
        for name in actions.bind:
            self._turn(name, bound=True)
        self.tells += actions.tell
        for name in actions.unbind:
            self._turn(name, bound=False)

    def _turn(self, name: str, *, bound: bool) -> None:
        if (name in self.bound) is not bound:
            self.seen.append((name, bound))
        (self.bound.add if bound else self.bound.discard)(name)

    def take(self, *changes: PresenceChange) -> None:
        self.presence.take(changes, self.now)
        self.follow()

    def deliver(self, at: int, thing: str = "pump") -> None:
        """A push, which binds."""
        self.presence.begin(thing, at, self.now)
        self.follow()
        self._turn(thing, bound=True)
        self.presence.end(thing, self.now)
        self.follow()

    def wait(self, ms: int) -> None:
        """Let time pass; what becomes due happens when it is due."""
        end = self.now + ms
        while (due := self.presence.next_deadline()) is not None and due <= end:
            self.now = int(due)
            self.presence.tick(self.now)
            self.follow()
        self.now = end

    def check(self, answer: Answer, thing: str = "pump") -> None:
        """Ask the broker, if it is to be asked."""
        [check] = [check for check in self.presence.to_check(self.now) if check.thing == thing]
        self.presence.answered(check, answer, self.now, self.now)
        self.follow()

    def checks(self) -> set[str]:
        return {check.thing for check in self.presence.to_check(self.now)}


def _event(thing: str, at: int, version: int, client: str, *, connected: bool) -> PresenceChange:
    return PresenceChange(thing, connected, at, version, client, f"0:{version}:{connected:d}")


def came(version: int, at: int = NOON, client: str = "pump", thing: str = "pump") -> PresenceChange:
    return _event(thing, at, version, client, connected=True)


def went(version: int, at: int = NOON, client: str = "pump", thing: str = "pump") -> PresenceChange:
    return _event(thing, at, version, client, connected=False)


def test_a_thing_is_bound_when_its_client_connects_and_only_then() -> None:
    slot = Slot()
    assert slot.bound == set()
    slot.take(came(1))
    assert slot.bound == {"pump"}
    assert slot.presence.wanted() == {"pump"}
    assert slot.counters["presence_bound"] == 1


def test_a_thing_is_unbound_five_seconds_after_the_disconnect() -> None:
    slot = Slot()
    slot.take(came(1), went(1))
    slot.wait(5 * SECOND - 1)
    assert slot.bound == {"pump"}
    slot.wait(1)
    assert slot.bound == set()
    assert slot.counters == {"presence_taken": 2, "presence_bound": 1, "presence_unbound": 1}


def test_the_delay_counts_from_when_the_disconnect_came_here() -> None:
    slot = Slot()
    slot.take(came(1, NOON - HOUR), went(1, NOON - MINUTE))
    slot.wait(5 * SECOND - 1)
    assert slot.bound == {"pump"}


def test_a_device_back_within_five_seconds_was_never_unbound() -> None:
    slot = Slot()
    slot.take(came(1, NOON - HOUR))
    slot.take(went(1))
    slot.wait(4 * SECOND)
    slot.take(came(2, slot.now))
    slot.wait(HOUR)
    assert slot.seen == [("pump", True)]


def test_a_stale_disconnect_after_a_connect_changes_nothing() -> None:
    slot = Slot()
    slot.take(came(1, NOON - 2 * MINUTE), came(2))
    slot.take(went(1, NOON - SECOND))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    assert slot.counters["presence_stale"] == 1


def test_a_stale_disconnect_is_known_by_its_version_though_its_clock_is_ahead() -> None:
    slot = Slot()
    slot.take(came(2), went(1, NOON + 2 * MINUTE))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}


def test_a_connect_that_comes_after_its_disconnect_does_not_bind() -> None:
    slot = Slot()
    slot.take(went(3, NOON + MINUTE), came(3))
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_a_version_that_begins_again_after_the_night_counts() -> None:
    slot = Slot()
    slot.take(came(70, NOON - 9 * HOUR), went(70, NOON - 8 * HOUR))
    slot.wait(MINUTE)
    slot.take(came(0))
    assert slot.bound == {"pump"}
    slot.take(went(70, NOON - 8 * HOUR))  # once more, from before the night
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.take(went(0, NOON + MINUTE))
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_duplicates_are_nothing() -> None:
    slot = Slot()
    for _ in range(3):
        slot.take(came(1))
    slot.take(went(1))
    slot.wait(4 * SECOND)
    slot.take(went(1))
    slot.wait(SECOND)
    assert slot.seen == [("pump", True), ("pump", False)]
    assert slot.counters["presence_taken"] == 2
    assert slot.counters["presence_stale"] == 3


#: A client's life: how long it is connected, then away, each time.
lives = st.lists(st.tuples(st.integers(1, 30 * MINUTE), st.integers(1, 3 * HOUR)), min_size=1, max_size=6)


@given(lives=lives, data=st.data())
def test_any_duplication_and_reordering_ends_in_the_state_of_the_newest_event(
    lives: list[tuple[int, int]], data: st.DataObject
) -> None:
    events, at, version = [], NOON, 0
    for connected, away in lives:
        events += [came(version, at), went(version, at := at + connected)]
        version = 0 if away >= HOUR else version + 1  # after an hour away it begins again
        at += away
    if data.draw(st.booleans()):
        events.pop()  # it is still connected
    newest = events[-1]
    again = data.draw(st.lists(st.sampled_from(events), max_size=6))
    # Clocks of the broker's machines are up to two minutes apart.
    skewed = [
        change._replace(time=change.time + data.draw(st.integers(-2 * MINUTE, 2 * MINUTE)))
        for change in events
    ]
    known = dict(zip(events, skewed, strict=True))
    slot = Slot()
    slot.now = at
    for change in data.draw(st.permutations(events + again)):
        slot.take(known[change])
    slot.wait(10 * SECOND)
    assert ("pump" in slot.bound) is newest.connected


def test_a_reading_after_the_disconnect_binds() -> None:
    slot = Slot()
    slot.take(came(1), went(1))
    slot.wait(MINUTE)
    slot.deliver(NOON + 30 * SECOND)
    slot.wait(HOUR)
    assert slot.bound == {"pump"}


def test_a_reading_after_the_disconnect_keeps_bound_what_still_is() -> None:
    slot = Slot()
    slot.take(came(1), went(1))
    slot.wait(3 * SECOND)
    slot.deliver(NOON + 3 * SECOND)
    slot.wait(MINUTE)
    assert slot.seen == [("pump", True)]


def test_a_last_will_and_a_late_record_are_delivered_without_leaving_the_thing_bound() -> None:
    slot = Slot()
    slot.take(came(1, NOON - HOUR), went(1))
    slot.wait(MINUTE)
    slot.seen.clear()
    slot.deliver(NOON - MINUTE)
    assert slot.seen == [("pump", True), ("pump", False)]
    slot.deliver(NOON + 20)  # the last will: the broker publishes it just after
    assert slot.bound == set()
    assert slot.presence.wanted() == set()


def test_a_connect_during_a_late_delivery_keeps_the_thing_bound() -> None:
    slot = Slot()
    slot.take(went(1))
    slot.presence.begin("pump", NOON - MINUTE, slot.now)
    slot.take(came(2, NOON + SECOND))
    slot.presence.end("pump", slot.now)
    slot.follow()
    assert slot.bound == {"pump"}


def test_nothing_is_unbound_while_something_is_delivered_to_it() -> None:
    slot = Slot()
    slot.take(came(1), went(1))
    slot.presence.begin("pump", NOON - MINUTE, slot.now)
    slot.presence.begin("pump", NOON - MINUTE, slot.now)
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.presence.end("pump", slot.now)
    slot.follow()
    assert slot.bound == {"pump"}
    slot.presence.end("pump", slot.now)
    slot.follow()
    assert slot.bound == set()


def test_a_reading_of_a_thing_nothing_is_known_of_binds_it() -> None:
    slot = Slot()
    slot.deliver(NOON)
    assert slot.bound == {"pump"}


def test_silence_unbinds_and_the_next_reading_binds() -> None:
    slot = Slot(silence=10 * MINUTE)
    slot.take(came(1))
    slot.wait(9 * MINUTE)
    slot.deliver(slot.now)
    slot.wait(10 * MINUTE - 1)
    assert slot.bound == {"pump"}
    slot.wait(1)
    assert slot.bound == set()
    slot.deliver(slot.now)
    assert slot.bound == {"pump"}


def test_readings_sent_again_are_no_sign_of_life() -> None:
    slot = Slot(silence=10 * MINUTE)
    slot.take(came(1))
    slot.deliver(NOON)
    slot.wait(9 * MINUTE)
    slot.deliver(NOON)
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_without_the_setting_no_silence_unbinds() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.wait(48 * HOUR)
    assert slot.bound == {"pump"}


def test_a_new_connector_waits_for_readings_before_it_takes_a_thing_for_silent() -> None:
    record = Record("pump", connected=True, version=1, time=NOON, client="pump", bound=True)
    slot = Slot(record._replace(heard=NOON - HOUR), silence=10 * MINUTE)
    assert slot.bound == {"pump"}
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_a_device_connected_before_discovery_and_silent_shows_up() -> None:
    slot = Slot()
    assert slot.checks() == NAMES
    slot.check(Answer(connected=True, since=NOON - 30 * HOUR))
    assert slot.bound == {"pump"}
    assert slot.checks() == {"fan"}


def test_a_device_that_is_away_when_it_is_discovered_stays_unbound_after_its_old_readings() -> None:
    slot = Slot()
    slot.check(Answer(connected=False, since=None))
    slot.deliver(NOON - HOUR)
    assert slot.bound == set()
    slot.check(Answer(connected=False, since=NOON - MINUTE), "fan")
    slot.deliver(NOON - 2 * MINUTE, "fan")
    assert slot.bound == set()


def test_a_thing_that_is_no_client_is_bound_by_its_readings_and_stays_so() -> None:
    slot = Slot()
    slot.deliver(NOON)
    slot.check(Answer(connected=False, since=None))
    slot.wait(2 * HOUR)
    assert slot.checks() == NAMES
    slot.check(Answer(connected=False, since=None))
    slot.wait(MINUTE)
    assert slot.seen == [("pump", True)]


def test_a_lost_disconnect_is_found_out_after_an_hour_without_a_sign() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.wait(HOUR - 1)
    assert slot.checks() == {"fan"}
    slot.wait(1)
    slot.check(Answer(connected=False, since=None))
    slot.wait(5 * SECOND)
    assert slot.bound == set()
    assert slot.checks() == {"fan"}


def test_a_lost_connect_is_found_out_after_an_hour_without_a_sign() -> None:
    slot = Slot()
    slot.take(came(5), went(5))
    slot.wait(HOUR)
    slot.check(Answer(connected=True, since=NOON + 20 * MINUTE))
    assert slot.bound == {"pump"}
    slot.take(went(5))
    slot.take(went(0, NOON + 15 * MINUTE))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.take(went(0, NOON + 21 * MINUTE))
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_an_event_that_comes_while_the_broker_is_asked_wins() -> None:
    slot = Slot()
    slot.wait(SECOND)
    slot.take(came(1, NOON))
    slot.presence.answered(
        Check("pump", "pump"), Answer(connected=False, since=None), NOON + SECOND - 1, slot.now
    )
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}

    slot.take(went(1, NOON + 2 * SECOND))
    slot.presence.answered(Check("pump", "pump"), Answer(connected=True, since=NOON), slot.now - 1, slot.now)
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_that_a_client_was_asked_for_is_stored_so_that_no_successor_asks_again() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.wait(HOUR)
    slot.presence.changed()
    slot.check(Answer(connected=True, since=NOON))
    after = Slot(*slot.presence.changed()[0])
    assert after.bound == {"pump"}
    assert after.presence.to_check(slot.now) == []


def test_only_things_of_the_slot_are_asked_for() -> None:
    slot = Slot()
    slot.deliver(NOON, "stranger")
    assert slot.checks() == NAMES


def test_asking_for_a_client_that_nobody_knows_is_no_sign_of_life() -> None:
    slot = Slot(silence=HOUR)
    slot.deliver(NOON)
    slot.wait(10 * MINUTE)
    slot.check(Answer(connected=False, since=None))
    slot.wait(50 * MINUTE - 1)
    assert slot.bound == {"pump"}
    slot.wait(1)
    assert slot.bound == set()


def test_an_answer_about_a_thing_that_is_gone_meanwhile_is_nothing() -> None:
    slot = Slot()
    slot.presence.assign(frozenset({"fan"}), slot.now)
    slot.presence.answered(Check("pump", "pump"), Answer(connected=True, since=NOON), NOON, NOON)
    slot.follow()
    assert slot.bound == set()


def test_a_gateway_moves_its_thing_and_another_ones_leaving_does_not() -> None:
    slot = Slot()
    slot.take(came(1, NOON, client="gateway-1"))
    slot.take(went(9, NOON + SECOND, client="gateway-2"))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.take(came(3, NOON + MINUTE, client="gateway-2"), went(1, NOON + 2 * MINUTE, client="gateway-1"))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.take(went(3, NOON + 3 * MINUTE, client="gateway-2"))
    slot.wait(MINUTE)
    assert slot.bound == set()
    slot.wait(HOUR)
    assert Check("pump", "gateway-2") in slot.presence.to_check(slot.now)


def test_a_gateway_that_leaves_does_not_take_a_device_with_it_that_is_connected_itself() -> None:
    slot = Slot()
    slot.check(Answer(connected=True, since=NOON - HOUR))
    slot.take(went(3, NOON, client="gateway"))
    slot.wait(MINUTE)
    assert slot.bound == {"pump"}
    slot.take(went(1, NOON + MINUTE))
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_a_gateway_that_was_never_seen_to_come_takes_its_thing_with_it() -> None:
    slot = Slot()
    slot.take(came(1, client="gateway-1"), went(1, NOON + SECOND, client="gateway-1"))
    slot.wait(MINUTE)
    slot.deliver(NOON + MINUTE)
    slot.take(went(4, NOON + 2 * MINUTE, client="gateway-2"))
    slot.wait(MINUTE)
    assert slot.bound == set()


def test_an_event_of_a_thing_of_another_slot_binds_nothing() -> None:
    slot = Slot()
    slot.take(came(1, thing="stranger"))
    assert slot.bound == set()
    assert [record.thing for record in slot.presence.changed()[0]] == ["stranger"]
    slot.presence.assign(NAMES, slot.now)
    assert slot.presence.changed() == ([], ["stranger"])


def test_an_event_that_came_before_the_assignment_binds_with_it() -> None:
    slot = Slot()
    slot.take(came(1, thing="new"))
    slot.presence.assign(NAMES | {"new"}, slot.now)
    slot.follow()
    assert slot.bound == {"new"}


def test_a_thing_that_leaves_the_slot_is_unbound_and_its_record_removed() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.presence.changed()
    slot.presence.assign(frozenset({"fan"}), slot.now)
    slot.follow()
    assert slot.bound == set()
    assert slot.presence.changed() == ([], ["pump"])


def test_a_thing_that_is_back_before_its_leaving_was_stored_keeps_its_record() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.presence.changed()
    slot.presence.assign(frozenset({"fan"}), slot.now)
    slot.take(came(2, NOON + 1))
    slot.presence.assign(NAMES, slot.now)
    records, forgotten = slot.presence.changed()
    assert ([(record.thing, record.version) for record in records], forgotten) == ([("pump", 2)], [])


def test_a_late_delivery_is_followed_by_one_unbind() -> None:
    slot = Slot()
    slot.take(went(1))
    slot.presence.begin("pump", NOON - 1, slot.now)
    assert slot.presence.actions() == Actions([], [], [])
    slot.presence.end("pump", slot.now)
    assert slot.presence.actions() == Actions([], [], ["pump"])
    slot.presence.take([went(2, NOON + 1)], slot.now)
    assert slot.presence.actions() == Actions([], [], [])


def test_a_reading_of_a_thing_of_another_slot_leaves_it_bound_until_the_next_look_only() -> None:
    slot = Slot()
    slot.deliver(NOON, "stranger")
    assert slot.bound == {"stranger"}
    slot.presence.begin("stranger", NOON, slot.now)
    slot.presence.assign(NAMES, slot.now)
    slot.follow()
    assert slot.bound == {"stranger"}
    slot.presence.end("stranger", slot.now)
    slot.presence.assign(NAMES, slot.now)
    slot.follow()
    assert slot.bound == set()


def test_what_is_stored_makes_a_successor_bind_the_same() -> None:
    slot = Slot()
    slot.take(came(4), came(1, thing="fan", client="fan"), went(1, thing="fan", client="fan"))
    slot.wait(MINUTE)
    records, _ = slot.presence.changed()
    assert {record.thing for record in records} == NAMES
    after = Slot(*records)
    assert after.bound == {"pump"}
    assert after.counters["presence_bound"] == 0
    after.take(went(3))
    after.wait(MINUTE)
    assert after.bound == {"pump"}


def test_a_disconnect_that_was_waiting_waits_anew_at_the_successor() -> None:
    slot = Slot()
    slot.take(came(4), went(4))
    after = Slot(*slot.presence.changed()[0])
    assert after.bound == {"pump"}
    after.wait(5 * SECOND)
    assert after.bound == set()


def test_loading_again_unbinds_what_is_bound_no_longer() -> None:
    record = Record("pump", connected=True, version=1, time=NOON, client="pump", bound=True)
    slot = Slot(record)
    slot.presence.load([record._replace(connected=False, bound=False)], slot.now)
    slot.follow()
    assert slot.bound == set()


def test_each_change_is_stored_once_and_again_when_that_failed() -> None:
    slot = Slot()
    slot.take(came(1))
    records, forgotten = slot.presence.changed()
    assert [record.thing for record in records] == ["pump"]
    assert slot.presence.changed() == ([], [])
    slot.presence.not_stored(records, forgotten)
    assert slot.presence.changed() == (records, [])


def test_readings_alone_are_stored_every_half_hour_and_at_the_end_where_silence_counts() -> None:
    slot = Slot(silence=HOUR)
    slot.take(came(1))
    slot.presence.changed()
    stored = 0
    for _ in range(120):
        slot.wait(MINUTE)
        slot.deliver(slot.now)
        stored += len(slot.presence.changed()[0])
    assert stored == 3
    [record] = slot.presence.changed(last=True)[0]
    assert record.heard == slot.now


def test_where_silence_does_not_count_the_end_stores_no_readings() -> None:
    slot = Slot()
    slot.take(came(1))
    slot.presence.changed()
    slot.wait(MINUTE)
    slot.deliver(slot.now)
    assert slot.presence.changed(last=True) == ([], [])


def test_presence_is_told_before_the_thing_is_unbound() -> None:
    slot = Slot(tells=True)
    slot.take(came(1))
    assert slot.tells == [Tell("pump", connected=True, time=NOON)]
    slot.presence.told(slot.tells.pop(), slot.now)
    slot.take(went(1, NOON + 7))
    slot.wait(MINUTE)
    assert slot.tells == [Tell("pump", connected=False, time=NOON + 7)]
    assert slot.bound == {"pump"}
    slot.presence.told(slot.tells.pop(), slot.now)
    slot.follow()
    assert slot.bound == set()
    [record] = slot.presence.changed()[0]
    assert record.told is False


def test_a_thing_that_was_bound_only_to_be_told_that_it_is_away_is_unbound_after_it() -> None:
    # Of a connector that ended before it had told.
    slot = Slot(Record("pump", connected=False, time=NOON, client="pump", bound=False, told=True), tells=True)
    assert slot.tells == [Tell("pump", connected=False, time=NOON)]
    slot.bound.add("pump")  # by the push
    slot.presence.told(slot.tells.pop(), slot.now)
    slot.follow()
    assert slot.bound == set()


def test_what_changed_while_it_was_told_is_told_after_it() -> None:
    slot = Slot(tells=True)
    slot.take(came(1), went(1, NOON + 7))
    slot.wait(MINUTE)
    assert slot.tells == [Tell("pump", connected=True, time=NOON)]
    slot.presence.told(slot.tells.pop(), slot.now)
    slot.follow()
    assert slot.tells == [Tell("pump", connected=False, time=NOON + 7)]


def test_a_thing_that_was_never_there_is_told_nothing_of() -> None:
    slot = Slot(tells=True)
    slot.take(went(1))
    slot.wait(MINUTE)
    assert slot.tells == []


def test_silence_is_told_with_the_time_it_was_noticed_and_readings_with_their_own() -> None:
    slot = Slot(tells=True, silence=MINUTE)
    slot.deliver(NOON - 3)
    assert slot.tells == [Tell("pump", connected=True, time=NOON - 3)]
    slot.presence.told(slot.tells.pop(), slot.now)
    slot.take(came(1))
    slot.wait(MINUTE)
    assert slot.tells == [Tell("pump", connected=False, time=NOON + MINUTE)]
