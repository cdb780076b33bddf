"""Every part of the overlay, in the order in which it is put on."""

from __future__ import annotations

from . import patching


def install() -> None:
    """Put the overlay on.

    Raises:
        patching.OverlayError: The installed emulator isn't the pinned one.
    """
    patching.check_version()
