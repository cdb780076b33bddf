"""Times of pushed values: their own millisecond each, in order, late ones told apart."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from lambdas.connector import push_times
from lambdas.connector.push_times import LastTime, PushTimes, Timed
from lambdas.thingworx.infotable import ValueRow

if TYPE_CHECKING:
    import pytest

NOW = 1_800_000_000_000
HOUR = 3_600_000
IDS = map("0:{}:0".format, count())


def times(now: int = NOW, **options: Any) -> PushTimes:
    return PushTimes(lambda: now / 1000, **options)


def row(at: int, value: Any = 1.0, name: str = "temp") -> ValueRow:
    return ValueRow(name, "NUMBER", value, at)


def arrange(known: PushTimes, *rows: ValueRow, thing: str = "pump") -> Timed:
    """Arrange one reading, and have it delivered."""
    reading = next(IDS)
    timed = known.arrange(thing, reading, rows)
    known.delivered(thing, timed.rows, rows[0].time)
    known.settled(reading)
    return timed


def successor_of(known: PushTimes, now: int = NOW) -> PushTimes:
    """Times of a connector that takes over what this one leaves."""
    successor = times(now)
    for thing, properties in known.last().items():
        for edge, last in properties.items():
            successor.restore_last(thing, edge, last)
    return successor


def test_of_two_values_in_one_millisecond_the_later_gets_the_next() -> None:
    known = times()
    given = [arrange(known, row(5, value)) for value in (1.0, 2.0, 1.0)]
    assert [timed.rows[0].time for timed in given] == [5, 6, 7]
    assert [timed.shifted for timed in given] == [0, 1, 1]
    assert not any(timed.late for timed in given)


def test_a_value_that_meets_a_shifted_one_moves_on_too() -> None:
    known = times()
    given = [arrange(known, row(at, value)).rows[0].time for at, value in ((5, 1.0), (5, 2.0), (6, 3.0))]
    assert given == [5, 6, 7]


def test_the_same_value_again_keeps_its_time() -> None:
    known = times()
    assert arrange(known, row(5, 1.0)).rows[0].time == 5
    assert arrange(known, row(5, 1.0)) == Timed([row(5, 1.0)], 0, late=False)
    assert arrange(known, row(5, 2.0)).rows[0].time == 6
    assert arrange(known, row(5, 2.0)).rows[0].time == 6


def test_properties_and_things_do_not_move_each_other() -> None:
    known = times()
    assert arrange(known, row(5, 1.0), row(5, 2.0, "rpm")).shifted == 0
    assert arrange(known, row(5, 3.0), thing="fan").shifted == 0


def test_a_value_older_than_what_was_delivered_is_late_and_keeps_its_time() -> None:
    known = times()
    arrange(known, row(10))
    assert arrange(known, row(5, 2.0)) == Timed([row(5, 2.0)], 0, late=True)
    assert arrange(known, row(5, 3.0)).rows[0].time == 6
    assert not arrange(known, row(10, 1.0)).late
    assert arrange(known, row(4), row(20, 1.0, "rpm")).late


def test_what_was_never_delivered_makes_nothing_late() -> None:
    known = times()
    known.arrange("pump", next(IDS), [row(10)])
    assert not known.arrange("pump", next(IDS), [row(5)]).late


def test_readings_that_come_again_without_an_answer_have_the_times_of_before() -> None:
    known = times()
    # Three in one millisecond, and one after it; none of them answered for.
    readings = [("a", 5, 1.0), ("b", 5, 2.0), ("c", 5, 1.0), ("d", 6, 3.0)]

    def come(*names: str) -> list[int]:
        return [
            known.arrange("pump", name, [row(at, value)]).rows[0].time
            for name, at, value in readings
            if name in names
        ]

    assert come("a", "b", "c", "d") == [5, 6, 7, 8]
    assert come("a", "b", "c", "d") == [5, 6, 7, 8]
    known.settled("a")
    assert come("b", "c", "d") == [6, 7, 8]
    assert arrange(known, row(6, 4.0)).rows[0].time == 9


def test_a_reading_that_comes_again_with_one_more_property_has_a_time_for_that_too() -> None:
    known = times()
    known.arrange("pump", "a", [row(5)])
    known.arrange("pump", "b", [row(5, 2.0)])
    again = known.arrange("pump", "b", [row(5, 2.0), row(5, 2.0, "rpm")])
    assert [pushed.time for pushed in again.rows] == [6, 5]


def test_of_readings_never_answered_for_the_first_are_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push_times, "_MOST_READINGS", 2)
    known = times()
    for name in ("a", "b", "c"):
        known.arrange("pump", name, [row(5, name)])
    assert known.arrange("pump", "c", [row(5, "c")]).rows[0].time == 7
    assert known.arrange("pump", "a", [row(5, "a")]).rows[0].time == 8


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=40))
def test_no_two_different_values_that_come_in_order_have_one_time(readings: list[tuple[int, int]]) -> None:
    known = times()
    given_times: dict[int, int] = {}
    last = -1
    for at, value in sorted(readings, key=lambda reading: reading[0]):
        timed = arrange(known, row(at, value))
        [pushed] = timed.rows
        assert not timed.late
        assert pushed.time >= max(at, last)
        assert given_times.setdefault(pushed.time, value) == value
        last = pushed.time


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=40))
def test_late_is_what_is_older_than_the_newest_delivered(readings: list[tuple[int, int]]) -> None:
    known = times()
    newest = -1
    for at, value in readings:
        timed = arrange(known, row(at, value))
        assert timed.late == (timed.rows[0].time < newest)
        newest = max(newest, timed.rows[0].time)


def test_an_echo_has_the_time_of_now() -> None:
    known = times()
    assert known.echo("pump", "temp", 7.0) == NOW
    arrange(known, row(NOW - 1000, 1.0, "rpm"))
    assert known.echo("pump", "rpm", 7.0) == NOW


def test_echoes_follow_each_other() -> None:
    known = times()
    assert [known.echo("pump", "temp", value) for value in (1.0, 2.0, 2.0)] == [NOW, NOW + 1, NOW + 2]


def test_an_echo_becomes_current_though_the_devices_clock_is_an_hour_ahead() -> None:
    known = times()
    arrange(known, row(NOW + HOUR))
    echo = known.echo("pump", "temp", 7.0)
    assert echo == NOW + HOUR + 1
    assert not arrange(known, row(NOW + HOUR + 1000)).late


def test_an_echo_does_not_hide_the_next_value_of_a_device_whose_clock_is_an_hour_behind() -> None:
    for name in ("temp", "silent"):
        known = times()
        arrange(known, row(NOW - HOUR))
        echo = known.echo("pump", name, 7.0)
        known.delivered("pump", [row(echo, 7.0, name)])
        assert NOW - HOUR < echo < NOW - HOUR + 1000
        assert not arrange(known, row(NOW - HOUR + 1000, 2.0, name)).late


def test_a_thing_that_was_silent_for_long_has_no_clock_that_is_behind() -> None:
    now = NOW
    known = PushTimes(lambda: now / 1000)
    arrange(known, row(NOW - 100))
    now += HOUR
    assert known.echo("pump", "temp", 7.0) == NOW + HOUR


def test_times_to_come_are_handed_over_and_kept_by_the_successor() -> None:
    known = times()
    arrange(known, row(NOW + HOUR), row(NOW - HOUR, 1.0, "rpm"))
    assert known.ahead() == {"pump": {"temp": NOW + HOUR}}
    successor = times()
    successor.restore("pump", "temp", NOW + HOUR)
    assert successor.ahead() == known.ahead()
    assert arrange(successor, row(NOW)).late
    assert successor.echo("pump", "temp", 7.0) == NOW + HOUR + 1


def test_a_late_reading_says_nothing_about_a_devices_clock() -> None:
    known = times()
    arrange(known, row(NOW - 10))
    arrange(known, row(NOW - HOUR))
    assert known.echo("pump", "silent", 7.0) == NOW


def test_a_successor_knows_a_clock_that_is_behind_before_the_first_reading() -> None:
    known = times()
    arrange(known, row(NOW - HOUR - 1))
    arrange(known, row(NOW - 5000), thing="fan")
    assert known.lags() == {"pump": HOUR}
    later = NOW + HOUR
    successor = times(later)
    successor.restore_lag("pump", HOUR)
    assert successor.lags() == {"pump": HOUR}
    echo = successor.echo("pump", "temp", 7.0)
    successor.delivered("pump", [row(echo, 7.0)])
    assert NOW <= echo < later - HOUR + 5000
    assert not arrange(successor, row(later - HOUR + 5000, 2.0)).late
    arrange(successor, row(later))
    assert successor.lags() == {}
    successor.restore_lag("pump", HOUR)
    assert successor.echo("pump", "temp", 8.0) == later + 1


def test_what_a_predecessor_delivered_does_not_hide_what_was_delivered_since() -> None:
    known = times()
    arrange(known, row(NOW + 2 * HOUR))
    known.restore("pump", "temp", NOW + HOUR)
    assert arrange(known, row(NOW + HOUR + 1)).late


def test_a_thing_that_speaks_is_remembered_before_one_that_came_later_and_is_silent() -> None:
    known = times(most_properties=2)
    for thing in ("busy", "silent", "busy", "new"):
        arrange(known, row(NOW), thing=thing)
    assert not arrange(known, row(NOW - 1), thing="silent").late
    known = times(most_properties=2)
    for thing in ("busy", "silent", "busy", "new"):
        arrange(known, row(NOW), thing=thing)
    assert arrange(known, row(NOW - 1), thing="busy").late


def test_the_things_that_were_silent_for_longest_are_forgotten_first() -> None:
    known = times(most_properties=4)
    arrange(known, row(NOW), thing="busy")
    for number in range(10):
        arrange(known, row(NOW), row(NOW, 1.0, "rpm"), thing=f"pump-{number}")
        assert arrange(known, row(NOW - 1), thing="busy").late
    assert not arrange(known, row(NOW - 1), thing="pump-0").late


def test_a_successor_goes_on_in_the_second_in_which_its_predecessor_ended() -> None:
    known = times()
    second = NOW - 2000
    given = [arrange(known, row(second, value)) for value in (1.0, 2.0, 3.0)]
    assert [timed.rows[0].time - second for timed in given] == [0, 1, 2]
    assert known.last() == {"pump": {"temp": LastTime(second, second + 2, 3.0)}}
    successor = successor_of(known)
    given = [arrange(successor, row(second, value)) for value in (4.0, 5.0)]
    assert [timed.rows[0].time - second for timed in given] == [3, 4]
    assert not any(timed.late for timed in given)
    assert arrange(successor, row(second - 1000)).late
    assert arrange(successor, row(second + 1000)).rows[0].time == second + 1000


def test_a_second_that_had_one_value_may_have_more_with_the_successor() -> None:
    known = times()
    arrange(known, row(NOW, 1.0))
    assert arrange(successor_of(known), row(NOW, 2.0)).rows[0].time == NOW + 1


def test_the_last_value_again_has_its_time_with_the_successor_too() -> None:
    for values in ((1.0,), (1.0, True), (1.0, "on")):
        known = times()
        before = [arrange(known, row(NOW, value)).rows[0].time for value in values]
        assert arrange(successor_of(known), row(NOW, values[-1])).rows[0].time == before[-1]


def test_a_long_value_is_not_left_and_comes_again_rather_than_over_another() -> None:
    for value in ("x" * 65, {"a": 1}, None):
        known = times()
        arrange(known, row(NOW, value))
        assert known.last() == {"pump": {"temp": LastTime(NOW, NOW, None)}}
        assert arrange(successor_of(known), row(NOW, value)).rows[0].time == NOW + 1


def test_what_was_not_delivered_has_the_time_of_before_with_the_successor() -> None:
    known = times()
    second = NOW - 2000
    arrange(known, row(second, 1.0))
    waiting = [row(second, 2.0), row(second + 1000, 3.0)]
    given = [known.arrange("pump", next(IDS), [each]).rows[0].time for each in waiting]
    successor = successor_of(known)
    assert [arrange(successor, each).rows[0].time for each in waiting] == given


def test_of_times_in_milliseconds_only_those_that_met_another_are_left() -> None:
    known = times()
    arrange(known, row(NOW + 1, 1.0), row(NOW + 1, 1.0, "rpm"))
    assert not known.last()
    arrange(known, row(NOW + 1, 2.0))
    assert known.last() == {"pump": {"temp": LastTime(NOW + 1, NOW + 2, 2.0)}}
    arrange(known, row(NOW + 7, 3.0))
    assert not known.last()


def test_an_echo_leaves_no_second_to_go_on_with_unless_it_is_one() -> None:
    known = times(NOW + 1)
    known.delivered("pump", [row(known.echo("pump", "temp", 7.0), 7.0)])
    assert not known.last()


def test_a_time_to_come_that_was_taken_over_is_no_second_that_goes_on_before_it() -> None:
    known = times()
    known.restore("pump", "temp", NOW + HOUR + 1)
    assert not known.last()
    assert arrange(known, row(NOW, 1.0)).rows[0].time == NOW


def test_only_seconds_of_the_last_minute_are_left() -> None:
    now = NOW
    known = PushTimes(lambda: now / 1000)
    arrange(known, row(NOW), thing="silent")
    arrange(known, row(NOW), row(NOW, 1.0, "rare"))
    now += 61_000
    assert set(known.last()) == {"silent", "pump"}  # nothing came since: what waits follows on these
    arrange(known, row(now))
    assert known.last() == {"pump": {"temp": LastTime(now, now, 1.0)}}


def test_a_successor_to_which_nothing_came_leaves_what_it_was_left() -> None:
    known = times()
    arrange(known, row(NOW, 1.0))
    arrange(known, row(NOW, 2.0))
    successor = successor_of(known, NOW + HOUR)
    assert successor.last() == known.last()
    assert arrange(successor_of(successor), row(NOW, 3.0)).rows[0].time == NOW + 2


def test_what_a_predecessor_gave_does_not_take_back_what_was_given_since() -> None:
    known = times()
    arrange(known, row(NOW, 1.0))
    arrange(known, row(NOW, 2.0))
    known.restore_last("pump", "temp", LastTime(NOW, NOW, 1.0))
    known.restore_last("pump", "temp", LastTime(NOW - 1000, NOW, None))
    assert arrange(known, row(NOW, 3.0)).rows[0].time == NOW + 2
    known.restore_last("pump", "temp", LastTime(NOW, NOW + 9, None))
    assert arrange(known, row(NOW, 3.0)).rows[0].time == NOW + 10


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30), st.integers(0, 30))
def test_a_hand_over_moves_no_time_of_values_in_order(readings: list[tuple[int, int]], at: int) -> None:
    one, before = times(), times()
    ordered = [(NOW + second * 1000, value) for second, value in sorted(readings, key=lambda each: each[0])]
    expected = [arrange(one, row(*each)) for each in ordered]
    found = [arrange(before, row(*each)) for each in ordered[:at]]
    after = successor_of(before)
    found += [arrange(after, row(*each)) for each in ordered[at:]]
    assert found == expected
