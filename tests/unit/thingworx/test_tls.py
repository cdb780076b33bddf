"""One context for all that talks to ThingWorx: strict by choice, verified always."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
import trustme

from lambdas.shared.errors import ThingworxRefused
from lambdas.shared.secrets import Secret
from lambdas.thingworx.alwayson.dial import Dialer
from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.rest import RestClient
from lambdas.thingworx.tls import tls_context
from tests.unit.thingworx.alwayson.serving import serving
from tests.unit.thingworx.answering import Answer, answering
from tests.unit.thingworx.private_authority import LaxAuthority

if TYPE_CHECKING:
    from collections.abc import Callable

LAMBDAS = Path(__file__).parents[3] / "lambdas"


class Key(NamedTuple):
    """Secrets Manager with one key."""

    def get_secret_value(self, **_: str) -> dict[str, str]:
        """As boto3's."""
        return {"SecretString": "k"}


def over_rest(server: ssl.SSLContext, **options: Any) -> None:
    with answering(lambda _: Answer(), server) as platform:
        secret = Secret(cast("Any", Key()), "arn:aws:secretsmanager:us-east-1:123456789012:secret:k")
        client = RestClient(platform.url, secret, timeouts=(5, 5), **options)
        with contextlib.closing(client):
            client.service("Things", "Pump1", "Update")


def over_alwayson(server: ssl.SSLContext, **options: Any) -> None:
    async def scenario() -> None:
        async with serving(tls=server) as platform:
            dial = Dialer(platform.url.replace("http", "https"), Timeouts(), **options)
            connection = await dial("k")
            await connection.close()

    asyncio.run(scenario())


WAYS = pytest.mark.parametrize("call", [over_rest, over_alwayson])


@WAYS
def test_a_lax_authority_is_refused_with_the_way_out(call: Callable[..., None], tmp_path: Path) -> None:
    lax = LaxAuthority(tmp_path)
    with pytest.raises(ThingworxRefused, match=r"breaks RFC 5280.*tls_strict = false"):
        call(lax.server(), ca_file=lax.ca_file)


@WAYS
def test_a_lax_authority_is_taken_where_strictness_is_off(call: Callable[..., None], tmp_path: Path) -> None:
    lax = LaxAuthority(tmp_path)
    call(lax.server(), ca_file=lax.ca_file, tls_strict=False)


@WAYS
def test_another_authority_is_refused_all_the_same(call: Callable[..., None], tmp_path: Path) -> None:
    lax = LaxAuthority(tmp_path)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(ThingworxRefused, match="check the host name and the certificate authority"):
        call(lax.server(), ca_file=str(tmp_path / "other.pem"), tls_strict=False)


@WAYS
def test_another_host_is_refused_all_the_same(call: Callable[..., None], tmp_path: Path) -> None:
    lax = LaxAuthority(tmp_path)
    with pytest.raises(ThingworxRefused, match="check the host name"):
        call(lax.server("127.0.0.2"), ca_file=lax.ca_file, tls_strict=False)


@pytest.mark.parametrize("strict", [True, False])
def test_the_flag_is_all_that_strictness_changes(strict: bool, tmp_path: Path) -> None:  # noqa: FBT001
    lax = LaxAuthority(tmp_path)
    made, plain = tls_context(lax.ca_file, strict=strict), ssl.create_default_context(cafile=lax.ca_file)
    assert bool(made.verify_flags & ssl.VERIFY_X509_STRICT) is strict
    rest = ~ssl.VERIFY_X509_STRICT
    assert made.verify_flags & rest == plain.verify_flags & rest
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(made.get_ca_certs()) == 1


def test_a_folder_of_authorities_is_taken_too(tmp_path: Path) -> None:
    assert tls_context(str(tmp_path)).verify_mode is ssl.CERT_REQUIRED


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pem"):
        tls_context(str(tmp_path / "gone.pem"))


def test_no_other_part_makes_contexts_for_connections() -> None:
    makes = re.compile(r"create_default_context|SSLContext\(|_create_unverified|verify_mode|check_hostname")
    found = {
        path.relative_to(LAMBDAS).as_posix()
        for path in LAMBDAS.rglob("*.py")
        if makes.search(path.read_text())
    }
    # The second one only tries whether what secrets hold can be read.
    assert found == {"thingworx/tls.py", "thingworx/certificates.py"}
