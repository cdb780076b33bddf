"""The checker sees each kind of broken promise, and nothing in a history without one."""

from __future__ import annotations

import pytest

from tests.chaos.checks import check
from tests.chaos.history import Client, HeldPut, History, Hold, Offer, Sent, Write


def _write(sequence: int, time: int, client: str = "a", session: int = 1, arrived: float = 10.0) -> Write:
    return Write(sequence, "pump", "temp", float(time), time, "Push", client, session, arrived)


def _offer(time: int, *, broken: bool = False) -> Offer:
    return Offer("pump", f"0:{time}:0", time, {"temp": float(time)}, broken=broken)


def _put(time: int, state: str = "rejected", reason: str = "refused") -> HeldPut:
    return HeldPut(5.0, state, "pump", f"0:{time}:0", reason, "a")


def _owned_by(client: str, at: float = 0.0, until: float = 100.0) -> Hold:
    return Hold(at, "1", f"owner-{client}", until, client, "active")


def _kept(*times: int) -> History:
    """A history in which each of `times` was delivered, in that order."""
    return History(
        offers=[_offer(time) for time in sorted(times)],
        writes=[_write(number, time) for number, time in enumerate(times, start=1)],
        holds=[_owned_by("a")],
        clients={"a": Client(0.0, [("connector", {"taken": len(times), "delivered": len(times)})])},
        slots={"pump": {"1"}},
        values={"pump": {"temp": (float(max(times)), max(times))}},
    )


def _broken(history: History) -> set[str]:
    return {violation.promise for violation in check(history)}


def test_a_history_in_which_all_is_well_breaks_nothing() -> None:
    assert _broken(_kept(1, 2, 3)) == set()


def test_a_repeated_delivery_breaks_nothing() -> None:
    assert _broken(_kept(1, 2, 3, 1, 2, 3)) == set()


def test_a_reading_that_is_nowhere_is_lost() -> None:
    history = _kept(1, 2)
    history.offers.append(_offer(3))
    assert _broken(history) == {"nothing is lost"}


@pytest.mark.parametrize("broken", [False, True])
def test_a_held_reading_is_not_lost(broken: bool) -> None:  # noqa: FBT001 - a parameter of the test
    history = _kept(1, 2)
    history.offers.append(_offer(3, broken=broken))
    history.held.append(_put(3))
    assert _broken(history) == set()


def test_a_reading_of_which_only_a_refused_value_is_held_is_lost() -> None:
    history = _kept(1, 2)
    history.offers.append(_offer(3))
    history.held.append(_put(3, reason="value_refused"))
    assert _broken(history) == {"nothing is lost"}


def test_a_broken_payload_must_be_held() -> None:
    history = _kept(1, 2)
    history.offers.append(_offer(3, broken=True))
    assert _broken(history) == {"nothing is lost"}


def test_a_value_that_nobody_published_is_invented() -> None:
    history = _kept(1, 2)
    history.writes.append(_write(3, 3))
    assert "nothing is invented" in _broken(history)


def test_a_first_delivery_behind_a_later_reading_is_out_of_order() -> None:
    assert _broken(_kept(1, 3, 2)) == {"order is kept"}


def test_a_reading_that_was_sent_again_may_come_late() -> None:
    history = _kept(1, 3, 2)
    history.sent = [Sent(1.0, "slot-1", "lane-0", ("0:2:0",), replay="by hand")]
    history.clients["b"] = Client(0.0, [("connector", {"replayed_taken": 1, "replayed_late": 1})])
    assert _broken(history) == set()


def test_a_reading_that_was_sent_again_may_not_come_late_in_silence() -> None:
    history = _kept(1, 3, 2)
    history.sent = [Sent(1.0, "slot-1", "lane-0", ("0:2:0",), replay="by hand")]
    assert _broken(history) == {"order is kept"}


def test_a_parked_reading_may_not_be_overtaken() -> None:
    history = _kept(1, 3, 2)
    history.puts = [_put(2, "parked")]
    assert _broken(history) == {"order is kept"}


def test_the_current_value_must_be_the_newest() -> None:
    history = _kept(1, 2)
    history.values = {"pump": {"temp": (1.0, 1)}}
    assert _broken(history) == {"the current value is the newest"}


def test_a_session_that_another_one_followed_may_not_write_again() -> None:
    history = _kept(1, 2, 3)
    history.writes = [_write(1, 1, session=1), _write(2, 2, session=2), _write(3, 3, session=1)]
    assert _broken(history) == {"a Thing never goes back to an earlier session"}


def test_a_repetition_that_the_platform_read_late_may_come_over_an_earlier_session() -> None:
    history = _kept(1, 2, 3)
    history.writes = [_write(1, 1), _write(2, 2, session=2), _write(3, 3, session=2), _write(4, 3, session=1)]
    assert _broken(history) == {"a Thing never goes back to an earlier session"}
    history.deaf = [(9.0, 11.0)]
    assert _broken(history) == set()
    history.writes = [_write(1, 1), _write(2, 2, session=2), _write(3, 3, session=1)]
    assert _broken(history) == {"a Thing never goes back to an earlier session"}


def test_a_thing_that_moved_may_be_written_to_by_the_owners_of_its_slots_only() -> None:
    history = _kept(1, 2, 3)
    history.slots["pump"] = {"1", "2"}
    history.holds.append(Hold(0.0, "2", "owner-b", 100.0, "b", "active"))
    history.writes[2] = _write(3, 3, client="b", session=2)
    assert _broken(history) == set()
    history.writes[2] = _write(3, 3, client="c", session=2)
    assert _broken(history) == {"only the owner of a slot delivers"}


def test_who_does_not_own_the_slot_may_not_write() -> None:
    history = _kept(1)
    history.holds.append(_owned_by("b", at=5.0))
    assert _broken(history) == {"only the owner of a slot delivers"}


def test_what_was_under_way_when_the_lease_ended_may_still_arrive() -> None:
    history = _kept(1)
    history.holds.append(_owned_by("b", at=9.9))
    assert _broken(history) == set()


def test_nobody_may_write_after_a_lease_that_has_run_out() -> None:
    history = _kept(1)
    history.holds = [_owned_by("a", until=5.0)]
    assert _broken(history) == {"only the owner of a slot delivers"}


def test_a_renewal_does_not_cover_the_time_in_which_the_lease_had_run_out() -> None:
    history = _kept(1)
    history.holds = [_owned_by("a", until=9.0), _owned_by("a", at=10.5)]
    assert _broken(history) == {"only the owner of a slot delivers"}
    history.holds = [_owned_by("a", until=9.9), _owned_by("a", at=10.5)]  # under way when it ended
    assert _broken(history) == set()


def test_a_platform_that_was_deaf_is_no_witness_of_the_moment() -> None:
    history = _kept(1)
    history.holds = [_owned_by("a", until=5.0)]
    history.deaf = [(4.0, 11.0)]
    assert _broken(history) == set()


def test_counters_whose_parts_do_not_add_up_are_found() -> None:
    history = _kept(1, 2)
    history.clients["b"] = Client(0.0, [("connector", {"taken": 2, "delivered": 1})])
    assert _broken(history) == {"counters add up"}


def test_a_delivery_that_was_not_counted_is_found_unless_its_process_was_killed() -> None:
    history = _kept(1, 2)
    history.clients["a"] = Client(0.0, [("connector", {"taken": 1, "delivered": 1})])
    assert _broken(history) == {"counters add up"}
    history.clients["a"] = Client(20.0, [("connector", {"taken": 1, "delivered": 1})])
    assert _broken(history) == set()


def test_the_router_counts_what_it_settles() -> None:
    history = _kept(1)
    history.settled = 1
    assert _broken(history) == {"counters add up"}
    history.clients["router"] = Client(0.0, [("router", {"readings_in": 1, "routed": 1})])
    assert _broken(history) == set()


def test_a_function_that_crashes_is_found() -> None:
    history = _kept(1)
    history.crashes = ["watch-1: ValueError: invalid literal"]
    assert _broken(history) == {"no function crashes"}


def test_a_run_that_never_comes_to_rest_is_broken() -> None:
    history = _kept(1)
    history.stuck = "3 messages"
    assert _broken(history) == {"comes to rest"}
