"""What is remembered of MQTT clients, in a real Valkey."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdas.shared.client_state import NOTHING_KNOWN, ClientState, KnownClient
from lambdas.shared.clients import MOST_THINGS, Clients
from lambdas.shared.errors import RegistryUnavailable
from lambdas.shared.registry import connect
from sandbox.redis_server import valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

DAY = 86_400
ON = ClientState(connected=True, time=1_767_268_800_000, version=3)


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    with valkey_server() as valkey:
        url = f"redis://127.0.0.1:{valkey.port}/0"
        client = connect(cast("Any", SimpleNamespace(redis_url=url, redis_auth_secret_arn=None)))
        yield client
        client.close()


class Clock:
    """Seconds since 1970 that stand until they are moved."""

    now = 1_767_268_800.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clients(server: redis.Redis, clock: Clock) -> Clients:
    server.flushall()
    return Clients(server, "demo", clock)


def test_nothing_is_known_of_a_new_client(clients: Clients) -> None:
    assert clients.read(["stranger"]) == {"stranger": NOTHING_KNOWN}
    assert clients.read([]) == {}


def test_what_is_noted_is_remembered_under_the_stacks_name(server: redis.Redis, clients: Clients) -> None:
    clients.write({"gateway": ["pump-2", "pump-1"]}, {"stranger": ON})
    clients.write({"gateway": ["pump-3"]}, {})
    assert clients.read(["gateway", "stranger"]) == {
        "gateway": KnownClient(["pump-1", "pump-2", "pump-3"], None),
        "stranger": KnownClient([], ON),
    }
    assert set(server.keys()) == {b"demo:gateway:gateway", b"demo:presence:stranger"}
    assert Clients(server, "other").read(["gateway"]) == {"gateway": NOTHING_KNOWN}


def test_all_of_it_expires(server: redis.Redis, clients: Clients) -> None:
    clients.write({"gateway": ["pump-1"]}, {"stranger": ON})
    assert DAY - 5 < server.ttl("demo:presence:stranger") <= DAY
    assert 7 * DAY - 5 < server.ttl("demo:gateway:gateway") <= 7 * DAY
    server.expire("demo:gateway:gateway", 10)
    clients.write({"gateway": ["pump-1"]}, {})
    assert server.ttl("demo:gateway:gateway") > 10


def test_a_thing_that_a_gateway_no_longer_speaks_for_is_forgotten_after_a_week(
    clients: Clients, clock: Clock
) -> None:
    clients.write({"gateway": ["moved", "stays"]}, {})
    clock.now += 6 * DAY
    clients.write({"gateway": ["stays"]}, {})
    assert clients.read(["gateway"])["gateway"].things == ["moved", "stays"]
    clock.now += DAY
    clients.write({"gateway": ["stays"]}, {})
    assert clients.read(["gateway"])["gateway"].things == ["stays"]


def test_of_more_things_than_fit_the_ones_noted_last_are_remembered(clients: Clients, clock: Clock) -> None:
    clients.write({"gateway": [f"old-{n}" for n in range(10)]}, {})
    clock.now += 1
    newer = sorted(f"new-{n}" for n in range(MOST_THINGS - 5))
    clients.write({"gateway": newer}, {})
    things = clients.read(["gateway"])["gateway"].things
    assert len(things) == MOST_THINGS
    assert set(newer) < set(things)


def test_a_thousand_clients_are_read_and_noted_in_four_round_trips(
    server: redis.Redis, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = []
    pipeline = server.pipeline

    def counted(*, transaction: bool) -> Any:
        trips.append(transaction)
        return pipeline(transaction=transaction)

    monkeypatch.setattr(server, "pipeline", counted)
    names = [f"client-{n}" for n in range(1000)]
    clients.write({}, dict.fromkeys(names, ON))
    assert clients.read(names) == dict.fromkeys(names, KnownClient([], ON))
    assert trips == [False] * 4


def test_a_state_of_another_release_is_as_good_as_none(server: redis.Redis, clients: Clients) -> None:
    server.set("demo:presence:stranger", b'{"v":2}')
    assert clients.read(["stranger"]) == {"stranger": NOTHING_KNOWN}


def test_a_stopped_redis_is_an_unavailable_registry() -> None:
    with valkey_server() as valkey:
        url = f"redis://127.0.0.1:{valkey.port}/0"
        client = connect(cast("Any", SimpleNamespace(redis_url=url, redis_auth_secret_arn=None)))
    clients = Clients(client, "demo")
    with pytest.raises(RegistryUnavailable, match="read clients"):
        clients.read(["gateway"])
    with pytest.raises(RegistryUnavailable, match="note clients"):
        clients.write({"gateway": ["pump-1"]}, {})
    client.close()


names = st.text(min_size=1, max_size=12)
states = st.builds(ClientState, st.booleans(), st.integers(0, 10**13), st.integers(0, 2**53))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, st.sets(names, min_size=1, max_size=4)), st.dictionaries(names, states))
def test_any_names_and_states_come_back_as_they_went_in(
    server: redis.Redis, clients: Clients, spoke: dict[str, set[str]], noted: dict[str, ClientState]
) -> None:
    server.flushall()
    clients.write(spoke, noted)
    everyone = spoke.keys() | noted.keys()
    assert clients.read(everyone) == {
        name: KnownClient(sorted(spoke.get(name, ())), noted.get(name)) for name in everyone
    }
