"""IoT data plane: GetConnection, what the broker knows of an MQTT client.

Restored behaviour, as the API reference documents it: `connected` with `connectedSince`, or for 30 minutes
after the client has left `disconnectedSince` and `disconnectReason`; ResourceNotFoundException of a client
that is not known, InvalidRequestException of one that can't be; the permission is iot:GetConnection on
`client/{client id}`.
Replaces iot_data.handle_request and iam_actions.extract_resource_arn; uses iot._connected_clients,
_connectivity, _persistent_sessions, _is_session_expired, _now_epoch_millis and _SESSION_EXPIRY_SECONDS.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import iot, iot_data

from . import patching

_PATH = "/connections/"
_LEFT_KNOWN_MS = 30 * 60 * 1000
_LONGEST_ID = 128


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(
        iot,
        *("_connected_clients", "_connectivity", "_persistent_sessions", "_is_session_expired"),
        *("_now_epoch_millis", "_SESSION_EXPIRY_SECONDS"),
    )
    patching.replace(iot_data, "handle_request", _handle_for)
    patching.replace(iam_actions, "extract_resource_arn", _resource_for)


def _handle_for(original: Any) -> Any:
    async def handle(method: str, path: str, headers: dict, body: bytes, query_params: dict) -> tuple:
        if method == "GET" and path.startswith(_PATH):
            return _get_connection(path.removeprefix(_PATH))
        return await original(method, path, headers, body, query_params)

    return handle


def _resource_for(original: Any) -> Any:
    def extract(service: str, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        found = original(service, method, path, *arguments, **options)
        if service == "iot-data" and path.startswith(_PATH):
            return f"arn:aws:iot:{get_region()}:{get_account_id()}:client/{path.removeprefix(_PATH)}"
        return found

    return extract


def _get_connection(client_id: str) -> tuple:
    """The answer for a client; the path comes decoded, and client ids may have slashes."""
    if not 0 < len(client_id) <= _LONGEST_ID or client_id.startswith("$"):
        return error_response_json("InvalidRequestException", "Invalid client ID", 400)
    key = (get_account_id(), get_region(), client_id)
    session, last = iot._connected_clients.get(key), iot._connectivity.get(key)
    if session is not None:
        return json_response(
            {
                "clientId": client_id,
                "connected": True,
                "connectedSince": last["timestamp"],
                "cleanSession": not session._persist_session,
                "sessionExpiry": _expiry(session._session_expiry_interval) if session._persist_session else 0,
            }
        )
    if last is None or iot._now_epoch_millis() - last["timestamp"] > _LEFT_KNOWN_MS:
        return error_response_json("ResourceNotFoundException", "No connection of this client is known", 404)
    stored = iot._persistent_sessions.get(key)
    kept = stored is not None and not iot._is_session_expired(stored)
    return json_response(
        {
            "clientId": client_id,
            "connected": False,
            "disconnectedSince": last["timestamp"],
            "disconnectReason": last["disconnectReason"],
            "cleanSession": not kept,
            "sessionExpiry": _expiry(stored.expiry_interval) if kept else 0,
        }
    )


def _expiry(interval: int | None) -> int:
    return iot._SESSION_EXPIRY_SECONDS if interval is None else interval
