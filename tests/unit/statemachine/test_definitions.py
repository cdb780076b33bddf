"""What both definitions promise, whatever they do: linted, retried, caught, bounded."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonata
import pytest
from statelint.linter import Linter

from tests.unit.statemachine.definitions import (
    MACHINE,
    SUBSTITUTIONS,
    definition,
    expressions,
    states,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = sorted(SUBSTITUTIONS)
NOT_TRANSIENT = {"SettingError", "RunLost", "ThingworxRefused", "ThingworxCallFailed", "MalformedParcel"}


def tasks(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = [(state_name, state) for state_name, state in states(definition(name)) if state["Type"] == "Task"]
    assert found
    yield from found


@pytest.mark.parametrize("name", MACHINES)
def test_every_placeholder_is_used_and_filled(name: str) -> None:
    assert set(re.findall(r"\$\{(\w+)\}", template(name))) == set(SUBSTITUTIONS[name])


@pytest.mark.parametrize("name", MACHINES)
def test_statelint_finds_nothing(name: str) -> None:
    machine = copy.deepcopy(definition(name))
    for _, state in states(machine):
        # statelint 3.1.0 knows no expression there, which AWS allows; its value is checked by running it.
        if state["Type"] == "Wait" and isinstance(state["Seconds"], str):
            state["Seconds"] = 1
    assert Linter.validate(machine) == []


@pytest.mark.parametrize("name", MACHINES)
def test_cfn_lint_finds_nothing(name: str, tmp_path: Path) -> None:
    role = "arn:aws:iam::123456789012:role/stack"
    wrapped = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": role, "Definition": definition(name)},
    }
    document = tmp_path / "template.json"
    document.write_text(json.dumps({"Resources": {"Machine": wrapped}}))
    program = shutil.which("cfn-lint", path=str(Path(sys.executable).parent))
    assert program, "cfn-lint is not installed beside Python: install requirements.txt"
    lint = subprocess.run([program, str(document)], check=False, capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, "")


@pytest.mark.parametrize("name", MACHINES)
def test_every_expression_parses(name: str) -> None:
    for expression in expressions(definition(name)):
        jsonata.Jsonata.jsonata(expression)


@pytest.mark.parametrize("name", MACHINES)
def test_state_names_are_unique_inside_maps_too(name: str) -> None:
    names = [state_name for state_name, _ in states(definition(name))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", MACHINES)
def test_every_task_is_retried_with_jitter_and_a_bound(name: str) -> None:
    for state_name, state in tasks(name):
        retriers = [retrier for retrier in state["Retry"] if retrier.get("MaxAttempts") != 0]
        assert retriers, state_name
        for retrier in retriers:
            assert retrier["JitterStrategy"] == "FULL", state_name
            assert isinstance(retrier["BackoffRate"], float), state_name
            assert retrier["IntervalSeconds"] <= retrier["MaxDelaySeconds"], state_name
            assert not NOT_TRANSIENT & set(retrier["ErrorEquals"]), state_name


@pytest.mark.parametrize("name", MACHINES)
def test_every_task_and_map_catches_every_error(name: str) -> None:
    for state_name, state in states(definition(name)):
        if state["Type"] in {"Task", "Map"}:
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], state_name


@pytest.mark.parametrize("name", MACHINES)
def test_every_task_ends_by_a_time_out_and_every_token_by_a_heartbeat_before_it(name: str) -> None:
    for state_name, state in tasks(name):
        assert state["TimeoutSeconds"] > 0, state_name
        if state["Resource"].endswith(".waitForTaskToken"):
            assert state["Arguments"]["InvocationType"] == "Event", state_name
            assert state["HeartbeatSeconds"] < state["TimeoutSeconds"], state_name


@pytest.mark.parametrize("name", MACHINES)
def test_every_loop_passes_a_state_that_continues_as_a_new_execution(name: str) -> None:
    machine = definition(name)
    following = {state_name: set(_successors(state)) for state_name, state in machine["States"].items()}
    ways_out = {
        state_name
        for state_name, state in machine["States"].items()
        if state.get("Arguments", {}).get("StateMachineArn") == MACHINE + name
    }
    for start in following:
        loop = _loop_through(start, following)
        leaves = {target for state_name in loop for target in following[state_name]}
        assert not loop or leaves & ways_out, f"the loop {sorted(loop)} fills the history"


def test_input_of_discovery_is_read_behind_exists_only() -> None:
    reads = [
        text for text in expressions(definition("discovery")["States"]["Start"]) if "$states.input" in text
    ]
    assert len(reads) == 6
    for text in reads:
        field = re.findall(r"\$states\.input\.\w+", text)[0]
        assert text.startswith(f"$exists({field}) ?"), text


def _successors(state: dict[str, Any]) -> Iterator[str]:
    for part in (state, *state.get("Choices", []), *state.get("Catch", [])):
        if "Next" in part:
            yield part["Next"]
    if "Default" in state:
        yield state["Default"]


def _loop_through(start: str, following: dict[str, set[str]]) -> set[str]:
    """The states that `start` can reach and that can reach it again: empty when it is on no loop."""

    def reachable(origin: str) -> set[str]:
        seen: set[str] = set()
        todo = list(following[origin])
        while todo:
            if (state_name := todo.pop()) not in seen:
                seen.add(state_name)
                todo.extend(following[state_name])
        return seen

    return {state_name for state_name in reachable(start) if start in reachable(state_name)}
