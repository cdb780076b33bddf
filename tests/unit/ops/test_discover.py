"""Starting a discovery run by hand: what it is started with, what is shown, and how it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from ops import discover
from ops.__main__ import main
from ops.stack import Stack
from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "demo-staging"
MACHINE = "arn:aws:states:us-east-1:1:stateMachine:demo-discovery"
PLAN = {"added": 2, "kept": 5, "slots": 1, "first_names": {"added": ["fan", "pump"]}, "plan": "run/plan.json"}


class NoMachineError(Exception):
    """As boto3's."""


class FakeStates:
    """One execution that passes its states, one a look, and then ends."""

    exceptions = SimpleNamespace(StateMachineDoesNotExist=NoMachineError)

    def __init__(self) -> None:
        self.states = [
            "Start",
            "Begin",
            "List",
            "Fetch",
            "FetchPacket",
            "Assign",
            "Scale",
            "Publish",
            "Release",
        ]
        self.end: dict[str, Any] = {}
        self.started: dict[str, Any] = {}
        self.error: Exception | None = None
        self.looks = 0
        self.succeed({"outcome": "Published", "again": False, "plan": PLAN, "published": {}})

    def succeed(self, output: dict[str, Any]) -> None:
        """How it ends."""
        self.end = {"status": "SUCCEEDED", "output": json.dumps(output)}

    def start_execution(self, **request: Any) -> dict[str, str]:
        """As boto3's."""
        if self.error:
            raise self.error
        self.started = request
        return {"executionArn": f"arn:{request['name']}"}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        """As boto3's."""
        assert executionArn == f"arn:{self.started['name']}"
        self.looks += 1
        return {"status": "RUNNING"} if self.looks < len(self.states) else self.end

    def get_execution_history(self, **request: Any) -> dict[str, Any]:
        """As boto3's, newest first."""
        assert request["reverseOrder"] is True
        entered = reversed(self.states[: self.looks])
        return {"events": [{"id": 1}, *({"stateEnteredEventDetails": {"name": name}} for name in entered)]}


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStates]:
    fake = FakeStates()
    monkeypatch.setattr(Stack, "states", fake)
    monkeypatch.setattr(Stack, "state_machine_arn", lambda _, machine: MACHINE.replace("discovery", machine))
    monkeypatch.setattr(Stack, "setting", lambda *_: BUCKET)
    monkeypatch.setattr(discover.time, "sleep", lambda _: None)  # type: ignore[attr-defined]
    with aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield fake


def call(*options: str) -> int:
    return main(["discover", "--stack", "demo", *options])


def report(name: str, content: dict[str, Any]) -> None:
    boto3.client("s3").put_object(
        Bucket=BUCKET, Key=f"reports/20261123T120000000Z-{name}.json", Body=json.dumps(content)
    )


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], {}),
        (["--dry-run", "--full"], {"dry_run": True, "full": True}),
        (["--allow-removals"], {"allow_removals": True}),
        (["--repair"], {"repair": True}),
        (["--things", "pump, fan,"], {"things": ["pump", "fan"]}),
    ],
)
def test_options_become_the_input_of_the_execution(
    states: FakeStates, options: list[str], given: dict[str, Any]
) -> None:
    assert call(*options) == 0
    assert states.started["stateMachineArn"] == MACHINE
    assert json.loads(states.started["input"]) == given


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--things", " , "], "--things names no Thing"),
        (["--repair", "--full"], "--repair goes without other options"),
        (["--things", "pump", "--allow-removals"], "--things goes without"),
    ],
)
def test_options_that_do_not_go_together_start_nothing(
    states: FakeStates, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*options) == 1
    assert told in capsys.readouterr().err
    assert not states.started


def test_without_watch_it_ends_once_the_run_has_been_started(
    states: FakeStates, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() == 0
    assert states.looks == 0
    assert f"started {states.started['name']}" in capsys.readouterr().out


def test_watch_shows_each_step_once_and_then_what_was_done(
    states: FakeStates, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--watch") == 0
    shown = capsys.readouterr()
    steps = [line.split(" s  ")[1] for line in shown.err.splitlines() if " s  " in line]
    assert steps == [
        "waiting for its turn",
        "listing Things in ThingWorx",
        "reading property definitions",
        "planning slots",
        "opening slots",
        "publishing to the routers",
        "ending",
    ]
    assert "       2  Things added\n          fan, pump\n" in shown.out
    assert "       5  Things unchanged" in shown.out
    assert f"plan: s3://{BUCKET}/run/plan.json" in shown.out
    assert "removed" not in shown.out


def test_what_owners_have_to_put_right_is_shown(
    states: FakeStates, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover.uuid, "uuid4", lambda: SimpleNamespace(hex="abcdef00"))  # type: ignore[attr-defined]
    monkeypatch.setattr(discover.time, "strftime", lambda *_: "20261123T120000")  # type: ignore[attr-defined]
    mistakes = {f"pump-{index:02}": [{"code": "push_never", "property": "temp"}] for index in range(30)}
    report("ops-20261123T120000-abcdef", {"failed": {"fan": "time-out"}, "mistakes": mistakes})
    report("another", {"failed": {"stranger": "time-out"}})
    assert call("--watch") == 0
    shown = capsys.readouterr().out
    assert f"report: s3://{BUCKET}/reports/20261123T120000000Z-ops-20261123T120000-abcdef.json" in shown
    assert "  fan: couldn't be read: time-out\n  pump-00: push_never (temp)\n" in shown
    assert "  and 11 more in the report" in shown
    assert "stranger" not in shown


def test_a_failed_run_is_an_error_with_its_reason(
    states: FakeStates, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = json.dumps({"errorMessage": "ThingWorx refuses the application key", "errorType": "x"})
    states.end = {"status": "FAILED", "error": "ThingworxRefused", "cause": cause}
    assert call("--watch") == 1
    assert (
        "error: the run failed: ThingworxRefused: ThingWorx refuses the application key\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT"])
def test_a_run_that_was_stopped_is_an_error(
    states: FakeStates, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    states.end = {"status": status}
    assert call("--watch") == 1
    assert f"the run failed: {status}" in capsys.readouterr().err


def test_another_run_under_way_is_told_with_what_follows(
    states: FakeStates, capsys: pytest.CaptureFixture[str]
) -> None:
    states.succeed({"outcome": "AnotherRunIsUnderWay", "holder": "hourly"})
    assert call("--watch") == 0
    assert "the run hourly is under way" in capsys.readouterr().out
    states.looks = 0
    assert call("--watch", "--dry-run") == 1
    assert "try again" in capsys.readouterr().err


def test_a_stack_without_the_machine_says_what_to_do(
    states: FakeStates, capsys: pytest.CaptureFixture[str]
) -> None:
    states.error = NoMachineError()
    assert call() == 1
    assert "terraform apply" in capsys.readouterr().err
