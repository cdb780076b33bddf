"""Devices: MQTT clients over verified TLS, through a real client library."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from paho.mqtt.client import MQTTMessage

__all__ = ["Device"]

_SECONDS = 15.0


class Device:
    """One device; its client id is its Thing's name. A context manager that connects.

    Args:
        name: client id.
        endpoint: host and port of the MQTT broker.
        context: TLS context that verifies the broker.
    """

    def __init__(self, name: str, endpoint: tuple[str, int], context: ssl.SSLContext) -> None:
        self.name = name
        self._endpoint = endpoint
        self._connected = threading.Event()
        self._subscribed = threading.Event()
        self._received: dict[str, list[Any]] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv311)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take

    def __enter__(self) -> Self:
        host, port = self._endpoint
        self._client.connect(host, port, keepalive=60)
        self._client.loop_start()
        if not self._connected.wait(_SECONDS):
            raise TimeoutError(f"{self.name} could not connect to {host}:{port}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def delta_topic(self) -> str:
        """Where AWS IoT tells the device what its shadow wants that it hasn't reported."""
        return f"$aws/things/{self.name}/shadow/update/delta"

    def subscribe(self, topic: str) -> None:
        """Take messages of `topic` from now on."""
        self._subscribed.clear()
        self._client.subscribe(topic, qos=1)
        if not self._subscribed.wait(_SECONDS):
            raise TimeoutError(f"{self.name} could not subscribe to {topic}")

    def received(self, topic: str) -> list[Any]:
        """Messages of `topic` so far, as parsed from JSON."""
        return list(self._received.get(topic, ()))

    def _take(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._received.setdefault(message.topic, []).append(json.loads(message.payload))

    def publish(self, topic: str, payload: dict[str, Any] | bytes) -> tuple[int, int]:
        """Publish with QoS 1 and wait for the broker's acknowledgement.

        Args:
            topic: MQTT topic.
            payload: sent as JSON, bytes as they are.

        Returns:
            Milliseconds since 1970 before the call and after the acknowledgement.
        """
        before = int(time.time() * 1000)
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, body, qos=1).wait_for_publish(_SECONDS)
        return before, int(time.time() * 1000)
