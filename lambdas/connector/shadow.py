"""Device shadows of AWS IoT: what the connector writes for a device, and what the device reports.

Rules of the service are those of its API reference and of the developer guide's pages on shadow
documents and error messages.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.shared.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_iot_data import IoTDataPlaneClient

__all__ = ["MOST_BYTES", "Shadow", "ShadowRefused", "ShadowUnavailable", "is_thing_name", "size_of"]

#: Most of a shadow's desired and reported state together.
MOST_BYTES = 8192

_THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
#: Worth another try: a version conflict (nothing is sent that depends on a version), throttles, faults.
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
_THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})


class ShadowRefused(ConnectorError):  # noqa: N818 - names what happened to the update
    """AWS IoT doesn't take the update, now or later.

    Attributes:
        status: HTTP status.
        reason: for people.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class ShadowUnavailable(ConnectorError):  # noqa: N818 - read as a state, like the SDKs' own
    """AWS IoT didn't take the update now; without an answer it may have."""


def is_thing_name(name: str) -> bool:
    """Whether AWS IoT can have a thing of this name."""
    return _THING_NAME.fullmatch(name) is not None


def size_of(values: Mapping[str, Any]) -> int:
    """Bytes that values take in a shadow's state."""
    return len(orjson.dumps(dict(values)))


class Shadow:
    """Reads and updates one shadow of each thing. Its calls have threads of their own.

    Args:
        client: boto3 client of `iot-data`.
        name: of a named shadow; None for the classic one.
        section: what is updated, `desired` or `reported`.
        threads: calls under way at once.
    """

    def __init__(
        self, client: IoTDataPlaneClient, *, name: str | None, section: str, threads: int = 20
    ) -> None:
        self._client = client
        self._which: dict[str, Any] = {} if name is None else {"shadowName": name}
        self._section = section
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="shadow")
        self._closed = False
        self.threads = threads

    async def update(self, thing: str, values: Mapping[str, Any]) -> None:
        """Set values, by property name; all others of the shadow stay.

        Raises:
            ShadowRefused: AWS IoT doesn't take them.
            ShadowUnavailable: it doesn't now.
        """
        payload = orjson.dumps({"state": {self._section: dict(values)}})
        call = partial(self._client.update_thing_shadow, thingName=thing, payload=payload, **self._which)
        await self._called(thing, call)

    async def reported(self, thing: str) -> dict[str, Any]:
        """What the device reports, by property name; empty when there is no shadow.

        Raises:
            ShadowRefused: AWS IoT doesn't let it be read.
            ShadowUnavailable: it doesn't answer now.
        """
        try:
            answer = await self._called(thing, partial(self._read, thing))
        except ShadowRefused as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:
                return {}
            raise
        return dict(orjson.loads(answer)["state"].get("reported", {}))

    def close(self) -> None:
        """Begin no call any more; those under way are not waited for."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, thing: str) -> bytes:
        return self._client.get_thing_shadow(thingName=thing, **self._which)["payload"].read()

    async def _called(self, thing: str, call: Any) -> Any:
        if self._closed:
            raise ShadowUnavailable("the connector is being replaced")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClientError as error:
            raise _failure(thing, error) from error
        except BotoCoreError as error:
            raise ShadowUnavailable(f"AWS IoT does not answer: {error}") from error


def _failure(thing: str, error: ClientError) -> ConnectorError:
    told = error.response["Error"]
    code, message = told.get("Code", ""), told.get("Message", "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _THROTTLED:
        return ShadowUnavailable(f"AWS IoT: {code} {message}".strip())
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ShadowRefused(status, f"the shadow of {thing} would have more than {MOST_BYTES} bytes")
    if status == HTTPStatus.NOT_FOUND:
        return ShadowRefused(status, f"AWS IoT has no thing or shadow of {thing}: {message}".rstrip(": "))
    return ShadowRefused(status, f"AWS IoT refuses: {code} {message}".strip())
