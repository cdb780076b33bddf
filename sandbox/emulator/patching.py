"""Replace private names of the pinned emulator, or refuse to start.

A patch that silently misses its target would turn the sandbox back into something unlike AWS without
anybody noticing: a missing name or another release is an error at start.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

PINNED_VERSION = "1.5.33"


class OverlayError(RuntimeError):
    """The overlay doesn't fit the installed emulator."""


def check_version() -> None:
    """Raise OverlayError unless the installed emulator is the one the overlay was written for."""
    installed = version("ministack")
    if installed != PINNED_VERSION:
        raise OverlayError(f"the overlay fits ministack {PINNED_VERSION}, installed is {installed}")


def require(module: ModuleType, *names: str) -> None:
    """Raise OverlayError unless `module` has every one of `names` (those the overlay calls)."""
    missing = [name for name in names if not hasattr(module, name)]
    if missing:
        raise OverlayError(f"{module.__name__} has no {', '.join(missing)}: see {PINNED_VERSION}")


def replace(module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Replace `module.name` by `make(original)`, also where a module-level dict dispatches to it."""
    require(module, name)
    original = getattr(module, name)
    replacement = make(original)
    setattr(module, name, replacement)
    for table in vars(module).values():
        if isinstance(table, dict):
            for key, value in list(table.items()):
                if value is original:
                    table[key] = replacement
