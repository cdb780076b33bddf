"""The paths of a discovery run, against fake functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.statemachine.definitions import FUNCTION, MACHINE, definition
from tests.unit.statemachine.interpreter import Execution, TaskError

PLAN: dict[str, Any] = {
    "added": 3,
    "changed": 0,
    "removed": 0,
    "kept": 0,
    "failed": 0,
    "removals_withheld": 0,
    "slots": 2,
}
BEGUN: dict[str, Any] = {
    "acquired": True,
    "holder": None,
    "full": False,
    "allow_removals": False,
    "things": [],
}
NO_OPTIONS = {"dry_run": False, "repair": False, "full": False, "allow_removals": False, "things": []}
HOW = {"full": False, "things": []}
PLAN |= {"first_names": {"added": ["a", "b", "c"]}, "plan": "run-1/plan.json"}


class Functions:
    """Fake assigner, fetcher and scaler: answer by action, and remember every call."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "begin": BEGUN,
            "list": {"things": 3, "packets": [0, 1]},
            "fetch": {"read": 2, "failed": 0},
            "assign": PLAN | {"slot_packets": [["1", "2"], ["3"]]},
            "open": {"queues_created": 1, "connectors_started": 1},
            "publish": {"things": 3, "slots": 2, "shapes": 1, "removed": 0},
            "end": {"again": False},
        } | answers
        self.calls: list[dict[str, Any]] = []
        self.started: list[dict[str, Any]] = []

    def __call__(self, resource: str, arguments: dict[str, Any]) -> Any:
        """Play one task: a call of a function, or a start of another run."""
        if resource == "arn:aws:states:::states:startExecution":
            self.started.append(arguments)
            return {"ExecutionArn": "arn"}
        assert resource == "arn:aws:states:::lambda:invoke"
        payload = arguments["Payload"]
        self.calls.append(payload | {"function": arguments["FunctionName"].removeprefix(FUNCTION)})
        answer = self.answers[payload["action"]]
        if isinstance(answer, TaskError):
            raise answer
        return {"StatusCode": 200, "Payload": answer}

    @property
    def actions(self) -> list[str]:
        """What the functions were asked to do, in order."""
        return [call["action"] for call in self.calls]


def run(functions: Functions, given: Any) -> Any:
    return Execution(definition("discovery"), functions).run(given)


def test_a_run_lists_fetches_assigns_scales_publishes_and_releases_the_lock() -> None:
    functions = Functions()
    output = run(functions, {})
    assert functions.calls == [
        {"function": "assigner", "action": "begin", "run": "run-1", "wanted": False, **NO_OPTIONS},
        {"function": "fetcher", "action": "list", "run": "run-1", **HOW},
        {"function": "fetcher", "action": "fetch", "run": "run-1", "packet": 0},
        {"function": "fetcher", "action": "fetch", "run": "run-1", "packet": 1},
        {"function": "assigner", "action": "assign", "run": "run-1", **NO_OPTIONS},
        {"function": "scaler", "action": "open", "run": "run-1", "repair": False, "slots": ["1", "2"]},
        {"function": "scaler", "action": "open", "run": "run-1", "repair": False, "slots": ["3"]},
        {"function": "assigner", "action": "publish", "run": "run-1", "repair": False},
        {
            "function": "assigner",
            "action": "end",
            "run": "run-1",
            "dry_run": False,
            "repair": False,
            "failed": False,
            "started": "2027-01-15T08:00:00.000Z",
            "error": "",
            "cause": "",
        },
    ]
    assert output == {
        "outcome": "Published",
        "again": False,
        "plan": PLAN,
        "published": functions.answers["publish"],
    }


@pytest.mark.parametrize(
    "given",
    [
        {"version": "0", "detail-type": "Scheduled Event", "detail": {}, "resources": ["arn"]},
        {"dry_run": False, "repair": False},
        [],
        "text",
    ],
)
def test_any_input_without_options_is_a_whole_run(given: Any) -> None:
    functions = Functions()
    assert run(functions, given)["outcome"] == "Published"
    assert "list" in functions.actions


def test_a_dry_run_answers_the_plan_and_changes_nothing() -> None:
    functions = Functions()
    output = run(functions, {"dry_run": True})
    assert functions.actions == ["begin", "list", "fetch", "fetch", "assign", "end"]
    assert functions.calls[-2]["dry_run"] is True
    assert (output["outcome"], output["plan"]) == ("Planned", PLAN)


def test_a_repair_starts_connectors_and_publishes_without_asking_thingworx() -> None:
    functions = Functions()
    run(functions, {"repair": True})
    assert functions.actions == ["begin", "assign", "open", "open", "publish", "end"]
    assert functions.calls[1]["repair"] is True


def test_a_run_that_finds_another_under_way_ends_well_and_touches_nothing() -> None:
    functions = Functions(begin=BEGUN | {"acquired": False, "holder": "run-0"})
    assert run(functions, {}) == {"outcome": "AnotherRunIsUnderWay", "holder": "run-0"}
    assert functions.actions == ["begin"]


def test_a_run_for_wishes_that_finds_none_ends_well_and_touches_nothing() -> None:
    functions = Functions(begin=BEGUN | {"acquired": False})
    assert run(functions, {"wanted": True}) == {"outcome": "NothingWanted", "holder": None}
    assert functions.calls[0]["wanted"] is True
    assert functions.actions == ["begin"]


@pytest.mark.parametrize("things", [["pump"], ["pump", "fan"]])
def test_a_run_over_some_things_names_them_to_all_who_ask_or_plan(things: list[str]) -> None:
    functions = Functions(begin=BEGUN | {"things": things})
    run(functions, {"things": things})
    named = {call["action"]: call["things"] for call in functions.calls if "things" in call}
    assert named == {"begin": things, "list": things, "assign": things}


def test_a_run_for_wishes_runs_as_they_say() -> None:
    functions = Functions(begin=BEGUN | {"full": True, "allow_removals": True, "things": ["pump"]})
    run(functions, {"wanted": True})
    listed, planned = functions.calls[1], functions.calls[4]
    assert (listed["full"], listed["things"]) == (True, ["pump"])
    assert (planned["full"], planned["allow_removals"], planned["things"]) == (True, True, ["pump"])


def test_the_options_of_the_input_reach_those_who_carry_them_out() -> None:
    functions = Functions(begin=BEGUN | {"full": True, "allow_removals": True})
    run(functions, {"full": True, "allow_removals": True, "dry_run": True})
    begun, planned = functions.calls[0], functions.calls[-2]
    for call in (begun, planned):
        assert (call["full"], call["allow_removals"], call["dry_run"]) == (True, True, True)


def test_a_repair_says_so_wherever_a_lock_would_be_asked_for() -> None:
    functions = Functions()
    run(functions, {"repair": True})
    assert [call["repair"] for call in functions.calls] == [True] * len(functions.calls)


def test_a_failed_run_says_so_when_it_ends() -> None:
    functions = Functions(list=TaskError("ThingworxUnavailable", "away"))
    with pytest.raises(TaskError):
        run(functions, {})
    ending = functions.calls[-1]
    assert (ending["failed"], ending["error"], ending["cause"]) == (True, "ThingworxUnavailable", "away")


@pytest.mark.parametrize("action", ["begin", "list", "fetch", "assign", "publish"])
def test_a_failed_run_releases_the_lock_and_fails_with_the_reason_of_the_function(action: str) -> None:
    functions = Functions(**{action: TaskError("ThingworxRefused", "the application key was refused")})
    with pytest.raises(TaskError) as failure:
        run(functions, {})
    assert (failure.value.error, failure.value.cause) == (
        "ThingworxRefused",
        "the application key was refused",
    )
    assert functions.actions[-2:] == [action, "end"]


def test_slots_that_cannot_be_opened_fail_the_run_after_the_others_are_published() -> None:
    functions = Functions(open=TaskError("SlotsNotOpened", "slot 1: QueueBlocked"))
    with pytest.raises(TaskError) as failure:
        run(functions, {})
    assert (failure.value.error, failure.value.cause) == ("SlotsNotOpened", "slot 1: QueueBlocked")
    assert functions.actions[-4:] == ["open", "open", "publish", "end"]


def test_long_causes_of_many_slots_leave_room_in_the_state() -> None:
    functions = Functions(open=TaskError("SlotsNotOpened", "slot 1: " + "x" * 32_000))
    with pytest.raises(TaskError) as failure:
        run(functions, {})
    assert len(failure.value.cause) == 500
    assert functions.actions[-2:] == ["publish", "end"]


def test_a_failed_release_does_not_hide_why_the_run_failed() -> None:
    functions = Functions(list=TaskError("ThingworxRefused", "first"), end=TaskError("Conflict", "second"))
    with pytest.raises(TaskError) as failure:
        run(functions, {})
    assert (failure.value.error, failure.value.cause) == ("ThingworxRefused", "first")


def test_a_release_that_fails_alone_fails_the_run() -> None:
    with pytest.raises(TaskError, match="Conflict"):
        run(Functions(end=TaskError("Conflict")), {})


def test_what_was_asked_for_meanwhile_is_seen_to_after_the_lock_is_released() -> None:
    functions = Functions(end={"again": True})
    assert run(functions, {"repair": True})["again"] is True
    assert functions.started == [{"StateMachineArn": MACHINE + "discovery", "Input": {"wanted": True}}]


def test_a_failed_run_is_not_started_again() -> None:
    functions = Functions(list=TaskError("ThingworxUnavailable"), end={"again": True})
    with pytest.raises(TaskError):
        run(functions, {})
    assert functions.started == []


@pytest.mark.parametrize("packets", [[], [0], [0, 1, 2]])
def test_every_packet_is_fetched_however_many_there_are(packets: list[int]) -> None:
    functions = Functions(list={"things": len(packets), "packets": packets})
    run(functions, {})
    assert [call["packet"] for call in functions.calls if call["action"] == "fetch"] == packets


@pytest.mark.parametrize("packets", [[], [["1"]], [["1", "2"]], [["1"], ["2"]]])
def test_every_packet_of_slots_stays_a_list_however_short(packets: list[list[str]]) -> None:
    functions = Functions(assign=PLAN | {"slot_packets": packets})
    run(functions, {})
    assert [call["slots"] for call in functions.calls if call["action"] == "open"] == packets


def test_the_largest_run_passes_less_than_64_kib_from_state_to_state() -> None:
    packets = [[str(slot) for slot in range(first, first + 50)] for first in range(0, 10_000, 50)]
    names = {key: ["x" * 128] * 20 for key in ("added", "changed", "removed", "kept", "failed")}
    functions = Functions(assign=PLAN | {"first_names": names, "slot_packets": packets})
    assert len(json.dumps(run(functions, {}))) < 65_536
