"""What a command of `python -m ops` is, and how it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse

    from ops.stack import Stack

__all__ = ["Command", "OperatorError"]


class OperatorError(Exception):
    """A command can't do what was asked; the message says why and what to do about it."""


class Command(Protocol):
    """A module that is a command."""

    #: One line for `--help`.
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own options."""

    def run(self, arguments: argparse.Namespace, stack: Stack) -> int:
        """Carry the command out; returns the exit code.

        Raises:
            OperatorError: it can't be done.
        """
