"""The order of `terraform destroy`: what starts work is gone before the stack is closed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).parents[3] / "terraform"
STARTS_WORK = {"aws_scheduler_schedule", "aws_iot_topic_rule", "aws_lambda_event_source_mapping"}
BLOCKS = {
    f"{kind}.{name}": body
    for path in sorted(TERRAFORM.glob("*.tf"))
    for kind, name, body in re.findall(
        r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', path.read_text(), re.MULTILINE | re.DOTALL
    )
}


def depends_on(resource: str) -> str:
    found = re.search(r"^  depends_on = \[(.*?)\]", BLOCKS[resource], re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@pytest.mark.parametrize("resource", [name for name in BLOCKS if name.partition(".")[0] in STARTS_WORK])
def test_what_starts_work_goes_before_the_stack_is_closed(resource: str) -> None:
    assert "aws_lambda_invocation.close" in depends_on(resource)


def test_both_schedules_are_among_them() -> None:
    assert {"aws_scheduler_schedule.discovery", "aws_scheduler_schedule.watch"} <= BLOCKS.keys()


@pytest.mark.parametrize(
    "resource", ["aws_lambda_function.this", "aws_iam_role_policy.function", "aws_sfn_state_machine.this"]
)
def test_what_connectors_need_to_end_well_outlives_the_closing(resource: str) -> None:
    assert resource in depends_on("aws_lambda_invocation.close")
