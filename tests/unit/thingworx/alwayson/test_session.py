"""What a session promises, as dialogues with a platform made of the codec."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson import (
    NO_ENDPOINT,
    NO_REQUEST,
    BaseType,
    Bind,
    Characteristic,
    Ids,
    InfoTable,
    Method,
    Other,
    Request,
    Response,
    Status,
    Value,
    decode_message,
    encode_message,
)
from lambdas.thingworx.alwayson.calls import NoAnswer
from lambdas.thingworx.alwayson.edge import Edge
from lambdas.thingworx.alwayson.events import (
    Answered,
    Asked,
    Authenticated,
    AuthRefused,
    Broken,
    ModelChanged,
    Reply,
    ThingParked,
    ThingReady,
)
from lambdas.thingworx.alwayson.session import State
from tests.unit.thingworx.alwayson.dialogue import Dialogue, row
from tests.unit.thingworx.alwayson.peer import KEY, Peer, subscriptions


def test_nothing_but_auth_is_sent_before_auth_is_answered() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.session.connected(KEY)
    frames = dialogue.session.frames_to_send()
    assert dialogue.session.state is State.AUTHENTICATING
    assert [decode_message(frame).__class__.__name__ for frame in frames] == ["Auth"]


def test_the_key_is_in_no_text_that_a_session_gives() -> None:
    dialogue = Dialogue(Peer(key="another"))
    dialogue.connect()
    [refused] = dialogue.of(AuthRefused)
    assert "UNAUTHORIZED" in refused.reason
    assert KEY not in refused.reason


def test_a_busy_platform_at_auth_is_no_refusal_of_the_key() -> None:
    dialogue = Dialogue()
    dialogue.session.connected(KEY)
    [frame] = dialogue.session.frames_to_send()
    ids = decode_message(frame).ids
    dialogue.hear(encode_message(Response(ids, Status.SERVICE_UNAVAILABLE)))
    assert [type(event) for event in dialogue.session.events()] == [Broken]


def test_an_auth_that_is_never_answered_breaks_the_connection() -> None:
    dialogue = Dialogue()
    dialogue.session.connected(KEY)
    dialogue.session.frames_to_send()
    dialogue.wait(15)
    assert dialogue.of(Broken)


@pytest.mark.parametrize("mode", ["current", "legacy", "silent"])
def test_a_thing_is_served_after_either_synchronisation_or_neither(mode: str) -> None:
    dialogue = Dialogue(Peer(mode=mode, default=subscriptions(temp=("VALUE", 0.5))))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    if mode == "silent":
        assert dialogue.session.state is State.SYNCHRONISING
        dialogue.wait(9.9)
        assert not dialogue.of(ThingReady)
        dialogue.wait(0.2)
    assert dialogue.of(ThingReady) == [ThingReady("pump")]
    assert dialogue.session.state is State.READY
    thing = dialogue.session.thing("pump")
    assert thing is not None
    assert thing.subscriptions == {"temp": ("VALUE", 0.5)}


def test_states_pass_in_order() -> None:
    dialogue = Dialogue(Peer(mode="silent"))
    dialogue.session.bind(["pump"])
    seen = [dialogue.session.state]
    dialogue.session.connected(KEY)
    seen.append(dialogue.session.state)
    dialogue.peer.connect()
    for _ in range(2):
        [frame] = dialogue.session.frames_to_send()
        dialogue.hear(dialogue.peer.handle(frame))
        seen.append(dialogue.session.state)
    dialogue.wait(10)
    seen.append(dialogue.session.state)
    dialogue.session.closing()
    assert [*seen, dialogue.session.state] == list(State)


def test_synchronisation_is_answered_as_an_edge_must() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    metadata, state = dialogue.peer.replies.values()
    assert metadata.status == state.status == Status.SUCCESS
    assert metadata.ids == Ids(1, 0x8000_0001, dialogue.peer.session)
    assert metadata.content
    assert orjson.loads(metadata.content.first("result").value)["name"] == "pump"
    assert state.content == InfoTable.build(
        {
            "name": BaseType.STRING,
            "value": BaseType.VARIANT,
            "time": BaseType.DATETIME,
            "quality": BaseType.STRING,
        }
    )


def test_current_values_of_the_listed_properties_can_be_given_at_synchronisation() -> None:
    edge = Edge(values=lambda thing, names: [row(7, 2.5, names[0])] if thing == "pump" else [])
    dialogue = Dialogue(edge=edge)
    dialogue.session.bind(["pump"])
    dialogue.connect()
    content = dialogue.peer.replies[2].content
    assert content
    assert content.first("name").value == "temp"
    assert content.first("value") == Value(BaseType.VARIANT, Value(BaseType.NUMBER, 2.5))
    assert content.first("time").value == 7


def test_the_answer_to_synchronisation_is_sent_before_any_value() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.session.push("pump", [row(1)])
    dialogue.talk()
    kinds = [type(message).__name__ for message in dialogue.peer.heard]
    assert kinds == ["Auth", "Bind", "Response", "Response", "Request"]


def test_subscriptions_are_read_again_when_the_platform_says_so_while_the_thing_is_served() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.peer.wishes["pump"] = subscriptions(temp="NEVER")
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    assert dialogue.phase("pump") == "ready"
    dialogue.talk()
    thing = dialogue.session.thing("pump")
    assert thing
    assert thing.subscriptions["temp"].push_type == "NEVER"


@pytest.mark.parametrize("mode", ["current", "legacy"])
def test_the_synchronisation_after_a_bind_is_no_change_of_the_model(mode: str) -> None:
    dialogue = Dialogue(Peer(mode=mode))
    dialogue.session.bind(["pump", "fan"])
    for _ in range(2):
        dialogue.connect()
        dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))  # one more, as some platforms may
        dialogue.talk()
        dialogue.wait(60)
        dialogue.lose()
    assert not dialogue.of(ModelChanged)


def test_a_thing_that_is_changed_while_it_is_served_is_told() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump", "fan"])
    dialogue.connect()
    dialogue.wait(60)
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    dialogue.talk()
    assert dialogue.of(ModelChanged) == [ModelChanged("pump")]


def test_other_subscriptions_are_a_change_however_soon_they_come() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.peer.wishes["pump"] = subscriptions(temp="NEVER")
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    dialogue.talk()
    assert dialogue.of(ModelChanged) == [ModelChanged("pump")]


def test_an_older_answer_about_subscriptions_does_not_undo_a_newer_one() -> None:
    dialogue = Dialogue(Peer(mode="silent"))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    dialogue.hear(dialogue.peer.ask("pump", "NotifyPropertyUpdate"))
    old, new = (frame for frame in dialogue.session.frames_to_send() if b"GetPropertySub" in frame)
    dialogue.peer.default = subscriptions(temp="ON")
    dialogue.hear(dialogue.peer.handle(new))
    dialogue.peer.default = subscriptions(temp="OFF")
    dialogue.hear(dialogue.peer.handle(old))
    thing = dialogue.session.thing("pump")
    assert thing
    assert thing.subscriptions["temp"].push_type == "ON"


def test_a_thing_that_may_not_be_read_is_parked_and_one_that_is_slow_asked_again() -> None:
    dialogue = Dialogue(Peer(mode="silent"))
    dialogue.session.bind(["gone"])
    dialogue.connect()
    dialogue.peer.invisible = {"gone"}
    dialogue.wait(10.1)
    [parked] = dialogue.of(ThingParked)
    assert parked == ("gone", Status.NOT_FOUND, "0x84 NOT_FOUND(404): no such Thing")
    dialogue = Dialogue(Peer(mode="silent", silent_services={"GetPropertySubscriptions"}))
    dialogue.session.bind(["slow"])
    dialogue.connect()
    dialogue.wait(45)
    dialogue.peer.silent_services.clear()
    assert not dialogue.of(ThingParked)
    dialogue.wait(10)
    assert dialogue.of(ThingReady)


def test_all_is_done_anew_over_a_new_connection() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["a", "b"])
    dialogue.connect()
    dialogue.lose()
    assert dialogue.session.state.value == "connecting"
    dialogue.connect()
    assert dialogue.peer.binds() == [("a", "b"), ("a", "b")]
    assert len(dialogue.of(Authenticated)) == 2
    assert len(dialogue.of(ThingReady)) == 4
    assert dialogue.session.state.value == "ready"


def test_a_call_under_way_when_the_connection_goes_ends_without_answer() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    call = dialogue.session.push("pump", [row(1)])
    dialogue.lose()
    assert dialogue.answer_to(call) == NoAnswer("cut", timed_out=False)
    assert not dialogue.session.frames_to_send()


def test_a_call_without_answer_times_out_and_its_late_answer_does_no_harm() -> None:
    dialogue = Dialogue(Peer(silent_services={"UpdateSubscribedPropertyValues"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    call = dialogue.session.push("pump", [row(1)])
    dialogue.talk()
    dialogue.wait(29.9)
    assert dialogue.answer_to(call) is None
    dialogue.wait(0.2)
    assert dialogue.answer_to(call).timed_out
    dialogue.hear(encode_message(Response(Ids(call, 0, dialogue.peer.session), Status.SUCCESS)))
    assert len(dialogue.of(Answered)) == 1


def test_a_response_counts_for_the_request_with_its_endpoint_and_request_id_only() -> None:
    dialogue = Dialogue(Peer(endpoint=77))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    call = dialogue.session.push("pump", [row(1)])
    [frame] = dialogue.session.frames_to_send()
    ids = decode_message(frame).ids
    assert ids == Ids(call, 77, dialogue.peer.session)
    dialogue.hear(encode_message(Response(ids._replace(endpoint=78), Status.NOT_FOUND)))
    dialogue.hear(encode_message(Response(ids._replace(request=call + 1), Status.NOT_FOUND)))
    dialogue.talk()
    assert dialogue.answer_to(call) is None
    assert dialogue.session._outbox.calls.unmatched == 2
    dialogue.hear(encode_message(Response(ids, Status.SUCCESS)))
    dialogue.talk()
    assert dialogue.answer_to(call).status == Status.SUCCESS


def test_a_response_that_answers_nothing_changes_session_and_endpoint() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.hear(encode_message(Response(Ids(NO_REQUEST, 9, 4242), Status.SUCCESS)))
    call = dialogue.session.push("pump", [row(1)])
    [frame] = dialogue.session.frames_to_send()
    assert decode_message(frame).ids == Ids(call, 9, 4242)
    dialogue.hear(encode_message(Response(Ids(NO_REQUEST, NO_ENDPOINT, 4243), Status.SUCCESS)))
    dialogue.session.push("pump", [row(1)])
    [frame] = dialogue.session.frames_to_send()
    assert decode_message(frame).ids[1:] == (9, 4243)


@given(order=st.permutations(range(12)))
@settings(max_examples=30, deadline=None)
def test_answers_in_any_order_reach_their_requests(order: list[int]) -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    calls = [dialogue.session.push("pump", [row(time)]) for time in range(12)]
    frames = dialogue.session.frames_to_send()
    for index in order:
        ids = decode_message(frames[index]).ids
        dialogue.hear(encode_message(Response(ids, Status.SUCCESS, str(index))))
    dialogue.talk()
    assert [dialogue.answer_to(call).reason for call in calls] == [str(index) for index in range(12)]


@given(
    cut=st.integers(0, 40),
    mode=st.sampled_from(["current", "legacy"]),
    fate=st.sampled_from(["taken", "lost"]),
)
@settings(max_examples=60, deadline=None)
def test_cut_at_any_message_every_push_ends_once_and_what_succeeded_is_stored(
    cut: int, mode: str, fate: str
) -> None:
    """The platform goes away at its `cut`-th message, having taken it or not."""
    dialogue = Dialogue(Peer(mode=mode))
    things = ["a", "b", "c"]
    dialogue.session.bind(things)
    dialogue.peer.connect()
    dialogue.session.connected(KEY)
    pushed: dict[int, tuple[str, int]] = {}
    waiting, taken = list(range(9)), 0
    while frames := dialogue.session.frames_to_send():
        for frame in frames:
            if taken == cut:
                if fate == "taken":
                    dialogue.peer.handle(frame)
                break
            dialogue.hear(dialogue.peer.handle(frame))
            taken += 1
        else:
            while waiting and dialogue.session.state is State.READY:
                time = waiting.pop(0)
                pushed[dialogue.session.push(things[time % 3], [row(time)])] = (things[time % 3], time)
            continue
        break
    dialogue.lose()
    stored = {(thing, time) for thing, _, time, _ in dialogue.peer.stored}
    for call, row_of in pushed.items():
        answer = dialogue.answer_to(call)
        assert answer is not None
        if isinstance(answer, Response):
            assert row_of in stored
    dialogue.connect()
    assert dialogue.session.state is State.READY
    assert {thing.phase.value for thing in dialogue.session.things()} == {"ready"}


def test_a_platform_that_does_not_know_the_session_any_more_is_connected_to_anew() -> None:
    dialogue = Dialogue(Peer(judge=lambda *_: Status.INVALID_SESSION))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.session.push("pump", [row(1)])
    dialogue.talk()
    assert dialogue.of(Broken)


def test_one_unauthorised_thing_does_not_break_the_connection_but_a_withdrawn_key_does() -> None:
    peer = Peer(judge=lambda thing, _: Status.UNAUTHORIZED if thing == "forbidden" else Status.SUCCESS)
    dialogue = Dialogue(peer)
    dialogue.session.bind(["pump", "forbidden"])
    dialogue.connect()
    for thing in ["forbidden", "pump"] * 3:
        dialogue.session.push(thing, [row(1)])
        dialogue.talk()
    assert not dialogue.of(Broken)
    peer.judge = lambda *_: Status.UNAUTHORIZED
    dialogue.session.push("pump", [row(1)])
    dialogue.session.push("pump", [row(2)])
    dialogue.talk()
    assert dialogue.of(Broken)


def test_requests_of_the_platform_are_handed_on_however_the_thing_is_addressed() -> None:
    dialogue = Dialogue(Peer(identifiers={"pump": "SN-1"}))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    for name in ("pump", "*SN-1", "SN-1"):
        dialogue.hear(dialogue.peer.request(Method.GET, name, Characteristic.PROPERTIES, "temp"))
    dialogue.talk()
    asked = dialogue.of(Asked)
    assert [event.thing for event in asked] == ["pump"] * 3
    dialogue.session.answer(asked[0], Reply(Status.NOT_FOUND, "never known"))
    dialogue.talk()
    reply = dialogue.peer.replies[asked[0].request.ids.request]
    assert (reply.ids, reply.status, reply.reason) == (asked[0].request.ids, 0x84, "never known")


def test_an_answer_to_an_earlier_connection_is_not_sent() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.hear(dialogue.peer.request(Method.PUT, "pump", Characteristic.PROPERTIES, "temp"))
    dialogue.talk()
    [asked] = dialogue.of(Asked)
    dialogue.lose()
    dialogue.connect()
    dialogue.session.answer(asked, Reply(Status.SUCCESS))
    assert not dialogue.session.frames_to_send()


def test_a_thing_that_is_not_bound_here_is_answered_as_such() -> None:
    dialogue = Dialogue()
    dialogue.connect()
    dialogue.hear(dialogue.peer.request(Method.GET, "nobody", Characteristic.PROPERTIES, "temp"))
    dialogue.talk()
    assert dialogue.peer.replies[1].status == Status.NOT_FOUND
    assert dialogue.peer.replies[1].reason == "Thing nobody is not bound here"


def test_what_can_not_be_read_is_answered_or_fails_its_call_and_the_session_goes_on() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    call = dialogue.session.push("pump", [row(1)])
    [frame] = dialogue.session.frames_to_send()
    ids = decode_message(frame).ids
    dialogue.hear([b"\x01", encode_message(Response(ids, Status.SUCCESS, "reason"))[0][:-3]])
    dialogue.hear([dialogue.peer.ask("pump", "Anything")[0][:-1]])
    dialogue.talk()
    assert isinstance(dialogue.answer_to(call), NoAnswer)
    assert [reply.status for reply in dialogue.peer.replies.values()][-1] == Status.BAD_REQUEST
    assert dialogue.session.counters["alwayson_unreadable"] == 3
    assert dialogue.session.state is State.READY


def test_messages_of_unknown_kinds_do_no_harm() -> None:
    dialogue = Dialogue()
    dialogue.connect()
    dialogue.hear(encode_message(Other(Ids(5), 0x1F)))
    assert not dialogue.session.frames_to_send()
    dialogue.hear(encode_message(Bind(Ids(6), ("x",))))
    [frame] = dialogue.session.frames_to_send()
    message = decode_message(frame)
    assert isinstance(message, Response)
    assert message.status == Status.BAD_REQUEST


def test_a_request_before_auth_is_answered_is_left_alone() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.session.connected(KEY)
    dialogue.session.frames_to_send()
    dialogue.hear(dialogue.peer.synchronise("pump"))
    assert not dialogue.session.frames_to_send()
    assert dialogue.phase("pump") == "wanted"


def test_a_closing_session_sends_nothing_any_more() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    dialogue.session.closing()
    dialogue.session.bind(["another"])
    dialogue.hear(dialogue.peer.ask("pump", "GetMetadata"))
    assert not dialogue.session.frames_to_send()
    dialogue.lose()
    assert dialogue.session.state is State.CLOSING


def test_only_requests_reach_the_shell_that_the_session_does_not_answer() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    assert not dialogue.of(Asked)
    dialogue.hear(dialogue.peer.ask("pump", "Reboot"))
    dialogue.talk()
    [asked] = dialogue.of(Asked)
    assert isinstance(asked.request, Request)
    assert asked.request.target == "Reboot"


def test_a_half_message_of_an_earlier_connection_is_not_put_together_with_a_new_one() -> None:
    long = InfoTable.of({"x": Value(BaseType.STRING, "x" * 9000)})
    dialogue = Dialogue(Peer(default=subscriptions(temp="ALWAYS")))
    dialogue.session.bind(["pump"])
    dialogue.connect()
    ids = Ids(NO_REQUEST, NO_ENDPOINT, 5)
    old, new = (encode_message(Response(ids, Status.SUCCESS, text, long)) for text in ("old", "new"))
    dialogue.hear(old[:1])
    dialogue.lose()
    dialogue.connect()
    dialogue.hear(new)
    assert dialogue.session.counters["alwayson_unreadable"] == 0


def test_rows_without_a_form_on_the_wire_leave_nothing_to_wait_for() -> None:
    dialogue = Dialogue()
    dialogue.session.bind(["pump"])
    dialogue.connect()
    with pytest.raises(WireError):
        dialogue.session.push("pump", [row(1, "warm")])
    assert dialogue.session.next_deadline() is None
    assert not dialogue.session.frames_to_send()
