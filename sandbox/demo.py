"""`make demo`: the whole product on this machine, from `terraform apply` to values in ThingWorx.

Thirty Things at ten a slot, one of them the `MyTestDevice1` of the post-deployment test of the system
this product replaces. Devices publish over MQTT until every slot has been handed over to a new
connector; then each promise is checked against what ThingWorx and AWS themselves show.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.observe import Observer, Write
from sandbox.stack import Sandbox
from sandbox.thingworx.model import remote_property

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from sandbox.devices import Device

__all__ = ["Check", "run_demo"]

THINGS = 30
THINGS_PER_SLOT = 10
SLOTS = THINGS // THINGS_PER_SLOT
TOPIC = "/sample/topic"
TEST_DEVICE = "MyTestDevice1"
TEST_PAYLOAD = {"temp": 10, "waterLevel": 12, "state": "reporting"}
WRITTEN = 21.5
MALFORMED = b'{"temp": 10, "waterLevel": '
_HANDOVER_SECONDS = 120.0
_ARRIVAL_SECONDS = 60.0
_PRESENCE_SECONDS = 60.0


class Check(NamedTuple):
    """One line of the closing table."""

    what: str
    expected: Any
    seen: Any

    @property
    def holds(self) -> bool:
        """Whether what was seen is what was expected."""
        return bool(self.expected == self.seen)


class _Seen(NamedTuple):
    """What was seen on the way, for the closing table.

    Attributes:
        discovery: status of the run started by hand.
        running: connector executions.
        before: Things shown as connected before their devices connected.
        connected: the same while they were.
        after: the same after they had disconnected.
        delta: what the device was told when ThingWorx wrote.
        confirmed: the value ThingWorx showed then.
        handed_over: slots that got a new connector while devices published.
    """

    discovery: str
    running: int
    before: int
    connected: int
    after: int
    delta: Any
    confirmed: Any
    handed_over: int


class _Sent(NamedTuple):
    """One value published: where it must arrive, and within which broker times."""

    thing: str
    property: str
    value: Any
    earliest: int
    latest: int


def run_demo(folder: Path) -> bool:
    """Run the demo in `folder`; true when every check holds."""
    say = _progress()
    with Sandbox(folder) as sandbox:
        say("AWS, Redis and ThingWorx run on this machine")
        _add_things(sandbox)
        say(f"{THINGS} Things with the tag AWS_CONNECTED_THING exist in ThingWorx")
        sandbox.build()
        say("packages are built; terraform apply (about a minute) ...")
        sandbox.deploy({"things_per_slot": THINGS_PER_SLOT})
        say("the stack is deployed")
        checks = Demo(sandbox, say).run()
        say("taking everything down")
    _print_table(checks)
    return all(check.holds for check in checks)


class Demo:
    """The steps after deployment.

    Args:
        sandbox: deployed.
        say: prints progress.
    """

    def __init__(self, sandbox: Sandbox, say: Callable[[str], None]) -> None:
        self._sandbox = sandbox
        self._say = say
        self._observer = Observer(sandbox)
        self._sent: list[_Sent] = []
        self._messages = 0

    def run(self) -> list[Check]:
        """Discover, publish, hand over, and look."""
        status = run_discovery(self._sandbox)
        self._say(f"discovery by hand: {status}")
        first_owners = self._wait_for(
            "connectors", self._observer.owners, lambda owners: len(owners) == SLOTS
        )
        self._say(f"{len(first_owners)} connectors serve {SLOTS} slots")
        running = self._observer.running_connectors()
        before = self._observer.connected()
        with ExitStack() as devices:
            fleet = [devices.enter_context(self._sandbox.device(name)) for name in thing_names()]
            self._say(f"{len(fleet)} devices are connected over MQTT with TLS")
            connected = self._wait_for_connected(THINGS)
            self._publish_test_case(fleet[0])
            delta, confirmed = self._write_in_thingworx(fleet[0])
            self._publish_the_rest(devices.enter_context(self._sandbox.device("NobodyKnowsMe")), fleet[1])
            handed_over = self._publish_until_handed_over(fleet, first_owners)
        self._say("the devices have disconnected")
        after = self._wait_for_connected(0)
        self._wait_for("values", self._missing, lambda missing: not missing, _ARRIVAL_SECONDS)
        self._say(f"{len(self._sent)} values were published, {len(self._missing())} have not arrived")
        return self._checks(_Seen(status, running, before, connected, after, delta, confirmed, handed_over))

    def _wait_for_connected(self, things: int) -> int:
        """Things that ThingWorx shows as connected, once they are so many."""
        seen: int = self._wait_for(
            "isConnected", self._observer.connected, lambda count: count == things, _PRESENCE_SECONDS
        )
        self._say(f"ThingWorx shows {seen} Things as connected")
        return seen

    def _write_in_thingworx(self, device: Device) -> tuple[Any, Any]:
        """Write a property there; what the device is told, and the value ThingWorx shows afterwards."""
        device.subscribe(device.delta_topic)
        self._sandbox.write_property(device.name, "temp", WRITTEN)
        deltas = self._wait_for("the delta", lambda: device.received(device.delta_topic), bool)
        confirmed = self._wait_for(
            "the confirmation",
            lambda: self._observer.current(device.name, "temp"),
            lambda value: value == WRITTEN,
        )
        told = deltas[0]["state"] if deltas else None
        self._say(f"temp = {WRITTEN} was written in ThingWorx; the device was told {json.dumps(told)}")
        return told, confirmed

    def _publish_test_case(self, device: Device) -> None:
        self._publish(device, TEST_PAYLOAD)
        self._wait_for("the test device's values", self._missing, lambda missing: not missing)
        self._say(f"{TEST_DEVICE}: {json.dumps(TEST_PAYLOAD)} has arrived in ThingWorx")

    def _publish_the_rest(self, stranger: Device, device: Device) -> None:
        """What can't be delivered: an unknown device's reading and a malformed payload."""
        stranger.publish(TOPIC, {"temp": 1})
        device.publish(TOPIC, MALFORMED)
        self._messages += 2

    def _publish_until_handed_over(self, fleet: list[Device], first: dict[str, str]) -> int:
        self._say("devices publish once a second until every slot has a new connector ...")
        deadline = time.monotonic() + _HANDOVER_SECONDS
        changed: set[str] = set()
        turn = 0
        while len(changed) < SLOTS and time.monotonic() < deadline:
            turn += 1
            for number, device in enumerate(fleet):
                self._publish(
                    device, {"temp": turn + number / 100, "waterLevel": turn, "state": f"turn {turn}"}
                )
            now_owned = self._observer.owners()
            for slot in sorted(now_owned):
                if now_owned[slot] != first[slot] and slot not in changed:
                    changed.add(slot)
                    self._say(
                        f"slot {slot} has been handed over; {len(self._missing())} values are under way"
                    )
            time.sleep(1)
        return len(changed)

    def _publish(self, device: Device, payload: dict[str, Any]) -> None:
        earliest, latest = device.publish(TOPIC, payload)
        self._messages += 1
        self._sent.extend(
            _Sent(device.name, name, value, earliest, latest) for name, value in payload.items()
        )

    def _missing(self) -> list[_Sent]:
        arrived: dict[tuple[str, str], list[Write]] = {}
        for write in self._observer.writes():
            arrived.setdefault((write.thing, write.property), []).append(write)
        return [
            sent
            for sent in self._sent
            if not any(
                write.value == sent.value and sent.earliest <= write.time <= sent.latest
                for write in arrived.get((sent.thing, sent.property), [])
            )
        ]

    def _wait_for(
        self,
        what: str,
        look: Callable[[], Any],
        enough: Callable[[Any], bool],
        seconds: float = 60.0,
    ) -> Any:
        """Look until it is enough; what was seen last when the time is over."""
        deadline = time.monotonic() + seconds
        while not enough(seen := look()):
            if time.monotonic() > deadline:
                self._say(f"gave up waiting for {what}")
                break
            time.sleep(0.3)
        return seen

    def _checks(self, seen: _Seen) -> list[Check]:
        slots = [slot for slot in self._observer.slots() if slot.state == "active" and slot.queue_url]
        # What ThingWorx has settled is counted a moment later: counters travel by log lines.
        self._wait_for(
            "counters",
            lambda: (self._observer.counters("router"), self._observer.counters("connector")),
            lambda both: both[0]["readings_in"] == self._messages and both[1]["taken"] >= both[0]["routed"],
        )
        router, connector = self._observer.counters("router"), self._observer.counters("connector")
        held = {item["pk"]: item["reason"] for item in self._observer.held()}
        unknown, malformed = "unrouted#NobodyKnowsMe", f"rejected#{thing_names()[1]}"
        test_values = {
            write.property: write.value
            for write in reversed(self._observer.writes())
            if write.thing == TEST_DEVICE
        }
        reordered = _reordered(self._observer.writes())
        return [
            Check("discovery started by hand", "SUCCEEDED", seen.discovery),
            Check("slots with a queue", SLOTS, len(slots)),
            Check("running connectors", SLOTS, seen.running),
            Check(
                f"{TEST_DEVICE}: {', '.join(TEST_PAYLOAD)}",
                _shown(TEST_PAYLOAD.values()),
                _shown(test_values.get(name, "nothing") for name in TEST_PAYLOAD),
            ),
            Check("Things connected before their devices are", 0, seen.before),
            Check("Things connected while their devices are", THINGS, seen.connected),
            Check("Things connected after their devices left", 0, seen.after),
            Check("write in ThingWorx, told to the device", _text({"temp": WRITTEN}), _text(seen.delta)),
            Check("write in ThingWorx, confirmed there", WRITTEN, seen.confirmed),
            Check("slots handed over while publishing", SLOTS, seen.handed_over),
            Check("values that did not arrive with their time", 0, len(self._missing())),
            Check("values that arrived out of order", 0, reordered),
            Check("unknown device's reading is held as", "unknown_thing", held.pop(unknown, "nothing")),
            Check("malformed payload is held as", "not_json", held.pop(malformed, "nothing")),
            Check("readings held beside these", "none", ", ".join(held) or "none"),
            Check("router: readings in", self._messages, router["readings_in"]),
            Check("router: routed + held + dropped", router["readings_in"], _settled(router)),
            Check(
                "connectors: readings taken", router["routed"], connector["taken"] - connector["duplicate"]
            ),
            Check("connectors: delivered", router["routed"], connector["delivered"]),
        ]


def run_discovery(sandbox: Sandbox, execution_input: dict[str, Any] | None = None) -> str:
    """Start the discovery state machine as a person would, and wait; its status at the end."""
    client = sandbox.client("stepfunctions")
    started = client.start_execution(
        stateMachineArn=sandbox.outputs["discovery_state_machine_arn"],
        input=json.dumps(execution_input or {}),
    )
    deadline = time.monotonic() + 120
    while True:
        execution = client.describe_execution(executionArn=started["executionArn"])
        if execution["status"] != "RUNNING" or time.monotonic() > deadline:
            reason = f": {execution['error']}: {execution.get('cause')}" if execution.get("error") else ""
            return f"{execution['status']}{reason}"
        time.sleep(0.2)


def thing_names() -> list[str]:
    """Names of the demo's Things, the test device first."""
    return [TEST_DEVICE, *(f"Pump{number:02d}" for number in range(1, THINGS))]


def _add_things(sandbox: Sandbox) -> None:
    for name in thing_names():
        sandbox.platform.add_thing(
            name,
            properties=[
                remote_property("temp", "NUMBER"),
                remote_property("waterLevel", "INTEGER"),
                remote_property("state", "STRING"),
            ],
        )


def _settled(router: dict[str, int]) -> int:
    return sum(
        count for name, count in router.items() if name == "routed" or name.startswith(("held_", "dropped_"))
    )


def _reordered(writes: list[Write]) -> int:
    """Writes older than one before them of the same Thing and property."""
    newest: dict[tuple[str, str], int] = {}
    late = 0
    for write in writes:
        key = (write.thing, write.property)
        late += write.time < newest.get(key, 0)
        newest[key] = max(write.time, newest.get(key, 0))
    return late


def _progress() -> Callable[[str], None]:
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    return say


def _print_table(checks: list[Check]) -> None:
    rows: list[tuple[str, ...]] = [("check", "expected", "seen", "")]
    rows += [
        (check.what, _text(check.expected), _text(check.seen), "ok" if check.holds else "NOT OK")
        for check in checks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    rows.insert(1, tuple("-" * width for width in widths))
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shown(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
