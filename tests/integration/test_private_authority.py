"""A platform with a private authority that asks for a client certificate, both taken from secrets."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import trustme

from lambdas.connector import handler
from tests.integration.connector_world import THINGS, connector_world, end, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("delivery", ["alwayson", "rest"])
def test_readings_arrive(delivery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server_pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    server_pem.write_to_path(str(tmp_path / "server.pem"))
    client_pem = authority.issue_cert("connector.example.com").private_key_and_cert_chain_pem
    load = ssl.SSLContext.load_cert_chain

    def asking(self: ssl.SSLContext, certfile: Any, *rest: Any, **options: Any) -> None:
        load(self, certfile, *rest, **options)
        if str(certfile) == str(tmp_path / "server.pem"):
            authority.configure_trust(self)
            self.verify_mode = ssl.CERT_REQUIRED

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", asking)
    with connector_world(tmp_path, monkeypatch, DELIVERY=delivery) as world:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name)
        secrets = boto3.client("secretsmanager")
        for setting, pem in (("CA", authority.cert_pem), ("CLIENT_CERTIFICATE", client_pem)):
            arn = secrets.create_secret(Name=setting, SecretString=pem.bytes().decode())["ARN"]
            monkeypatch.setenv(f"THINGWORX_{setting}_SECRET_ARN", arn)
        handler._settings.cache_clear()
        world.send([1])
        running = world.start("t")
        until(lambda: world.left() == (0, 0))
        assert all(world.times(thing) == [1] for thing in THINGS)
        end(world, running, "t")
