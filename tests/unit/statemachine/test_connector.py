"""How the connector machine keeps a slot served, against a fake connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.statemachine.definitions import FUNCTION, MACHINE, definition
from tests.unit.statemachine.interpreter import Execution, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

INPUT = {"slot": "7", "epoch": 3, "n": 0}
STOP = {"next": "stop", "reason": "draining"}
HANDOVER = {"next": "handover", "reason": "end of life"}
CRASH = TaskError("States.HeartbeatTimeout")
EXISTS = TaskError("StepFunctions.ExecutionAlreadyExistsException")


class Connector:
    """A fake connector: plays its answers one after another, each after `seconds` of serving."""

    def __init__(self, answers: Iterable[Any], seconds: int = 1, start: Iterable[Any] = ()) -> None:
        self.answers = iter(answers)
        self.seconds = seconds
        self.start_answers = iter(start)
        self.payloads: list[dict[str, Any]] = []
        self.started: list[dict[str, Any]] = []
        self.execution = Execution(definition("connector"), self, name="7-3-0")

    def __call__(self, resource: str, arguments: dict[str, Any]) -> Any:
        """Play one task: a turn of the connector, or a start of the next execution."""
        answer: Any
        if resource == "arn:aws:states:::states:startExecution":
            self.started.append(arguments)
            answer = next(self.start_answers, {})
        else:
            assert resource == "arn:aws:states:::lambda:invoke.waitForTaskToken"
            assert arguments["FunctionName"] == FUNCTION + "connector"
            self.payloads.append(arguments["Payload"])
            self.execution.now += self.seconds * 1000
            answer = next(self.answers)
        if isinstance(answer, TaskError):
            raise answer
        return answer

    def run(self) -> Any:
        """Run the machine against these answers; return its output."""
        return self.execution.run(INPUT)


def test_the_function_gets_slot_epoch_token_execution_and_turn() -> None:
    connector = Connector([HANDOVER, STOP])
    connector.run()
    first, second = connector.payloads
    assert first == {
        "v": 1,
        "slot": "7",
        "epoch": 3,
        "token": first["token"],
        "execution": "7-3-0",
        "turn": 0,
    }
    assert second["turn"] == 1
    assert second["token"] != first["token"]


def test_stop_ends_the_execution_well() -> None:
    assert Connector([STOP]).run() == {"outcome": "Stopped", "turns": 1}


@pytest.mark.parametrize("following", ["handover", "again"])
def test_the_successor_starts_at_once(following: str) -> None:
    connector = Connector([{"next": following}] * 50 + [STOP])
    connector.run()
    assert len(connector.payloads) == 51
    assert connector.execution.waits == []


def test_errors_are_waited_out_ever_longer_and_never_given_up() -> None:
    connector = Connector([CRASH] * 40 + [STOP])
    assert connector.run()["outcome"] == "Stopped"
    waits = connector.execution.waits
    assert len(waits) == 39, "the first failure is served again at once"
    for wait, step in zip(waits, [5, 15] + [60] * 37, strict=True):
        assert step / 2 <= wait <= step


@pytest.mark.parametrize(
    "error", ["States.Timeout", "States.HeartbeatTimeout", "ThingworxRefused", "Lambda.Unknown"]
)
def test_no_error_ends_the_execution(error: str) -> None:
    assert Connector([TaskError(error), STOP]).run()["outcome"] == "Stopped"


@pytest.mark.parametrize("answer", [{}, {"next": "rest"}, {"next": None}, None, "text"])
def test_an_answer_that_makes_no_sense_counts_as_a_failure(answer: Any) -> None:
    connector = Connector([answer, answer, STOP])
    assert connector.run()["outcome"] == "Stopped"
    assert len(connector.execution.waits) == 1


def test_an_answer_ends_a_row_of_failures() -> None:
    connector = Connector([CRASH, CRASH, HANDOVER, CRASH, STOP])
    connector.run()
    assert len(connector.execution.waits) == 1


def test_a_connector_that_served_for_long_before_it_crashed_is_followed_at_once() -> None:
    connector = Connector([CRASH] * 5 + [STOP], seconds=346)
    connector.run()
    assert connector.execution.waits == []


def test_the_time_it_takes_to_notice_a_dead_connector_does_not_count_as_service() -> None:
    connector = Connector([CRASH] * 5 + [STOP], seconds=45)
    connector.run()
    assert len(connector.execution.waits) == 4


def test_after_100_turns_it_continues_as_a_new_execution() -> None:
    connector = Connector([HANDOVER] * 200)
    assert connector.run() == {"outcome": "Continued", "turns": 100}
    assert connector.started == [
        {
            "StateMachineArn": MACHINE + "connector",
            "Name": "7-3-1",
            "Input": {"slot": "7", "epoch": 3, "n": 1},
        }
    ]


def test_after_24_hours_it_continues_as_a_new_execution() -> None:
    connector = Connector([HANDOVER] * 200, seconds=900)
    assert connector.run() == {"outcome": "Continued", "turns": 96}


def test_failures_count_as_turns() -> None:
    connector = Connector([CRASH] * 200)
    assert connector.run() == {"outcome": "Continued", "turns": 100}


def test_stop_wins_over_continuing() -> None:
    connector = Connector([HANDOVER] * 99 + [STOP])
    assert connector.run()["outcome"] == "Stopped"
    assert connector.started == []


def test_an_execution_that_was_continued_already_ends() -> None:
    connector = Connector([HANDOVER] * 200, start=[EXISTS])
    assert connector.run()["outcome"] == "Continued"


def test_an_execution_that_can_not_continue_keeps_serving_and_tries_again() -> None:
    connector = Connector([HANDOVER] * 200, start=[TaskError("StepFunctions.ExecutionLimitExceeded")] * 2)
    assert connector.run() == {"outcome": "Continued", "turns": 102}


def test_a_hundred_turns_of_failures_stay_far_below_the_limit_of_25_000_events() -> None:
    connector = Connector([CRASH] * 200)
    connector.run()
    # A task that fails leaves about six events an attempt, any other state two.
    events = sum(6 * 4 if state == "Serve" else 2 for state in connector.execution.trail)
    assert events < 25_000 / 5
