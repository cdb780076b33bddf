"""What the router remembers of MQTT clients, in Redis beside the registry: nothing that can't be lost.

`{name}:gateway:{client}`: sorted set of the Things that a client spoke for, scored by the time when that
was last noted; a client that speaks for itself alone has none. `{name}:presence:{client}`: the newest
presence of a client that no Thing was known for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from lambdas.shared.chunks import chunks
from lambdas.shared.client_state import ClientState, KnownClient
from lambdas.shared.registry import call

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import redis
    from redis.client import Pipeline

__all__ = ["MOST_THINGS", "Clients"]

_VERSION = 1
#: Clients of one round trip.
_CHUNK = 500
#: Things noted for one client; beyond it the ones that were not noted for longest are forgotten.
MOST_THINGS = 10_000
_GATEWAY_SECONDS = 7 * 86_400
_STATE_SECONDS = 86_400


class Clients:
    """Reads and writes what is remembered.

    Args:
        client: from `registry.connect`.
        prefix: the stack's name prefix.
        now: seconds since 1970.
    """

    def __init__(self, client: redis.Redis, prefix: str, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._gateways = f"{prefix}:gateway:"
        self._states = f"{prefix}:presence:"
        self._now = now

    def read(self, names: Collection[str]) -> dict[str, KnownClient]:
        """What is remembered of each of these clients, in one round trip for up to 500.

        Raises:
            RegistryUnavailable: Redis doesn't answer.
        """
        known = {}
        for part in chunks(sorted(names), _CHUNK):

            def read(pipe: Pipeline, part: Sequence[str] = part) -> None:
                for name in part:
                    pipe.zrange(self._gateways + name, 0, -1)
                pipe.mget([self._states + name for name in part])

            *members, states = self._together("read clients", read)
            for name, things, state in zip(part, members, states, strict=True):
                known[name] = KnownClient(sorted(thing.decode() for thing in things), _state(state))
        return known

    def write(self, spoke: Mapping[str, Collection[str]], states: Mapping[str, ClientState]) -> None:
        """Note Things that clients spoke for, and the presence of clients, in one round trip for up to 500.

        Args:
            spoke: client id -> Things.
            states: client id -> its newest presence; it replaces what is there.

        Raises:
            RegistryUnavailable: Redis doesn't answer; doing it all again is safe.
        """
        now = self._now()
        for part in chunks(sorted({*spoke, *states}), _CHUNK):

            def write(pipe: Pipeline, part: Sequence[str] = part) -> None:
                for name in part:
                    if name in spoke:
                        self._note_things(pipe, self._gateways + name, spoke[name], now)
                    if name in states:
                        document = {"v": _VERSION} | states[name]._asdict()
                        pipe.set(self._states + name, orjson.dumps(document), ex=_STATE_SECONDS)

            self._together("note clients", write)

    @staticmethod
    def _note_things(pipe: Pipeline, key: str, things: Collection[str], now: float) -> None:
        pipe.zadd(key, dict.fromkeys(sorted(things), now))
        pipe.zremrangebyscore(key, "-inf", now - _GATEWAY_SECONDS)
        pipe.zremrangebyrank(key, 0, -MOST_THINGS - 1)
        pipe.expire(key, _GATEWAY_SECONDS)

    def _together(self, what: str, commands: Callable[[Pipeline], None]) -> list[Any]:
        """Answers to commands that go in one round trip."""

        def run() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            commands(pipe)
            return pipe.execute()

        return call(self._client, what, run)


def _state(text: bytes | None) -> ClientState | None:
    """A state as it was written; None for another release's, which its next event replaces."""
    if text is None:
        return None
    document: dict[str, Any] = orjson.loads(text)
    if document.get("v") != _VERSION:
        return None
    return ClientState(document["connected"], document["time"], document["version"])
