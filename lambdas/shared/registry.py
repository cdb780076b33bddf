"""The registry: what the router needs to know of a Thing, in Redis, rebuilt from the control table.

Forms of its keys: docs/reference/data-formats.md. Reading many Things is one MGET, so Redis must run
with cluster mode off. Every failure of Redis is `RegistryUnavailable`; no message holds the password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

import orjson
import redis
from botocore.exceptions import BotoCoreError, ClientError
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from lambdas.shared.chunks import chunks
from lambdas.shared.errors import RegistryLost, RegistryUnavailable, SettingError
from lambdas.shared.secrets import Secret
from lambdas.shared.shape import Shape, shape_from_pairs, to_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = ["Entry", "Registry", "RegistrySettings", "Route", "call", "connect"]

T = TypeVar("T")

_VERSION = 1
#: Keys of one command: large enough to hide the round trip, small enough not to hold up the router.
_CHUNK = 500
#: Tries again after a lost connection, before the caller hears of it.
_RETRIES = 3
#: Anything else in the URL could switch the verification of certificates off.
_URL_OPTIONS = frozenset({"db", "ssl_ca_certs"})


class Entry(NamedTuple):
    """A Thing: id of its slot, id of its shape."""

    slot: str
    shape: str


class Route(NamedTuple):
    """A slot: where its parcels go, in how many lanes."""

    queue_url: str
    lanes: int


class RegistrySettings(Protocol):
    """The settings that `connect` needs."""

    @property
    def redis_url(self) -> str:
        """`rediss://host:port/0`, without a password."""

    @property
    def redis_auth_secret_arn(self) -> str | None:
        """ARN of the secret with the password; None when Redis asks for none."""


def connect(settings: RegistrySettings, secret: Secret | None = None) -> redis.Redis:
    """A client that verifies certificates, reconnects by itself and has been tried once.

    Args:
        settings: where Redis is and where its password is kept.
        secret: the password, when the caller has it already.

    Raises:
        SettingError: the URL carries options that are not allowed.
        RegistryUnavailable: Redis doesn't answer, or runs with cluster mode on.
    """
    parts = urlsplit(settings.redis_url)
    refused = parse_qs(parts.query, keep_blank_values=True).keys() - _URL_OPTIONS
    if refused:
        raise SettingError(
            f"REDIS_URL has the option {min(refused)}; only {_one_of(_URL_OPTIONS)} are allowed"
        )
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if secret is None and settings.redis_auth_secret_arn:
        secret = _secret(settings.redis_auth_secret_arn)
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=2,
        socket_timeout=5,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), _RETRIES),
        credential_provider=_Password(secret, parts.username) if secret else None,
        # Notices of a Redis Enterprise service, which neither ElastiCache nor Valkey gives.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    info = call(client, "connect to Redis", lambda: client.info("cluster"))
    if info.get("cluster_enabled"):
        raise RegistryUnavailable(
            "Redis runs with cluster mode on, where one MGET can't read many Things; "
            "turn cluster mode off and run discovery"
        )
    return client


class Registry:
    """Reads for the router, writes for the assigner.

    Args:
        client: from `connect`.
        prefix: the stack's name prefix.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._things = f"{prefix}:thing:"
        self._shapes = f"{prefix}:shape:"
        self._slots = f"{prefix}:slots"
        self._published = f"{prefix}:published"

    def lookup(self, names: Sequence[str]) -> list[Entry | None]:
        """The entry of each Thing, None where unknown, in one round trip.

        Raises:
            RegistryLost: nothing was ever published here, or Redis has lost it: every Thing would look
                unknown.
            RegistryUnavailable: Redis doesn't answer.
        """
        if not names:
            return []
        keys = [self._published, *(self._things + name for name in names)]
        published, *texts = self._call("read Things", self._client.mget, keys)
        if published is None:
            raise RegistryLost("the registry is empty; a discovery run fills it")
        return [_read("Thing", text, _entry) if text else None for text in texts]

    def shapes(self, ids: Sequence[str]) -> dict[str, Shape]:
        """Shapes by id; an id that isn't stored is left out."""
        if not ids:
            return {}
        texts = self._call("read shapes", self._client.mget, [self._shapes + id_ for id_ in ids])
        return {name: _read("shape", text, _shape) for name, text in zip(ids, texts, strict=True) if text}

    def slots(self) -> dict[str, Route]:
        """All slots by id."""
        texts = self._call("read slots", self._client.hgetall, self._slots)
        return {slot.decode(): _read("slot", text, _route) for slot, text in texts.items()}

    def is_published(self) -> bool:
        """Whether all of it is here; while it isn't, `lookup` tells nobody to be unknown."""
        return bool(self._call("read whether it is published", self._client.exists, self._published))

    def thing_names(self) -> set[str]:
        """Names of all Things in the registry, read in small steps beside the router's work."""
        pattern = _literal(self._things) + "*"
        keys = self._call("list Things", lambda: list(self._client.scan_iter(match=pattern, count=_CHUNK)))
        return {key.decode()[len(self._things) :] for key in keys}

    def publish(
        self,
        shapes: Mapping[str, Shape],
        slots: Mapping[str, Route],
        things: Mapping[str, Entry],
        removed: Collection[str],
    ) -> None:
        """Make slots exactly `slots`, and add, replace or remove the Things named.

        Shapes before slots before Things, so that a Thing in the registry always has both, even when
        this is cut off anywhere. A registry that was empty can be read only when all of it is there.

        Raises:
            RegistryUnavailable: parts written before stay; doing it all again is safe.
        """
        self._mset("publish shapes", self._shapes, shapes, lambda shape: _form(properties=to_pairs(shape)))
        routes = {id_: _form(queue_url=route.queue_url, lanes=route.lanes) for id_, route in slots.items()}
        for part in chunks(list(routes.items()), _CHUNK):
            self._call("publish slots", self._client.hset, self._slots, mapping=dict(part))
        self._mset(
            "publish Things", self._things, things, lambda entry: _form(slot=entry.slot, shape=entry.shape)
        )
        for names in chunks(sorted(removed), _CHUNK):
            self._call("remove Things", self._client.unlink, *(self._things + name for name in names))
        gone = [
            slot
            for slot in self._call("read slots", self._client.hkeys, self._slots)
            if slot.decode() not in slots
        ]
        if gone:
            self._call("remove slots", self._client.hdel, self._slots, *gone)
        self._call("publish", self._client.set, self._published, _form())

    def _mset(self, what: str, prefix: str, entries: Mapping[str, T], form: Callable[[T], bytes]) -> None:
        # Each part's texts are made when it is written: those of a large fleet are large together.
        for part in chunks(list(entries), _CHUNK):
            self._call(what, self._client.mset, {prefix + name: form(entries[name]) for name in part})

    def _call(self, what: str, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return call(self._client, what, lambda: command(*arguments, **options))


class _Password(CredentialProvider):
    """Gives the password to new connections only, so that it's in no URL and no `repr`."""

    def __init__(self, secret: Secret, username: str | None) -> None:
        self._secret = secret
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._secret.text()
        return (self._username, password) if self._username else (password,)

    def changed(self) -> bool:
        return self._secret.changed()


def call(client: redis.Redis, what: str, command: Callable[[], T]) -> T:
    """Run a command; once more where another connection or a newer password may help.

    After a failover the old primary still answers, as a read-only replica, until it is left.
    """
    try:
        try:
            return command()
        except redis.exceptions.ReadOnlyError:
            client.connection_pool.disconnect()
        except redis.exceptions.AuthenticationError:
            password = client.get_connection_kwargs().get("credential_provider")
            if not isinstance(password, _Password) or not password.changed():
                raise
        return command()
    except (redis.exceptions.RedisError, OSError, BotoCoreError, ClientError) as error:
        raise RegistryUnavailable(f"can't {what}: {type(error).__name__}: {error}") from error


def _secret(arn: str) -> Secret:
    import boto3  # noqa: PLC0415 - a stack without a password needs no client

    return Secret(boto3.client("secretsmanager"), arn)


def _one_of(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def _literal(pattern: str) -> str:
    """Text that a Redis pattern takes as it stands."""
    return "".join(f"\\{char}" if char in "*?[]^\\" else char for char in pattern)


def _form(**content: Any) -> bytes:
    return orjson.dumps({"v": _VERSION} | content)


def _read(kind: str, text: bytes, read: Callable[[Any], T]) -> T:
    try:
        document = orjson.loads(text)
        version, content = document["v"], read(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryLost(f"the registry holds no readable {kind} ({error!r}); run discovery") from error
    if version != _VERSION:
        raise RegistryLost(f"the registry holds a {kind} of version {version!r}; run discovery")
    return content


def _entry(document: dict[str, Any]) -> Entry:
    return Entry(document["slot"], document["shape"])


def _shape(document: dict[str, Any]) -> Shape:
    return shape_from_pairs(document["properties"])


def _route(document: dict[str, Any]) -> Route:
    return Route(document["queue_url"], document["lanes"])
