"""A session and a platform that talk by hand: no socket, and a clock that only a test moves."""

# ruff: noqa: D102 - names say what happens
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lambdas.thingworx.alwayson.events import Answered, Event
from lambdas.thingworx.alwayson.session import Session
from lambdas.thingworx.alwayson.timeouts import Timeouts
from lambdas.thingworx.infotable import ValueRow
from tests.unit.thingworx.alwayson.peer import KEY, Peer

if TYPE_CHECKING:
    from lambdas.thingworx.alwayson.edge import Edge


def row(time: int, value: Any = 1.5, name: str = "temp") -> ValueRow:
    return ValueRow(name, "NUMBER", value, time)


class Dialogue:
    """Both sides and the wire between them.

    Attributes:
        time: what the session's clock shows.
        events: all events so far.
    """

    def __init__(self, peer: Peer | None = None, *, edge: Edge | None = None) -> None:
        self.peer = peer or Peer()
        self.time = 1000.0
        self.session = Session(Timeouts(), lambda: self.time, edge=edge, jitter=lambda: 0.0)
        self.events: list[Event] = []

    def connect(self, key: str = KEY) -> None:
        """A connection stands; talk until nobody has anything to say."""
        self.peer.connect()
        self.session.connected(key)
        self.talk()

    def talk(self) -> None:
        """Carry frames both ways until nobody has anything to say."""
        while frames := self.session.frames_to_send():
            for frame in frames:
                self.hear(self.peer.handle(frame))
        self.events += self.session.events()

    def hear(self, frames: list[bytes]) -> None:
        """The session receives these."""
        for frame in frames:
            self.session.receive(frame)

    def lose(self) -> None:
        """The connection breaks."""
        self.session.disconnected("cut")
        self.events += self.session.events()

    def wait(self, seconds: float) -> None:
        """Let time pass, as a timer would: each deadline in its turn."""
        end = self.time + seconds
        while (when := self.session.next_deadline()) is not None and when <= end:
            self.time = max(self.time, when)
            self.session.tick()
            self.talk()
        self.time = end

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def answer_to(self, call: int) -> Any:
        """The one answer to a call, or None while there is none."""
        answers = [event.answer for event in self.of(Answered) if event.call == call]
        assert len(answers) <= 1
        return answers[0] if answers else None

    def phase(self, thing: str) -> str:
        found = self.session.thing(thing)
        assert found is not None
        return found.phase.value
