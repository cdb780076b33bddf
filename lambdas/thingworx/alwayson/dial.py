"""A WebSocket to the platform: TLS, proxy, key, and what each failure means."""

from __future__ import annotations

import logging
import os
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidProxyStatus, InvalidStatus

from lambdas.shared.errors import ThingworxError, ThingworxRefused, ThingworxUnavailable
from lambdas.thingworx.alwayson.multipart import CHUNK_SIZE, MAX_MESSAGE_SIZE
from lambdas.thingworx.breaker import KeyRefused
from lambdas.thingworx.tls import tls_context, unverifiable

if TYPE_CHECKING:
    from lambdas.thingworx.alwayson.timeouts import Timeouts

__all__ = ["Dialer"]

_TRY_LATER = frozenset({408, 425, 429, 502, 503, 504})
_KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: Frames that wait to be taken before the socket is not read any more: at most 2 MiB of them.
_QUEUED_FRAMES = 256
#: Never at DEBUG, whatever the root logger says: the library would log the header with the key.
_QUIET = logging.getLogger("thingworx.websocket")
_QUIET.setLevel(logging.WARNING)


class _Connect(connect):
    """Follows no redirect: the header with the key would go wherever it points."""

    def process_redirect(self, exc: Exception) -> Exception:
        """The error as it is."""
        return exc


class Dialer:
    """Connects; certificates are always verified. `https_proxy` and `no_proxy` are honoured.

    Args:
        url: `https://host[:port]/Thingworx`; `http` only where there is nothing to protect.
        timeouts: how long to wait for what.
        ca_file: authorities to trust, instead of SSL_CERT_FILE's, instead of the public ones.
        client_certificate: PEM file with certificate and key, where the platform asks for one.
        tls_strict: False forgives certificates whose form breaks RFC 5280.
    """

    def __init__(
        self,
        url: str,
        timeouts: Timeouts,
        *,
        ca_file: str | None = None,
        client_certificate: str | None = None,
        tls_strict: bool = True,
    ) -> None:
        self._shown = url
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        scheme = "wss" if self._secure else "ws"
        self._url = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/WS"
        self._timeouts = timeouts
        self._ca_file = ca_file
        self._client_certificate = client_certificate
        self._strict = tls_strict
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, app_key: str) -> ClientConnection:
        """A connection over which nothing has been said yet.

        Raises:
            KeyRefused: the key is refused at the upgrade already.
            ThingworxRefused: URL, certificate or proxy are wrong.
            ThingworxUnavailable: no connection now.
        """
        try:
            return await _Connect(
                self._url,
                ssl=self._context() if self._secure else None,
                # AlwaysOn has chunks of its own, and telemetry of doubles compresses badly.
                compression=None,
                additional_headers={"appKey": app_key, "Max-Frame-Size": str(CHUNK_SIZE)},
                user_agent_header="thingworx-iot-connector",
                open_timeout=self._timeouts.connect,
                ping_interval=self._timeouts.ping,
                ping_timeout=self._timeouts.pong,
                close_timeout=self._timeouts.close,
                max_size=MAX_MESSAGE_SIZE,
                max_queue=_QUEUED_FRAMES,
                logger=_QUIET,
            )
        except (OSError, InvalidHandshake, InvalidProxy, EOFError) as error:
            # `from None`: what the library says may repeat headers or the proxy's password.
            raise self._meaning(error) from None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            authorities = self._ca_file or os.environ.get("SSL_CERT_FILE") or certifi.where()
            self._tls = tls_context(authorities, self._client_certificate, strict=self._strict)
        return self._tls

    def _meaning(self, error: Exception) -> ThingworxError:
        """What a failure to connect means: the one place that decides it."""
        match error:
            case InvalidStatus():
                return self._answered(error.response.status_code)
            case InvalidProxyStatus() if error.response.status_code not in _TRY_LATER:
                return ThingworxRefused(
                    f"the proxy answers {error.response.status_code}; check https_proxy and what it lets pass"
                )
            case InvalidProxy():
                return ThingworxRefused("https_proxy is no proxy's URL")
            case ssl.SSLCertVerificationError():
                return ThingworxRefused(unverifiable(self._shown, error))
            case FileNotFoundError() | PermissionError():
                return ThingworxRefused(f"certificates can't be read: {error}")
            case _:
                return ThingworxUnavailable(
                    f"no connection to {self._shown}: {type(error).__name__}: {error}"
                )

    def _answered(self, status: int) -> ThingworxError:
        if status in _KEY_REFUSED:
            return KeyRefused(
                f"{self._shown} refuses the application key ({status}); check that it exists, has not "
                "expired and may be used from here"
            )
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return KeyRefused(
                f"{self._shown} redirects ({status}), usually to a login page: the application key is not "
                "accepted there; check thingworx_url and the key"
            )
        if status in _TRY_LATER or status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return ThingworxUnavailable(f"{self._shown} answers {status} to the WebSocket upgrade")
        return ThingworxRefused(
            f"{self._shown} answers {status} to the WebSocket upgrade; check that thingworx_url ends in "
            "/Thingworx and that what stands before the platform lets WebSockets pass"
        )
