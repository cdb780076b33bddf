"""Run `python -m ops COMMAND --stack NAME`; `--help` lists the commands."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.errors import ConnectorError
from ops.command import OperatorError
from ops.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.command import Command

__all__ = ["main"]

#: Modules of `ops` that are commands, in the order of the help.
COMMANDS = ("status", "replay", "reingest", "discover")

_INTERRUPTED = 130  # as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 not done, 2 called wrongly."""
    commands = {name: cast("Command", import_module(f"ops.{name}")) for name in COMMANDS}
    chosen = _parser(commands).parse_args(arguments)
    try:
        return commands[chosen.command].run(chosen, Stack(chosen.stack, chosen.region))
    except (OperatorError, ConnectorError) as error:
        return _fail(str(error))
    except (ClientError, BotoCoreError) as error:
        return _fail(f"AWS: {error}")
    except KeyboardInterrupt:
        _fail("interrupted")
        return _INTERRUPTED


def _parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack", required=True, metavar="NAME", help="the stack's name, Terraform's `name`")
    common.add_argument("--region", help="AWS region (default: that of the environment or the profile)")
    parser = argparse.ArgumentParser(prog="python -m ops", description="Operate a stack.")
    chosen = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        command.add_arguments(
            chosen.add_parser(name, parents=[common], help=command.HELP, description=command.HELP)
        )
    return parser


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
