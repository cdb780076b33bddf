"""ThingWorx's REST API: one service call is one POST with JSON in and an InfoTable out.

Rules it rests on (PTC's REST API pages and public clients): the application key goes in a header,
never in the URL; every POST needs `Content-Type: application/json`; without `Accept` the platform
answers HTML; a refused key may answer 401 or redirect to a login page; a failing service answers 500
with a sentence, so 500 is about the call and not about the server.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import certifi
import orjson
import requests
import urllib3
from botocore.exceptions import BotoCoreError, ClientError
from requests.adapters import HTTPAdapter

from lambdas.shared.errors import ThingworxCallFailed, ThingworxRefused, ThingworxUnavailable
from lambdas.thingworx.infotable import InfoTable
from lambdas.thingworx.tls import tls_context, unverifiable
from lambdas.thingworx.transport import unchecked

if TYPE_CHECKING:
    from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool

    from lambdas.shared.secrets import Secret
    from lambdas.thingworx.transport import Check

__all__ = ["RestClient"]

_TRY_LATER = frozenset({408, 425, 429, 502, 503, 504})
_EXCERPT = 300
_EXCERPT_BYTES = 20_000
_KEY = re.compile(r"[!-~]+")  # what a header can carry without being folded or encoded
_MARKUP = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.DOTALL | re.IGNORECASE)
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Content-Type": "application/json",
    # No server-side session for each call: they would pile up on the platform.
    "x-thingworx-session": "false",
}


class _Adapter(HTTPAdapter):
    """The pools of requests, with a TLS context made elsewhere.

    Args:
        context: of every connection, through a proxy too.
        connections: how many are kept.
    """

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=connections)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As the base class's."""
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """As the base class's."""
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)


class RestClient:
    """Calls services of one platform over kept-alive connections; usable from many threads.

    Args:
        url: `https://host[:port]/Thingworx`; certificates are always verified.
        app_key: the application key.
        timeouts: seconds to connect and seconds between two bytes of the answer.
        connections: how many calls may be under way at once.
        ca_file: authorities to trust instead of SSL_CERT_FILE's, instead of the public ones.
        client_certificate: PEM file with certificate and key, where the platform asks for one.
        tls_strict: False forgives certificates whose form breaks RFC 5280.
    """

    def __init__(
        self,
        url: str,
        app_key: Secret,
        *,
        timeouts: tuple[float, float],
        connections: int = 16,
        ca_file: str | None = None,
        client_certificate: str | None = None,
        tls_strict: bool = True,
    ) -> None:
        self._url = url
        self._app_key = app_key
        self._timeout = urllib3.Timeout(*timeouts)
        # Only asked for what requests reads from the environment: authorities and proxies. Calls go
        # straight to its pool of connections, which takes less than half of the time, and knows neither
        # cookies nor ~/.netrc.
        self._session = requests.Session()
        # OpenSSL's own variable, which requests alone does not read: a private authority's bundle.
        self._session.verify = os.environ.get("SSL_CERT_FILE") or True
        # With each call: the variables that requests does read would overrule the session's own.
        self._ca_file = ca_file
        self._client_certificate = client_certificate
        self._strict = tls_strict
        self._connections_at_once = connections
        self._making = threading.Lock()
        self._adapter: _Adapter | None = None
        self._pool: ConnectionPool | None = None
        self._path = urlsplit(url).path

    def service(
        self,
        collection: str,
        entity: str,
        service: str,
        parameters: dict[str, Any] | None = None,
        check: Check = unchecked,
    ) -> InfoTable | None:
        """Call a service, for example `("Things", "Pump1", "GetPropertyDefinitions", {...})`.

        Returns:
            The result table, or None when the service returns nothing.

        Raises:
            Exception: what `check` raises.
            ThingworxUnavailable: no answer, 429, 502, 503 or 504.
            ThingworxRefused: key refused, redirect, HTML or a certificate that can't be verified.
            ThingworxCallFailed: any other status; `status` and `reason` say which.
        """
        path = f"{collection}/{quote(entity, safe='')}/Services/{quote(service, safe='')}"
        body = orjson.dumps(parameters or {})
        key = self._key()
        check()
        answer = self._post(path, body, key)
        if answer.status == requests.codes.unauthorized:
            refused, key = key, self._key(again=True)
            if key != refused:
                check()
                answer = self._post(path, body, key)
        return self._table(path, answer, key)

    def close(self) -> None:
        """Close the kept-alive connections."""
        if self._adapter is not None:
            self._adapter.close()

    def _key(self, *, again: bool = False) -> str:
        try:
            if again:
                self._app_key.changed()
            key = self._app_key.text()
        except (ClientError, BotoCoreError) as error:
            raise ThingworxUnavailable(f"the application key can't be read: {error}") from error
        except KeyError:
            raise ThingworxRefused(
                f"{self._app_key!r} holds no text; it must be the application key"
            ) from None
        if not _KEY.fullmatch(key):
            raise ThingworxRefused(
                f"{self._app_key!r} is no application key: one word of printable ASCII characters is expected"
            )
        return key

    def _post(self, path: str, body: bytes, key: str) -> urllib3.BaseHTTPResponse:
        try:
            return self._connections().urlopen(
                "POST",
                f"{self._path}/{path}",
                body=body,
                headers={**_HEADERS, "appKey": key},
                timeout=self._timeout,
                redirect=False,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, requests.exceptions.RequestException) as error:
            cause = _innermost(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ThingworxRefused(unverifiable(self._url, cause)) from error
            raise ThingworxUnavailable(
                f"no answer from {self._url}: {type(cause).__name__}: {cause}"
            ) from error
        except OSError as error:  # a certificate bundle that is not there
            raise ThingworxRefused(f"{self._url} can't be called: {error}") from error

    def _connections(self) -> HTTPConnectionPool:
        """The pool that requests would use: with its rules for authorities and proxy, and our TLS."""
        with self._making:
            if self._pool is None:
                self._pool = self._make_pool()
        return cast("HTTPConnectionPool", self._pool)

    def _make_pool(self) -> ConnectionPool:
        asked = requests.Request("POST", self._url).prepare()
        rules = self._session.merge_environment_settings(self._url, {}, None, self._ca_file, None)
        verify = rules["verify"]
        authorities = verify if isinstance(verify, str) else certifi.where()
        context = tls_context(authorities, self._client_certificate, strict=self._strict)
        self._adapter = _Adapter(context, self._connections_at_once)
        return self._adapter.get_connection_with_tls_context(asked, verify=True, proxies=rules["proxies"])

    def _table(self, path: str, answer: urllib3.BaseHTTPResponse, key: str) -> InfoTable | None:
        status = answer.status
        if status == requests.codes.unauthorized:
            raise ThingworxRefused(
                f"{self._url} refuses the application key (401); check that it exists, has not expired "
                "and may be used from here"
            )
        if requests.codes.multiple_choices <= status < requests.codes.bad_request:
            raise ThingworxRefused(
                f"{self._url} redirects ({status}), usually to a login page: the application key is not "
                "accepted there; check thingworx_url and the key"
            )
        if status in _TRY_LATER:
            raise ThingworxUnavailable(f"{self._url} answers {status}: {_excerpt(answer, key)}")
        if status != requests.codes.ok:
            raise ThingworxCallFailed(status, f"{path}: {_excerpt(answer, key)}")
        if not answer.data:
            return None
        try:
            return InfoTable.from_json(orjson.loads(answer.data))
        except ValueError as error:
            raise ThingworxRefused(
                f"{self._url} answers {answer.headers.get('Content-Type', 'no content type')} where JSON is "
                f"expected ({_excerpt(answer, key)}); check that thingworx_url ends in /Thingworx"
            ) from error


def _innermost(error: BaseException) -> BaseException:
    """What was wrong in the end, below the wrappings of requests and urllib3."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _excerpt(answer: urllib3.BaseHTTPResponse, key: str) -> str:
    """Start of the body without markup: the platform often answers errors as an HTML page."""
    text = answer.data[:_EXCERPT_BYTES].decode("utf-8", "replace").replace(key, "(application key)")
    return " ".join(_MARKUP.sub(" ", text).split())[:_EXCERPT] or "empty body"
