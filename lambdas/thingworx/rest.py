"""ThingWorx's REST API: one service call is one POST with JSON in and an InfoTable out.

Rules it rests on (PTC's REST API pages and public clients): the application key goes in a header,
never in the URL; every POST needs `Content-Type: application/json`; without `Accept` the platform
answers HTML; a refused key may answer 401 or redirect to a login page; a failing service answers 500
with a sentence, so 500 is about the call and not about the server.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import requests
from requests.adapters import HTTPAdapter

from lambdas.shared.errors import ThingworxCallFailed, ThingworxRefused, ThingworxUnavailable
from lambdas.thingworx.infotable import InfoTable

if TYPE_CHECKING:
    from lambdas.shared.secrets import Secret

__all__ = ["RestClient"]

_TRY_LATER = frozenset({408, 425, 429, 502, 503, 504})
_EXCERPT = 300
_MARKUP = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.DOTALL | re.IGNORECASE)
_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    # No server-side session for each call: they would pile up on the platform.
    "x-thingworx-session": "false",
}


class RestClient:
    """Calls services of one platform over kept-alive connections; usable from many threads.

    Args:
        url: `https://host[:port]/Thingworx`; certificates are always verified.
        app_key: the application key.
        timeouts: seconds to connect and seconds between two bytes of the answer.
        connections: how many calls may be under way at once.
    """

    def __init__(
        self, url: str, app_key: Secret, *, timeouts: tuple[float, float], connections: int = 16
    ) -> None:
        self._url = url
        self._app_key = app_key
        self._timeouts = timeouts
        self._session = requests.Session()
        # An explicit no-op: otherwise requests would send credentials it finds in ~/.netrc.
        self._session.auth = _no_auth
        # OpenSSL's own variable, which requests alone does not read: a private authority's bundle.
        self._session.verify = os.environ.get("SSL_CERT_FILE") or True
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.headers.update(_HEADERS)

    def service(
        self, collection: str, entity: str, service: str, parameters: dict[str, Any] | None = None
    ) -> InfoTable | None:
        """Call a service, for example `("Things", "Pump1", "GetPropertyDefinitions", {...})`.

        Returns:
            The result table, or None when the service returns nothing.

        Raises:
            ThingworxUnavailable: no answer, 429, 502, 503 or 504.
            ThingworxRefused: key refused, redirect, HTML or a certificate that can't be verified.
            ThingworxCallFailed: any other status; `status` and `reason` say which.
        """
        path = f"{collection}/{quote(entity, safe='')}/Services/{quote(service, safe='')}"
        body = orjson.dumps(parameters or {})
        answer = self._post(path, body)
        if answer.status_code == requests.codes.unauthorized and self._app_key.changed():
            answer = self._post(path, body)
        return self._table(path, answer)

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._session.close()

    def _post(self, path: str, body: bytes) -> requests.Response:
        try:
            return self._session.post(
                f"{self._url}/{path}",
                data=body,
                headers={"appKey": self._app_key.text()},
                timeout=self._timeouts,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise ThingworxRefused(
                f"{self._url} shows a certificate that can't be verified ({_cause(error)}); "
                "check the host name and the certificate authority"
            ) from error
        except requests.exceptions.RequestException as error:
            raise ThingworxUnavailable(f"no answer from {self._url}: {_cause(error)}") from error

    def _table(self, path: str, answer: requests.Response) -> InfoTable | None:
        status = answer.status_code
        if status == requests.codes.unauthorized:
            raise ThingworxRefused(
                f"{self._url} refuses the application key (401); check that it exists, has not expired "
                "and may be used from here"
            )
        if answer.is_redirect or requests.codes.multiple_choices <= status < requests.codes.bad_request:
            raise ThingworxRefused(
                f"{self._url} redirects ({status}), usually to a login page: the application key is not "
                "accepted there; check thingworx_url and the key"
            )
        if status in _TRY_LATER:
            raise ThingworxUnavailable(f"{self._url} answers {status}: {_excerpt(answer)}")
        if status != requests.codes.ok:
            raise ThingworxCallFailed(status, f"{path}: {_excerpt(answer)}")
        if not answer.content:
            return None
        try:
            return InfoTable.from_json(orjson.loads(answer.content))
        except ValueError as error:
            raise ThingworxRefused(
                f"{self._url} answers {answer.headers.get('Content-Type', 'no content type')} where JSON is "
                f"expected ({_excerpt(answer)}); check that thingworx_url ends in /Thingworx"
            ) from error


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _cause(error: BaseException) -> str:
    """The innermost reason of a requests exception, in words."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    return _cause(reason) if isinstance(reason, BaseException) else f"{type(error).__name__}: {error}"


def _excerpt(answer: requests.Response) -> str:
    """Start of the body without markup: the platform often answers errors as an HTML page."""
    text = re.sub(
        r"<(script|style).*?</\1>|<[^>]+>", " ", answer.text[:20_000], flags=re.DOTALL | re.IGNORECASE
    )
    return " ".join(text.split())[:_EXCERPT] or "empty body"
