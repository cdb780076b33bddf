"""Connecting, staying connected, and what each failure means; over real sockets of loopback."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from lambdas.shared.errors import (
    ThingNotServed,
    ThingworxCallFailed,
    ThingworxError,
    ThingworxRefused,
    ThingworxUnavailable,
)
from lambdas.thingworx.alwayson import Bind, Characteristic, Method, Status
from lambdas.thingworx.alwayson.events import Asked, Reply
from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.breaker import Breaker, Tripped
from tests.unit.connector.fakes import until
from tests.unit.thingworx.alwayson.dialogue import row
from tests.unit.thingworx.alwayson.peer import KEY, Peer, subscriptions
from tests.unit.thingworx.alwayson.serving import QUICK, Key, Serving, connected, serving, transport_to
from tests.unit.thingworx.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from lambdas.thingworx.alwayson_transport import AlwaysOnTransport


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(limited())


async def pushed(transport: AlwaysOnTransport, thing: str, time: int) -> None:
    """Push until it succeeds, as a connector does."""
    while True:
        try:
            await transport.push(thing, [row(time)])
        except ThingworxUnavailable:
            await asyncio.sleep(0.001)
        else:
            return


async def failure_of(platform: Serving, key: Key | None = None, **options: Any) -> ThingworxError:
    with pytest.raises(ThingworxError) as caught:
        await transport_to(platform, key, **options).open()
    assert KEY not in str(caught.value)
    return caught.value


def test_the_key_is_in_a_header_and_in_auth_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets").setLevel(logging.DEBUG)

    async def scenario() -> None:
        async with connected() as (platform, transport):
            await transport.push("pump", [row(1)])
        [upgrade] = platform.upgrades
        assert upgrade.path == "/Thingworx/WS"
        assert upgrade.headers["appKey"] == KEY
        assert upgrade.headers["Max-Frame-Size"] == "8192"
        assert "Sec-WebSocket-Extensions" not in upgrade.headers
        assert "Sec-WebSocket-Protocol" not in upgrade.headers
        assert platform.peer.stored == [("pump", "temp", 1, 1.5)]

    run(scenario())
    client = [record for record in caplog.records if "server" not in record.name]
    assert all(KEY not in record.getMessage() for record in client)


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, ThingworxRefused, "refuses the application key"),
        (403, ThingworxRefused, "refuses the application key"),
        (302, ThingworxRefused, "redirects"),
        (404, ThingworxRefused, "thingworx_url"),
        (200, ThingworxRefused, "thingworx_url"),
        (503, ThingworxUnavailable, "503"),
        (429, ThingworxUnavailable, "429"),
    ],
)
def test_what_each_answer_to_the_upgrade_means(status: int, error: type[ThingworxError], says: str) -> None:
    def answer(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(HTTPStatus(status), KEY)
        response.headers["Location"] = "http://127.0.0.1:1/Thingworx/WS"
        return response

    async def scenario() -> None:
        async with serving() as platform:
            platform.answering = answer
            caught = await failure_of(platform)
            assert type(caught) is error
            assert says in str(caught)
            assert len(platform.upgrades) == 1

    run(scenario())


def test_a_closed_port_is_unavailable() -> None:
    async def scenario() -> None:
        async with serving() as platform:
            pass
        assert type(await failure_of(platform)) is ThingworxUnavailable

    run(scenario())


def test_a_key_refused_by_auth_trips_the_breaker_and_the_next_one_does_not_even_connect() -> None:
    async def scenario() -> None:
        async with serving(Peer(key="another")) as platform:
            breaker = Breaker(store := MemoryStore())
            assert type(await failure_of(platform, breaker=breaker)) is ThingworxRefused
            assert store.record is not None
            assert store.record.version == "v1"
            await failure_of(platform, breaker=breaker)
            assert len(platform.upgrades) == 1
            transport = transport_to(platform, Key("another", "v2"), breaker=breaker)
            await transport.open()
            await transport.close()

    run(scenario())


def test_a_breaker_that_can_not_be_asked_keeps_nobody_away() -> None:
    class Broken(MemoryStore):
        def read(self) -> Tripped | None:
            raise ConnectionError("no table")

    async def scenario() -> None:
        async with connected(breaker=Breaker(Broken())) as (platform, transport):
            await transport.push("pump", [row(1)])
            assert platform.peer.stored

    run(scenario())


def test_a_new_key_is_read_for_the_next_connection() -> None:
    async def scenario() -> None:
        key = Key()
        async with connected(key=key) as (platform, transport):
            await pushed(transport, "pump", 1)
            key.text = platform.peer.key = "rotated"
            assert platform.connection
            platform.connection.transport.abort()
            await pushed(transport, "pump", 2)
            assert platform.upgrades[-1].headers["appKey"] == "rotated"

    run(scenario())


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("cut", range(14))
def test_cut_at_any_message_nothing_is_lost_and_nothing_moves(cut: int, taken: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with serving(Peer(mode="legacy" if cut % 2 else "current")) as platform:
            platform.cut, platform.taken = cut, taken
            transport = transport_to(platform)
            while True:
                try:
                    await transport.open()
                    break
                except ThingworxUnavailable:
                    transport = transport_to(platform)

            async def thing(name: str) -> None:
                for time in range(5):
                    await pushed(transport, name, time)

            await asyncio.gather(thing("a"), thing("b"))
            await transport.close()
            for name in ("a", "b"):
                times = [time for stored, _, time, _ in platform.peer.stored if stored == name]
                assert list(dict.fromkeys(times)) == list(range(5))
                assert times == sorted(times)

    run(scenario())


def test_a_push_under_way_when_the_connection_goes_is_unavailable() -> None:
    async def scenario() -> None:
        async with connected() as (platform, transport):
            platform.hold = {"UpdateSubscribed"}
            push = asyncio.create_task(transport.push("pump", [row(1)]))
            await platform.held.wait()
            assert platform.connection
            platform.connection.transport.abort()
            with pytest.raises(ThingworxUnavailable):
                await push
            platform.release.set()

    run(scenario())


def test_a_platform_that_answers_no_ping_is_left_and_connected_to_anew() -> None:
    timeouts = Timeouts(retry_first=0.001, retry_most=0.002, close=0.05, ping=0.02, pong=0.05)

    async def scenario() -> None:
        async with connected(timeouts=timeouts) as (platform, transport):
            await pushed(transport, "pump", 1)
            assert platform.connection
            half_open = platform.connection.transport
            half_open.pause_reading()
            with pytest.raises(ThingworxUnavailable):
                await transport.push("pump", [row(2)])
            await pushed(transport, "pump", 2)
            assert len(platform.upgrades) == 2
            half_open.abort()

    run(scenario())


def test_a_thing_that_is_refused_does_not_keep_others_waiting() -> None:
    async def scenario() -> None:
        async with connected(Peer(invisible={"hidden"})) as (platform, transport):
            transport.bind(["hidden", "pump"])
            await transport.push("pump", [row(1)])
            with pytest.raises(ThingNotServed, match="not visible"):
                await transport.push("hidden", [row(1)])
            platform.peer.invisible.clear()
            transport.retry_parked(["hidden"])
            await transport.push("hidden", [row(1)])

    run(scenario())


def test_a_thing_that_another_connection_has_is_a_failed_call_that_may_be_tried_again() -> None:
    async def scenario() -> None:
        async with connected(Peer(taken={"pump"})) as (platform, transport):
            with pytest.raises(ThingworxCallFailed, match="another connection") as caught:
                await transport.push("pump", [row(1)])
            assert caught.value.status == 409
            assert not isinstance(caught.value, ThingNotServed)
            assert list(transport.parked()) == ["pump"]
            platform.peer.taken.clear()
            transport.retry_parked()
            await transport.push("pump", [row(1)])
            assert not transport.parked()

    run(scenario())


def test_what_happens_in_the_session_is_counted_where_the_caller_wants_it() -> None:
    counters: Counter[str] = Counter()

    async def scenario() -> None:
        async with connected(Peer(invisible={"b"}), counters=counters) as (_, transport):
            transport.bind(["a", "b"])
            with pytest.raises(ThingNotServed):
                await transport.ready("b")

    run(scenario())
    assert counters == {"alwayson_bind_halved": 1, "alwayson_parked": 1}


def test_a_push_waits_for_its_thing_so_long_and_no_longer() -> None:
    timeouts = Timeouts(ready=0.02, close=0.2)

    async def scenario() -> None:
        async with connected(Peer(mode="silent"), timeouts=timeouts) as (_, transport):
            with pytest.raises(ThingworxUnavailable, match="not bound and synchronised"):
                await transport.push("pump", [row(1)])

    run(scenario())


def test_a_thing_that_is_not_synchronised_in_time_is_asked_and_served() -> None:
    timeouts = Timeouts(sync=0.02, ready=5, close=0.2)

    async def scenario() -> None:
        async with connected(Peer(mode="silent"), timeouts=timeouts) as (platform, transport):
            await transport.push("pump", [row(1)])
            assert platform.peer.calls("GetPropertySubscriptions") == ["pump"]

    run(scenario())


def test_a_push_that_waits_for_its_thing_learns_at_once_that_the_connection_is_gone() -> None:
    timeouts = Timeouts(retry_first=1000, retry_most=1000, close=0.2)

    async def scenario() -> None:
        async with connected(Peer(mode="silent"), timeouts=timeouts) as (platform, transport):
            push = asyncio.create_task(transport.push("pump", [row(1)]))
            await until(lambda: bool(platform.peer.bound))
            assert platform.connection
            platform.connection.transport.abort()
            with pytest.raises(ThingworxUnavailable, match="connection lost"):
                await push

    run(scenario())


def test_pauses_begin_anew_after_each_connection_that_was_authenticated() -> None:
    timeouts = Timeouts(retry_first=0.001, retry_most=1000, close=0.2)

    async def scenario() -> None:
        async with connected(timeouts=timeouts) as (platform, transport):
            for time in range(18):  # the eighteenth pause of a row would last a minute
                await pushed(transport, "pump", time)
                assert platform.connection
                platform.connection.transport.abort()
            await pushed(transport, "pump", 18)

    run(scenario())


def test_a_thing_unbound_while_a_push_waits_for_it_is_not_served() -> None:
    async def scenario() -> None:
        async with connected(Peer(mode="silent")) as (platform, transport):
            push = asyncio.create_task(transport.push("pump", [row(1)]))
            await until(lambda: bool(platform.peer.bound))
            transport.unbind(["pump"])
            with pytest.raises(ThingNotServed):
                await push

    run(scenario())


def test_closing_says_goodbye_without_unbind_and_fails_what_waits() -> None:
    async def scenario() -> None:
        async with connected() as (platform, transport):
            await transport.push("pump", [row(1)])
            platform.hold = {"UpdateSubscribed"}
            push = asyncio.create_task(transport.push("pump", [row(2)]))
            await platform.held.wait()
            closing = asyncio.create_task(transport.close())
            with pytest.raises(ThingworxUnavailable):
                await push
            platform.release.set()
            await closing
        assert platform.closed == [(1000, "Normal Close")]
        assert not [m for m in platform.peer.heard if isinstance(m, Bind) and m.method is Method.UNBIND]
        with pytest.raises(ThingworxUnavailable):
            await transport.push("pump", [row(3)])

    run(scenario())


def test_requests_of_the_platform_are_answered_by_whoever_takes_them() -> None:
    peer = Peer(default=subscriptions(temp="ALWAYS"))

    async def answer(asked: Asked) -> Reply:
        if asked.request.target == "broken":
            raise ValueError("as told")
        return Reply(Status.NOT_FOUND, f"{asked.request.method.name} {asked.thing}.{asked.request.target}")

    async def scenario() -> None:
        async with connected(peer) as (platform, transport):
            await transport.push("pump", [row(1, 2.5)])
            targets = [(Method.GET, "temp"), (Method.PUT, "temp"), (Method.GET, "broken")]
            for method, target in targets[:1]:
                await platform.say(peer.request(method, "pump", Characteristic.PROPERTIES, target))
            await until(lambda: len(peer.replies) == 3)
            transport.handler = answer
            for method, target in targets:
                await platform.say(peer.request(method, "pump", Characteristic.PROPERTIES, target))
            await until(lambda: len(peer.replies) == 6)
        nobody, *others = list(peer.replies.values())[2:]
        assert nobody.status == Status.METHOD_NOT_ALLOWED
        assert {(reply.status, reply.reason) for reply in others} == {
            (Status.NOT_FOUND, "GET pump.temp"),
            (Status.NOT_FOUND, "PUT pump.temp"),
            (Status.INTERNAL_ERROR, "ValueError: as told"),
        }

    run(scenario())


def test_what_was_just_answered_is_sent_before_the_connection_is_closed() -> None:
    peer = Peer(default=subscriptions(temp="ALWAYS"))
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(_: Asked) -> Reply:
        asked.set()
        await go.wait()
        return Reply(Status.SUCCESS)

    async def scenario() -> None:
        async with connected(peer) as (platform, transport):
            await transport.push("pump", [row(1, 2.5)])
            transport.handler = answer
            await platform.say(peer.request(Method.PUT, "pump", Characteristic.PROPERTIES, "temp"))
            await asked.wait()
            before = len(peer.replies)
            go.set()
            await transport.close()
            await until(lambda: len(peer.replies) == before + 1)

    run(scenario())


class Certificates:
    """An authority, the platform's certificate and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.server)
        self.authority.configure_trust(self.server)
        self.client = str(folder / "client.pem")
        self.authority.issue_cert("connector").private_key_and_cert_chain_pem.write_to_path(self.client)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_a_private_authority_may_be_trusted_by_file_or_by_environment(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(**options: Any) -> None:
        async with serving(tls=certificates.server) as platform:
            transport = transport_to(platform, url=platform.url.replace("http", "https"), **options)
            await transport.open()
            await transport.push("pump", [row(1)])
            await transport.close()

    run(scenario(ca_file=certificates.ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    run(scenario())


def test_a_certificate_that_can_not_be_verified_is_refused_before_the_key_is_sent(
    certificates: Certificates,
) -> None:
    async def scenario() -> None:
        async with serving(tls=certificates.server) as platform:
            caught = await failure_of(platform, url=platform.url.replace("http", "https"))
            assert type(caught) is ThingworxRefused
            assert "certificate" in str(caught)
            assert not platform.upgrades

    run(scenario())


def test_a_client_certificate_is_shown_where_it_is_asked_for(certificates: Certificates) -> None:
    certificates.server.verify_mode = ssl.CERT_REQUIRED

    async def scenario() -> None:
        async with serving(tls=certificates.server) as platform:
            url = platform.url.replace("http", "https")
            caught = await failure_of(platform, url=url, ca_file=certificates.ca_file)
            assert type(caught) is ThingworxUnavailable
            transport = transport_to(
                platform, url=url, ca_file=certificates.ca_file, client_certificate=certificates.client
            )
            await transport.open()
            await transport.close()

    run(scenario())


def test_a_certificate_file_that_is_not_there_needs_a_person(certificates: Certificates) -> None:
    async def scenario() -> None:
        async with serving(tls=certificates.server) as platform:
            url = platform.url.replace("http", "https")
            caught = await failure_of(platform, url=url, ca_file=f"{certificates.ca_file}.gone")
            assert type(caught) is ThingworxRefused

    run(scenario())


def test_the_proxy_of_the_environment_is_used_and_its_password_told_to_nobody(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        port = int(head.split(b"\r\n")[0].split()[1].rsplit(b":", 1)[1])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)

    async def scenario() -> None:
        async with serving(tls=certificates.server) as platform:
            proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://user:proxy-password@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            url = platform.url.replace("http", "https")
            transport = transport_to(platform, url=url, ca_file=certificates.ca_file)
            await transport.open()
            await transport.close()
            assert asked[0].startswith(b"CONNECT 127.0.0.1:")
            assert KEY.encode() not in asked[0]
            proxy.close()
            monkeypatch.setenv("https_proxy", "ftp://user:proxy-password@nowhere")
            caught = await failure_of(platform, url=url, ca_file=certificates.ca_file)
            assert type(caught) is ThingworxRefused
            assert "proxy-password" not in str(caught)

    run(scenario())


def test_frames_of_a_thousand_things_are_taken_without_a_gap() -> None:
    async def scenario() -> None:
        async with connected(timeouts=QUICK) as (platform, transport):
            names = [f"pump-{number}" for number in range(1000)]
            transport.bind(names)
            await asyncio.gather(*(transport.push(name, [row(1)]) for name in names))
            assert {name for name, *_ in platform.peer.stored} == set(names)

    run(scenario())
