"""The two state machines as Terraform fills them in, with made-up names and round numbers."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[3] / "statemachine"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:stack-"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:stack-"

SUBSTITUTIONS = {
    "discovery": {
        "partition": "aws",
        "assigner_function_arn": FUNCTION + "assigner",
        "assigner_task_seconds": 960,
        "fetcher_function_arn": FUNCTION + "fetcher",
        "fetcher_task_seconds": 960,
        "scaler_function_arn": FUNCTION + "scaler",
        "scaler_task_seconds": 360,
        "discovery_state_machine_arn": MACHINE + "discovery",
    },
    "connector": {
        "partition": "aws",
        "connector_function_arn": FUNCTION + "connector",
        "connector_state_machine_arn": MACHINE + "connector",
        "heartbeat_seconds": 45,
        "serve_seconds": 1020,
        "back_off_seconds": "5, 15, 60",
        "turns_per_execution": 100,
        "seconds_per_execution": 86400,
    },
}


def template(name: str) -> str:
    """The text of a definition before substitution."""
    return (FOLDER / f"{name}.asl.json").read_text()


def definition(name: str) -> dict[str, Any]:
    """A definition after substitution; KeyError when a placeholder has no value."""
    text = string.Template(_protect_jsonata(template(name))).substitute(SUBSTITUTIONS[name])
    return dict(json.loads(text))


def _protect_jsonata(text: str) -> str:
    """Double every `$` that is JSONata's, so that only `${...}` is substituted."""
    return text.replace("$", "$$").replace("$${", "${")


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state by name, those inside a Map too."""
    for name, state in machine["States"].items():
        yield name, state
        if state["Type"] == "Map":
            yield from states(state["ItemProcessor"])


def expressions(node: Any) -> Iterator[str]:
    """The text of every JSONata expression, without its braces."""
    if isinstance(node, dict):
        for value in node.values():
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)
    elif isinstance(node, str) and node.startswith("{%"):
        yield node.removeprefix("{%").removesuffix("%}").strip()
