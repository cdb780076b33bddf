"""Every time-out of an AlwaysOn session, with the default it has for a reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from lambdas.shared.errors import SettingError

__all__ = ["Timeouts", "timeouts_from"]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds, all above 0.

    Attributes:
        connect: TCP, TLS, proxy and WebSocket handshake together.
        auth: answer to AUTH; the platform itself waits 15 s for the message.
        bind: answer to one BIND or UNBIND.
        request: answer to any other request; the platform's own wait is 30 s.
        sync: how long a bound Thing waits for the platform to synchronise it before it is asked.
        ready: how long a push waits for its Thing to be bound and synchronised.
        park_first: first pause before a refused Thing is bound again; it doubles each time.
        park_most: longest such pause.
        conflict_first: the first such pause when another connection has the Thing bound, which may be that
            of a connector before this one: the platform keeps it for up to 60 s when that one crashed.
        retry_first: first pause before the platform is connected to again; it doubles each time.
        retry_most: longest such pause.
        ping: between two pings; connections idle for 60 s are closed by the platform.
        pong: answer to a ping.
        close: closing handshake.
    """

    connect: float = 10.0
    auth: float = 15.0
    bind: float = 30.0
    request: float = 30.0
    sync: float = 10.0
    ready: float = 45.0
    park_first: float = 60.0
    park_most: float = 3600.0
    conflict_first: float = 1.0
    retry_first: float = 0.5
    retry_most: float = 30.0
    ping: float = 20.0
    pong: float = 10.0
    close: float = 5.0


def timeouts_from(text: str, **defaults: float) -> Timeouts:
    """Time-outs of a setting.

    Args:
        text: JSON object of seconds by name, such as `{"ping": 15}`; the fields of `Timeouts` are the names.
        defaults: what to take, instead of the defaults of `Timeouts`, for names that are not given.

    Raises:
        SettingError: not such an object; what is wrong is named, and what may be given.
    """
    names = [entry.name for entry in fields(Timeouts)]
    allowed = f"it must be a JSON object of seconds above 0 by name, of {', '.join(names)}"
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise SettingError(f"ALWAYSON_TIMEOUTS is {text!r}; {allowed}")
    wrong = [
        f"{name}: {value!r}" for name, value in given.items() if name not in names or not _is_wait(value)
    ]
    if wrong:
        raise SettingError(f"ALWAYSON_TIMEOUTS has {', '.join(wrong)}; {allowed}")
    return Timeouts(**(defaults | {name: float(value) for name, value in given.items()}))


def _is_wait(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
