"""AWS in a process of its own, for benchmarks: moto's DynamoDB and SQS, with the time that real calls take.

Processes reach it over a Unix socket. Each call waits `latency_ms` in a thread of the server before moto
serves it, so that what is measured depends on the number of calls, as on AWS, and not on a function call.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from multiprocessing.managers import BaseManager, RemoteError
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Aws", "RemoteClient"]

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class _Server:
    """Lives in the AWS process."""

    def __init__(self) -> None:
        os.environ.update(_CREDENTIALS)
        mock_aws().start()
        self._sqs = boto3.client("sqs")
        self._clients: dict[str, Any] = {"dynamodb": boto3.client("dynamodb"), "sqs": self._sqs}
        self._producing: threading.Thread | None = None
        self._stop = threading.Event()

    def call(self, service: str, operation: str, arguments: dict[str, Any], seconds: float) -> Any:
        """One call of a client."""
        time.sleep(seconds)
        try:
            answer = getattr(self._clients[service], operation)(**arguments)
        except ClientError as error:
            # Classes made at run time can't be sent to another process.
            raise ClientError(error.response, error.operation_name) from None
        answer.pop("ResponseMetadata", None)
        return answer

    def produce(self, queue_url: str, tick_seconds: float, parcels: Callable[[int], list[Any]]) -> None:
        """Send `parcels(tick)`, a list of (lane, body), every so often from now on."""

        def run() -> None:
            begun = time.monotonic()
            for tick in range(1, 1_000_000):
                for lane, body in parcels(tick):
                    self._sqs.send_message(QueueUrl=queue_url, MessageBody=body, MessageGroupId=lane)
                self.ticks = tick
                if self._stop.wait(max(0.0, begun + tick * tick_seconds - time.monotonic())):
                    return

        self._producing = threading.Thread(target=run, daemon=True)
        self._producing.start()

    def end(self) -> int:
        """Stop producing; how many ticks were sent."""
        self._stop.set()
        if self._producing is not None:
            self._producing.join()
        return self.ticks


class _Manager(BaseManager):
    pass


_SERVER: list[_Server] = []


def _server() -> _Server:
    if not _SERVER:
        _SERVER.append(_Server())
    return _SERVER[0]


_Manager.register("server", callable=_server, exposed=("call", "produce", "end"))


class RemoteClient:
    """A boto3 client in the AWS process."""

    def __init__(self, server: Any, service: str, seconds: float) -> None:
        self._server = server
        self._service = service
        self._seconds = seconds

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The operation of this name."""

        def call(**arguments: Any) -> Any:
            try:
                return self._server.call(self._service, operation, arguments, self._seconds)
            except RemoteError as error:
                raise ConnectionError(str(error)) from error

        return call


class Aws:
    """The AWS process, or a connection to it.

    Args:
        latency_ms: what each call takes beside moto's own time.
        address: of the process; None starts one.
    """

    def __init__(self, latency_ms: float, address: Any = None) -> None:
        self._seconds = latency_ms / 1000
        key = b"benchmark"
        if address is None:
            self._manager = _Manager(authkey=key, ctx=multiprocessing.get_context("spawn"))
            self._manager.start()
        else:
            multiprocessing.current_process().authkey = key
            self._manager = _Manager(address=address, authkey=key)
            self._manager.connect()
        self.address = self._manager.address
        self._server = self._manager.server()  # type: ignore[attr-defined] # registered above

    def client(self, service: str) -> Any:
        """A client of `dynamodb` or `sqs`."""
        return RemoteClient(self._server, service, self._seconds)

    def produce(self, queue_url: str, tick_seconds: float, parcels: Callable[[int], list[Any]]) -> None:
        """Have the process send `parcels(tick)`, a list of (lane, body), every so often; it is pickled."""
        self._server.produce(queue_url, tick_seconds, parcels)

    def stop_producing(self) -> int:
        """How many ticks were sent."""
        return int(self._server.end())

    def shutdown(self) -> None:
        """End the process."""
        self._manager.shutdown()
