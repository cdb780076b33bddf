"""A certificate authority for one sandbox, made on the spot and never trusted by the machine."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import trustme

__all__ = ["Certificates", "make_certificates"]

HOST = "localhost"


class Certificates(NamedTuple):
    """Files of one authority, PEM.

    Attributes:
        bundle: the authority beside everything this machine trusts already.
        chain: certificate chain of `localhost`.
        key: its private key.
    """

    bundle: Path
    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """TLS context of a server on `localhost`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Write a new authority and a certificate for `localhost` and 127.0.0.1 into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Certificates(folder / "bundle.pem", folder / "server.pem", folder / "server.key")
    authority = trustme.CA()
    server = authority.issue_cert(HOST, "127.0.0.1")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    files.key.touch(mode=0o600)
    files.key.write_bytes(server.private_key_pem.bytes())
    system = ssl.get_default_verify_paths().cafile
    known = Path(system).read_bytes() if system else b""
    files.bundle.write_bytes(authority.cert_pem.bytes() + known)
    return files
