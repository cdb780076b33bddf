"""Start a discovery run and follow it."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from ops.command import OperatorError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

    from ops.stack import Stack

__all__ = ["HELP", "add_arguments", "run"]

HELP = "start a discovery run: find new, changed and removed Things"

_LOOK_SECONDS = 2.0
_EVENTS = 100
_SHOWN = 20
_REPORTS = "reports/"
#: State of the machine -> what happens in it.
_STEPS = {
    "Begin": "waiting for its turn",
    "List": "listing Things in ThingWorx",
    "Fetch": "reading property definitions",
    "FetchPacket": "reading property definitions",
    "Assign": "planning slots",
    "Scale": "opening slots",
    "OpenSlots": "opening slots",
    "Publish": "publishing to the routers",
    "Release": "ending",
}
_COUNTS = {
    "added": "Things added",
    "changed": "Things changed",
    "removed": "Things removed",
    "kept": "Things unchanged",
    "failed": "Things that couldn't be read",
    "removals_withheld": "removals withheld: too many at once; --allow-removals overrides that",
    "without_properties": "Things without a property to deliver to",
    "new_slots": "new slots",
    "slots": "slots",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `Command.add_arguments`."""
    parser.add_argument("--dry-run", action="store_true", help="only plan; change nothing")
    parser.add_argument("--full", action="store_true", help="read every Thing, whether it changed or not")
    parser.add_argument("--things", metavar="A,B", help="only these Things, separated by commas")
    parser.add_argument(
        "--allow-removals", action="store_true", help="remove however many Things are gone at once"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="ask ThingWorx nothing: open slots and fill Redis by the control table",
    )
    parser.add_argument("--watch", action="store_true", help="show how it goes, and end with it")


def run(arguments: argparse.Namespace, stack: Stack) -> int:
    """See `Command.run`."""
    options = _options(arguments)
    name = f"ops-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    machine = stack.state_machine_arn("discovery")
    try:
        started = stack.states.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps(options, sort_keys=True)
        )
    except stack.states.exceptions.StateMachineDoesNotExist as error:
        raise OperatorError(
            f"there is no state machine {machine}: run `terraform apply`, or check --stack"
        ) from error
    if not arguments.watch:
        print(f"started {name}")
        print(f"it shows up in `python -m ops status --stack {stack.name}` once it has ended")
        return 0
    _say(f"started {name}")
    found = _follow(stack.states, started["executionArn"])
    return _ended(found, stack, name, dry_run=arguments.dry_run)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        name: True for name in ("dry_run", "full", "allow_removals", "repair") if getattr(arguments, name)
    }
    if arguments.things is not None:
        chosen["things"] = [name for name in map(str.strip, arguments.things.split(",")) if name]
        if not chosen["things"]:
            raise OperatorError("--things names no Thing; give names separated by commas")
    if "repair" in chosen and len(chosen) > 1:
        raise OperatorError(
            "--repair goes without other options: it asks ThingWorx nothing, and plans nothing"
        )
    if "things" in chosen and {"full", "allow_removals"} & chosen.keys():
        raise OperatorError(
            "--things goes without --full and --allow-removals: these are read anyway, others are left alone"
        )
    return chosen


def _follow(states: SFNClient, execution: str) -> Mapping[str, Any]:
    """Show the steps of an execution until it ends; its description."""
    began, shown = time.monotonic(), ""
    while True:
        found = states.describe_execution(executionArn=execution)
        step = _step(states, execution)
        if step and step != shown:
            shown = step
            _say(f"{time.monotonic() - began:6.0f} s  {step}")
        if found["status"] != "RUNNING":
            return found
        time.sleep(_LOOK_SECONDS)


def _step(states: SFNClient, execution: str) -> str:
    """What the execution is doing, by the newest of its states that says something."""
    history = states.get_execution_history(executionArn=execution, reverseOrder=True, maxResults=_EVENTS)
    for event in history["events"]:
        name = event.get("stateEnteredEventDetails", {}).get("name", "")
        if name in _STEPS:
            return _STEPS[name]
    return ""


def _ended(found: Mapping[str, Any], stack: Stack, name: str, *, dry_run: bool) -> int:
    report = _report(stack, name)
    if found["status"] != "SUCCEEDED":
        _show_report(report)
        reason = f"{found.get('error') or found['status']}: {found.get('cause') or 'no cause is told'}"
        raise OperatorError(f"the run failed: {_sentence(reason)}")
    output = json.loads(found["output"])
    if output["outcome"] == "AnotherRunIsUnderWay":
        if dry_run:
            raise OperatorError(f"the run {output['holder']} is under way; try again when it has ended")
        print(f"the run {output['holder']} is under way; a run for what was asked follows it by itself")
        return 0
    plan = output.get("plan") or {}
    print("planned, nothing changed" if dry_run else "published")
    for count, label in _COUNTS.items():
        if plan.get(count):
            print(f"{plan[count]:>8}  {label}")
            names = plan.get("first_names", {}).get(count, [])
            if names:
                more = ", ..." if plan[count] > len(names) else ""
                print(f"          {', '.join(names)}{more}")
    if plan.get("plan"):
        print(f"plan: s3://{_bucket(stack)}/{plan['plan']}")
    if output.get("again"):
        print("another run was asked for meanwhile; it has been started")
    _show_report(report)
    return 0


def _sentence(reason: str) -> str:
    """An error of a function without its JSON: Step Functions passes both on as one text."""
    error, _, cause = reason.partition(": ")
    try:
        return f"{error}: {json.loads(cause)['errorMessage']}"
    except (ValueError, KeyError, TypeError):
        return reason


def _bucket(stack: Stack) -> str:
    return stack.setting("assigner", "STAGING_BUCKET")


def _report(stack: Stack, name: str) -> tuple[str, Mapping[str, Any]] | None:
    """Address and content of the run's report, when it has one; a repair has none."""
    bucket, client = _bucket(stack), stack.objects
    key = _report_key(client, bucket, name)
    if key is None:
        return None
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return f"s3://{bucket}/{key}", json.loads(body)


def _report_key(client: S3Client, bucket: str, name: str) -> str | None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_REPORTS)
    keys = (entry["Key"] for page in pages for entry in page.get("Contents", []))
    return next((key for key in keys if key.endswith(f"-{name}.json")), None)


def _show_report(report: tuple[str, Mapping[str, Any]] | None) -> None:
    if report is None:
        return
    address, content = report
    print(f"report: {address}")
    failed: Mapping[str, str] = content.get("failed", {})
    mistakes: Mapping[str, list[Mapping[str, str]]] = content.get("mistakes", {})
    lines = [f"{thing}: couldn't be read: {reason}" for thing, reason in failed.items()]
    lines += [f"{thing}: {_mistake(found)}" for thing, every in mistakes.items() for found in every]
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN} more in the report")


def _mistake(found: Mapping[str, str]) -> str:
    rest = ", ".join(text for key, text in found.items() if key != "code")
    return f"{found['code']} ({rest})" if rest else found["code"]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
