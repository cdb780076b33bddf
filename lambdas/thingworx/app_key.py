"""The application key, read from its secret when a connection is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.errors import ThingworxRefused, ThingworxUnavailable

if TYPE_CHECKING:
    from lambdas.shared.secrets import Secret

__all__ = ["AppKey", "read_app_key"]

_KEY = re.compile(r"[!-~]+")  # what a header can carry without being folded or encoded


@dataclass(frozen=True, slots=True)
class AppKey:
    """An application key.

    Attributes:
        text: the key; never in `repr`.
        version: id of the secret's version it came from.
    """

    text: str = field(repr=False)
    version: str


def read_app_key(secret: Secret) -> AppKey:
    """The key as it is now.

    Raises:
        ThingworxUnavailable: the secret can't be read now.
        ThingworxRefused: the secret holds no application key.
    """
    try:
        text, version = secret.latest()
    except (ClientError, BotoCoreError) as error:
        raise ThingworxUnavailable(f"the application key can't be read: {error}") from error
    except KeyError:
        raise ThingworxRefused(f"{secret!r} holds no text; it must be the application key") from None
    if not _KEY.fullmatch(text):
        raise ThingworxRefused(
            f"{secret!r} is no application key: one word of printable ASCII characters is expected"
        )
    return AppKey(text, version)
