"""The command line as an operator meets it: what it asks for, and what it says when that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ops.__main__ import COMMANDS, main
from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def account() -> Iterator[None]:
    with aws():
        yield


def test_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS
    assert all(f"\n    {name} " in shown for name in COMMANDS)


def test_without_a_command_or_a_stack_it_is_called_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["status"]):
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        assert exited.value.code == 2
    assert "--stack" in capsys.readouterr().err


def test_a_stack_that_is_not_there_is_named_with_what_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--stack", "elsewhere"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: there is no function elsewhere-connector in us-east-1")
    assert "--stack" in shown


def test_without_a_region_it_says_how_to_give_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    assert main(["status", "--stack", "demo"]) == 1
    assert "--region" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "say what to send"),
        (["--all", "--thing", "pump"], "--all goes without"),
        (["--from", "yesterday"], "--from 'yesterday' is no time"),
        (["--to", "2026-13-01"], "--to '2026-13-01' is no time"),
    ],
)
def test_a_replay_says_what_is_missing_or_wrong(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--stack", "demo", *options]) == 1
    assert told in capsys.readouterr().err
