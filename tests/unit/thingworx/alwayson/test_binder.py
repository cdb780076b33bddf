"""Groups, halves, identifiers and pauses: how Things get bound when the platform refuses some."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.thingworx.alwayson import Bind, Method, Status
from lambdas.thingworx.alwayson.binding import BoundThing, groups_of
from lambdas.thingworx.alwayson.events import Broken, ThingParked
from lambdas.thingworx.alwayson.multipart import encode_message
from lambdas.thingworx.alwayson.session import State
from tests.unit.thingworx.alwayson.dialogue import Dialogue, row
from tests.unit.thingworx.alwayson.peer import Forgetful, Peer


def named(count: int) -> list[str]:
    return [f"pump-{number:04d}" for number in range(count)]


def ready(dialogue: Dialogue) -> set[str]:
    return {thing.name for thing in dialogue.session.things() if thing.phase.value == "ready"}


@given(st.lists(st.text(min_size=1, max_size=200), max_size=120, unique=True))
@settings(max_examples=50, deadline=None)
def test_every_bind_message_is_one_frame_and_names_are_neither_lost_nor_moved(names: list[str]) -> None:
    groups = groups_of(map(BoundThing, names))
    assert [thing.name for group in groups for thing in group] == names
    for group in groups:
        ids = Dialogue().session._outbox.calls.begin(1, 0, lambda *_: None)
        assert len(encode_message(Bind(ids, tuple(thing.bind_name for thing in group)))) == 1


def test_a_thousand_things_are_bound_in_frames_of_8192_bytes() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(named(2000))
    dialogue.connect()
    assert len(dialogue.peer.binds()) == 3
    assert len(ready(dialogue)) == 2000
    assert dialogue.session.state is State.READY


@given(st.sets(st.integers(0, 63), max_size=6))
@settings(max_examples=40, deadline=None)
def test_only_the_refused_are_parked_and_in_few_messages(unseen: set[int]) -> None:
    names = named(64)
    dialogue = Dialogue(Peer(invisible={names[index] for index in unseen}))
    dialogue.session.bind(names)
    dialogue.connect()
    assert ready(dialogue) == set(names) - dialogue.peer.invisible
    assert {event.thing for event in dialogue.of(ThingParked)} == dialogue.peer.invisible
    assert len(dialogue.peer.binds()) <= 1 + 2 * 6 * len(unseen)
    assert dialogue.session.state is State.READY


def test_a_refused_name_is_tried_once_by_its_identifier() -> None:
    dialogue = Dialogue(Peer(identifiers={"pump-0001": "SN-1"}))
    dialogue.session.bind(named(4))
    dialogue.connect()
    assert ready(dialogue) == set(named(4))
    assert "*SN-1" in dialogue.peer.bound
    dialogue.lose()
    dialogue.peer.heard.clear()
    dialogue.connect()
    assert dialogue.peer.binds() == [("pump-0000", "*SN-1", "pump-0002", "pump-0003")]


def test_a_thing_without_identifier_is_parked_with_the_reason_of_its_refusal() -> None:
    dialogue = Dialogue(Peer(invisible={"pump"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    assert dialogue.of(ThingParked) == [
        ThingParked("pump", Status.FORBIDDEN, "0x83 FORBIDDEN(403): not visible")
    ]
    assert dialogue.peer.calls("GetIdentifier") == ["pump"]


def test_a_parked_thing_is_tried_again_after_a_minute_then_two_up_to_an_hour() -> None:
    dialogue = Dialogue(Peer(invisible={"pump"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    pauses, before = [], dialogue.time
    for _ in range(8):
        tries = len(dialogue.peer.binds())
        while len(dialogue.peer.binds()) == tries:
            dialogue.wait(1)
        pauses.append(round(dialogue.time - before, -1))
        before = dialogue.time
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_pauses_begin_anew_once_a_thing_was_bound() -> None:
    dialogue = Dialogue(Peer(invisible={"pump"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.wait(200)
    dialogue.peer.invisible.clear()
    dialogue.wait(240)
    assert ready(dialogue) == {"pump"}
    dialogue.peer.invisible = {"pump"}
    dialogue.lose()
    dialogue.connect()
    dialogue.peer.invisible.clear()
    dialogue.wait(61)
    assert ready(dialogue) == {"pump"}


def test_a_parked_thing_is_tried_at_once_when_the_platform_names_it_or_the_connector_asks() -> None:
    dialogue = Dialogue(Peer(invisible={"pump", "tank"}))
    dialogue.session.bind(["pump", "tank"])
    dialogue.connect()
    dialogue.peer.invisible.clear()
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    dialogue.talk()
    assert ready(dialogue) == {"pump"}
    dialogue.session.retry_parked(["nobody", "pump"])
    dialogue.talk()
    assert ready(dialogue) == {"pump"}
    dialogue.session.retry_parked()
    dialogue.talk()
    assert ready(dialogue) == {"pump", "tank"}


def test_parked_things_do_not_spoil_the_groups_of_the_next_connection() -> None:
    dialogue = Dialogue(Peer(invisible={"pump-0005"}))
    dialogue.session.bind(named(10))
    dialogue.connect()
    dialogue.lose()
    dialogue.peer.heard.clear()
    dialogue.connect()
    assert dialogue.peer.binds() == [tuple(name for name in named(10) if name != "pump-0005")]
    dialogue.wait(61)
    assert dialogue.peer.binds()[1:] == [("pump-0005",)]


def test_a_bind_without_answer_is_halved_too() -> None:
    peer = Peer()
    dialogue = Dialogue(peer)
    dialogue.session.bind(["a", "b"])
    dialogue.peer.connect()
    dialogue.session.connected("1234-secret-key")
    [auth] = dialogue.session.frames_to_send()
    dialogue.hear(peer.handle(auth))
    assert len(dialogue.session.frames_to_send()) == 1  # the BIND of both, lost
    dialogue.wait(31)
    assert peer.binds() == [("a",), ("b",)]
    assert ready(dialogue) == {"a", "b"}


def test_a_synchronisation_before_the_answer_to_bind_counts() -> None:
    peer = Peer()
    dialogue = Dialogue(peer)
    dialogue.session.bind(["a", "b"])
    peer.connect()
    dialogue.session.connected("1234-secret-key")
    [auth] = dialogue.session.frames_to_send()
    dialogue.hear(peer.handle(auth))
    [bind] = dialogue.session.frames_to_send()
    dialogue.hear(peer.handle(bind)[::-1])
    dialogue.talk()
    assert ready(dialogue) == {"a", "b"}
    assert dialogue.session.state is State.READY


def test_an_unbound_thing_is_unbound_on_the_platform_and_not_bound_again() -> None:
    dialogue = Dialogue(Peer(invisible={"parked"}))
    dialogue.session.bind(["a", "b", "parked"])
    dialogue.connect()
    dialogue.session.unbind(["a", "parked", "never-bound"])
    dialogue.talk()
    assert dialogue.peer.bound == {"b"}
    unbinds = [m.names for m in dialogue.peer.heard if isinstance(m, Bind) and m.method is Method.UNBIND]
    assert unbinds == [("a",)]
    dialogue.lose()
    dialogue.connect()
    dialogue.wait(4000)
    assert dialogue.peer.bound == {"b"}


def test_a_thing_bound_again_right_after_its_unbind_is_served() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["a"])
    dialogue.connect()
    dialogue.session.unbind(["a"])
    dialogue.session.bind(["a"])
    dialogue.talk()
    assert dialogue.peer.bound == {"a"}
    assert ready(dialogue) == {"a"}


def test_a_thing_bound_again_is_not_taken_for_served_by_what_was_asked_of_it_before() -> None:
    """The platform loses what is pushed to a Thing that it hasn't synchronised since it was bound."""
    dialogue = Dialogue()
    dialogue.session.bind(["a"])
    dialogue.connect()
    late = dialogue.peer.synchronise("a")  # on its way when the Thing is unbound
    dialogue.peer.mode = "silent"
    dialogue.session.unbind(["a"])
    dialogue.session.bind(["a"])
    dialogue.hear(late)
    assert ready(dialogue) == set()
    dialogue.talk()
    assert dialogue.peer.bound == {"a"}
    assert dialogue.phase("a") == "synchronising"
    dialogue.peer.mode = "current"
    dialogue.hear(dialogue.peer.synchronise("a"))
    assert ready(dialogue) == {"a"}


def pushed_when_ready(dialogue: Dialogue, thing: str, *late: bytes) -> None:
    """Push at the first moment at which the transport would; `late` comes right after the next answers."""
    for _ in range(9):
        if dialogue.phase(thing) == "ready":
            dialogue.session.push(thing, [row(1)])
            dialogue.talk()
            return
        frames = dialogue.session.frames_to_send()
        for answer in [answer for frame in frames for answer in dialogue.peer.handle(frame)]:
            dialogue.hear([answer])
        dialogue.hear(list(late))
        late = ()
        if not frames:
            dialogue.wait(10.1)
    raise AssertionError(dialogue.phase(thing))


def test_a_thing_bound_once_more_is_not_taken_for_served_by_a_synchronisation_of_before() -> None:
    peer = Forgetful()
    dialogue = Dialogue(peer)
    dialogue.session.bind(["a"])
    dialogue.connect()
    late = peer.synchronise("a")  # it was changed; and is bound once more while that is on its way
    peer.mode = "silent"
    dialogue.session.rebind(["a"])
    dialogue.hear(late)
    assert dialogue.phase("a") != "ready"
    pushed_when_ready(dialogue, "a")
    assert not peer.lost


def test_a_thing_bound_once_more_is_not_taken_for_served_by_subscriptions_asked_for_before() -> None:
    peer = Forgetful(mode="legacy")
    dialogue = Dialogue(peer)
    dialogue.session.bind(["a"])
    dialogue.connect()
    dialogue.wait(6)
    dialogue.hear(peer.ask("a", "NotifyPropertyUpdate"))
    late = [answer for frame in dialogue.session.frames_to_send() for answer in peer.handle(frame)]
    peer.mode = "silent"
    dialogue.session.rebind(["a"])
    dialogue.hear(late)
    assert dialogue.phase("a") != "ready"
    pushed_when_ready(dialogue, "a")
    assert not peer.lost


@pytest.mark.parametrize("why", ["rebound", "overdue"])
def test_a_synchronisation_that_comes_late_loses_no_value(why: str) -> None:
    peer = Forgetful()
    dialogue = Dialogue(peer)
    peer.mode = "silent"
    dialogue.session.bind(["a", "b"])
    dialogue.connect()
    peer.mode = "current"
    late = peer.synchronise("a")
    peer.mode = "silent"
    if why == "rebound":
        dialogue.session.rebind(["a"])
        pushed_when_ready(dialogue, "a", *late)  # after the answer to the next BIND
    else:
        dialogue.time += 10.1
        dialogue.session.tick()
        dialogue.hear(late)  # while that BIND is under way
        pushed_when_ready(dialogue, "a")
    assert not peer.lost


def test_a_thing_that_waits_for_its_bind_when_it_is_bound_once_more_is_bound_after_that() -> None:
    peer = Forgetful()
    dialogue = Dialogue(peer)
    dialogue.session.bind(["a"])
    dialogue.connect()
    late = peer.synchronise("a")
    dialogue.session.bind([str(number) * 5000 for number in range(8)])  # as many BINDs as may be under way
    waiting = dialogue.session.frames_to_send()
    dialogue.session.rebind(["a"])
    dialogue.hear(late)
    dialogue.session.rebind(["a"])
    assert dialogue.phase("a") == "wanted"
    for frame in waiting:
        dialogue.hear(peer.handle(frame))
    pushed_when_ready(dialogue, "a")
    assert peer.bindings["a"] == 2
    assert not peer.lost


def test_a_thing_whose_bind_is_under_way_when_it_is_bound_once_more_is_bound_after_that() -> None:
    """Another connection may have taken it between that BIND and its answer."""
    peer = Forgetful()
    dialogue = Dialogue(peer)
    dialogue.connect()
    dialogue.session.bind(["a", "b"])
    answers = [answer for frame in dialogue.session.frames_to_send() for answer in peer.handle(frame)]
    dialogue.session.rebind(["a"])
    dialogue.hear(answers)
    assert dialogue.phase("b") == "ready"
    pushed_when_ready(dialogue, "a")
    assert (peer.bindings["a"], peer.bindings["b"]) == (2, 1)
    assert not peer.lost


def test_after_a_bind_without_answer_its_synchronisation_is_not_taken_for_that_of_the_next() -> None:
    peer = Forgetful()
    dialogue = Dialogue(peer)
    dialogue.connect()
    dialogue.session.bind(["a", "b"])
    _, *late = [answer for frame in dialogue.session.frames_to_send() for answer in peer.handle(frame)]
    peer.mode = "silent"
    dialogue.time += 31
    dialogue.session.tick()
    dialogue.hear(late)
    assert not ready(dialogue)
    pushed_when_ready(dialogue, "a")
    assert not peer.lost


def test_a_thing_whose_unbind_gets_no_answer_is_bound_again_all_the_same() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["a"])
    dialogue.connect()
    dialogue.session.unbind(["a"])
    dialogue.session.bind(["a"])
    dialogue.session.frames_to_send()  # which the platform never gets
    dialogue.wait(120)
    assert ready(dialogue) == {"a"}


def test_a_thing_unbound_while_its_bind_is_under_way_stays_unbound() -> None:
    dialogue = Dialogue()
    dialogue.connect()
    dialogue.session.bind(["a", "b"])
    dialogue.session.unbind(["a"])
    dialogue.talk()
    assert dialogue.peer.bound == {"b"}
    assert ready(dialogue) == {"b"}
    assert dialogue.session.thing("a") is None


def test_a_bind_that_says_the_session_is_unknown_breaks_the_connection() -> None:
    dialogue = Dialogue()
    dialogue.connect()
    dialogue.session.bind(["a"])
    [bind] = dialogue.session.frames_to_send()
    message = dialogue.peer.reassembler.receive(bind)
    assert isinstance(message, Bind)
    dialogue.hear(dialogue.peer.respond(message.ids, Status.INVALID_SESSION))
    dialogue.talk()
    assert dialogue.of(Broken)


def test_names_that_are_refused_without_a_word_are_found_and_bound_by_identifier_or_parked() -> None:
    peer = Peer(per_name=True, invisible={"pump-0001"}, identifiers={"pump-0002": "SN-2"})
    dialogue = Dialogue(peer)
    dialogue.session.bind(named(4))
    dialogue.connect()
    assert ready(dialogue) == {"pump-0000", "pump-0003"}
    assert dialogue.session.state is State.SYNCHRONISING
    dialogue.wait(10.1)
    assert ready(dialogue) == {"pump-0000", "pump-0002", "pump-0003"}
    assert peer.bound == {"pump-0000", "*SN-2", "pump-0003"}
    assert [event.thing for event in dialogue.of(ThingParked)] == ["pump-0001"]
    assert dialogue.session.state.value == "ready"


def test_a_thing_that_another_connection_has_is_tried_again_soon() -> None:
    dialogue = Dialogue(Peer(taken={"pump"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    assert dialogue.of(ThingParked)[0].status == Status.CONFLICT
    assert not dialogue.peer.calls("GetIdentifier")
    dialogue.wait(1.1)
    assert len(dialogue.peer.binds()) == 2
    dialogue.peer.taken.clear()
    dialogue.wait(2.1)
    assert ready(dialogue) == {"pump"}


def test_while_a_platform_may_keep_what_a_crashed_connection_had_the_tries_stay_close() -> None:
    dialogue = Dialogue(Peer(taken={"pump"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    pauses, before = [], dialogue.time
    end = dialogue.time + 70
    while dialogue.time < end:
        tries = len(dialogue.peer.binds())
        while len(dialogue.peer.binds()) == tries:
            dialogue.wait(0.1)
        pauses.append(dialogue.time - before)
        before = dialogue.time
    assert max(pauses) < 9
