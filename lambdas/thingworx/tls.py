"""TLS to ThingWorx: the one place that makes contexts, and that tells what a refused certificate means.

The chain and the host name are verified whatever is asked for. `strict` also asks for what RFC 5280
demands of the certificates' form (key usage, critical basic constraints, key identifiers), by default as
Python does from 3.13 on; here on any Python, so that a platform is accepted everywhere or nowhere.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

__all__ = ["tls_context", "unverifiable"]

#: What OpenSSL reports only where X509_V_FLAG_X509_STRICT is set (openssl/x509_vfy.h: from
#: X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3).
_ONLY_STRICT = range(80, 94)


def tls_context(
    authorities: str, client_certificate: str | None = None, *, strict: bool = True
) -> ssl.SSLContext:
    """A client's context that trusts these authorities and no others.

    Args:
        authorities: PEM file, or folder of them as OpenSSL hashes it.
        client_certificate: PEM file with certificate and key to show.
        strict: False forgives certificates whose form breaks RFC 5280, and nothing else.

    Raises:
        OSError: a file can't be read or holds something else.
    """
    # Asked of the file system, whose errors name the file; OpenSSL's don't.
    folder = stat.S_ISDIR(Path(authorities).stat().st_mode)
    context = ssl.create_default_context(
        cafile=None if folder else authorities, capath=authorities if folder else None
    )
    if strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    else:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client_certificate:
        context.load_cert_chain(client_certificate)
    return context


def unverifiable(url: str, error: ssl.SSLCertVerificationError) -> str:
    """What to tell, and what to do, when the certificate of `url` is refused."""
    shown = f"{url} shows a certificate that can't be verified ({error.verify_message}); "
    if error.verify_code in _ONLY_STRICT:
        return (
            f"{shown}its form breaks RFC 5280: have the authority reissue it, or set tls_strict = false, "
            "which still verifies the chain and the host name"
        )
    return f"{shown}check the host name and the certificate authority"
