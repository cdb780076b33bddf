"""What a session has to send and to tell: requests with who waits for them, frames, events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shared.errors import WireError
from lambdas.thingworx.alwayson.calls import Answer, Calls, NoAnswer
from lambdas.thingworx.alwayson.codes import EntityType, status_text
from lambdas.thingworx.alwayson.edge import service_request
from lambdas.thingworx.alwayson.events import Broken, Event
from lambdas.thingworx.alwayson.multipart import encode_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from lambdas.thingworx.alwayson.model import Ids, Message

__all__ = ["Outbox", "explained", "lost"]


class Outbox:
    """Frames to send and events to tell, in order.

    Args:
        now: monotonic clock in seconds.

    Attributes:
        calls: requests under way.
        frames: to send.
        events: to tell.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.calls = Calls()
        self.frames: list[bytes] = []
        self.events: list[Event] = []

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            WireError: it has no form on the wire.
        """
        self.frames += encode_message(message)

    def ask(
        self,
        encode: Callable[[Ids], list[bytes]],
        seconds: float,
        then: Callable[[int, Answer], None],
    ) -> int:
        """Send a request.

        Args:
            encode: the request's frames, of its ids.
            seconds: how long to wait for the answer.
            then: called once, with the request id and the answer.

        Returns:
            Its request id.

        Raises:
            WireError: it has no form on the wire; nothing is sent and nobody waits.
        """
        ids = self.calls.begin(seconds, self.now(), then)
        try:
            self.frames += encode(ids)
        except WireError:
            self.calls.forget(ids.request)
            raise
        return ids.request

    def ask_thing(self, thing: str, service: str, seconds: float, then: Callable[[int, Answer], None]) -> int:
        """Call a service without parameters of a Thing; see `ask`."""
        return self.ask(
            lambda ids: encode_message(service_request(ids, EntityType.THINGS, thing, service)), seconds, then
        )

    def drop_connection(self, reason: str) -> None:
        """Tell that the session can't go on over this connection."""
        self.events.append(Broken(reason))


def lost(answer: Answer) -> bool:
    """Whether the connection went; everything begins anew with the next one."""
    return isinstance(answer, NoAnswer) and not answer.timed_out


def explained(answer: Answer) -> str:
    """An answer that isn't success, for people."""
    if isinstance(answer, NoAnswer):
        return answer.reason
    status = status_text(answer.status)
    return f"{status}: {answer.reason}" if answer.reason else status
