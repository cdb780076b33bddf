"""Writes made in ThingWorx: one update for what comes together, in order, each answered in time."""

# ruff: noqa: D101, D102 - names of the stand-ins say what they do
from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.connector.shadow import MOST_BYTES, ShadowRefused, ShadowUnavailable
from lambdas.connector.shapes import EdgeProperty
from lambdas.connector.writeback import Accepted, WriteBack
from lambdas.thingworx.alwayson import BaseType, Status, Value
from lambdas.thingworx.alwayson.model import NOTHING, InfoTable, Location
from tests.unit.connector.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lambdas.thingworx.alwayson.events import Reply

DEADLINE = 5.0


class FakeShadow:
    """Shadows of all things: `behave(thing, values)` raises, waits or returns."""

    def __init__(
        self, behave: Callable[[str, Mapping[str, Any]], Awaitable[None] | None] | None = None
    ) -> None:
        self.threads = 20
        self.behave = behave
        self.begun: list[tuple[str, dict[str, Any]]] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()

    async def update(self, thing: str, values: Mapping[str, Any]) -> None:
        self.begun.append((thing, dict(values)))
        self.under_way[thing] += 1
        self.under_way[""] += 1
        self.most_under_way |= self.under_way
        try:
            waits = self.behave(thing, values) if self.behave else None
            if waits is not None:
                await waits
            self.taken.append((thing, dict(values)))
        finally:
            self.under_way[thing] -= 1
            self.under_way[""] -= 1

    def state(self, thing: str) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for name, values in self.taken:
            if name == thing:
                state |= values
        return state


class FakeShapes:
    def __init__(self, **base_types: str) -> None:
        self.known = {f"e-{name}": EdgeProperty(name, kind) for name, kind in base_types.items()}
        self.failing: Exception | None = None

    async def of(self, thing: str, edges: Sequence[str] = ()) -> Mapping[str, EdgeProperty]:
        await asyncio.sleep(0)
        if self.failing:
            raise self.failing
        return self.known if thing != "stranger" else {}


class Writes:
    """A `WriteBack` with everything around it."""

    def __init__(self, shadow: FakeShadow, **base_types: str) -> None:
        self.shadow = shadow
        self.shapes = FakeShapes(**(base_types or {"speed": "NUMBER", "mode": "STRING"}))
        self.counters: Counter[str] = Counter()
        self.accepted: list[tuple[str, list[Accepted]]] = []
        self.owned = True
        self.back = WriteBack(
            shadow,
            self.shapes,
            owns=lambda: self.owned,
            accepted=lambda thing, values: self.accepted.append((thing, values)),
            deadline_seconds=DEADLINE,
            counters=self.counters,
        )

    def put(self, name: str, value: Any, thing: str = "pump") -> asyncio.Task[Reply]:
        cell = value if isinstance(value, Value) else number(value)
        return asyncio.ensure_future(self.back.put(thing, {f"e-{name}": cell}))

    def echoed(self) -> list[tuple[str, str, Any]]:
        return [(thing, value.edge, value.value) for thing, values in self.accepted for value in values]

    def check(self) -> None:
        """Each write has had one outcome."""
        outcomes = ("writes_accepted", "writes_refused", "writes_late")
        assert self.counters["writes_in"] == sum(self.counters[name] for name in outcomes)


def number(value: float) -> Value:
    return Value(BaseType.NUMBER, float(value))


def text(value: str) -> Value:
    return Value(BaseType.STRING, value)


async def now() -> float:
    return asyncio.get_running_loop().time()


def test_writes_that_come_together_are_one_update_in_their_order() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        first = writes.put("speed", 1.0)
        await asyncio.sleep(0.09)
        replies = await asyncio.gather(first, writes.put("mode", text("slow")), writes.put("speed", 2.0))
        assert [reply.status for reply in replies] == [Status.SUCCESS] * 3
        assert writes.shadow.taken == [("pump", {"speed": 2.0, "mode": "slow"})]
        assert writes.echoed() == [("pump", "e-speed", 2.0), ("pump", "e-mode", "slow")]
        assert writes.counters == {"writes_in": 3, "writes_accepted": 3}

    run_in_virtual_time(scenario())


def test_a_lone_write_waits_a_tenth_of_a_second_for_company() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        start = await now()
        await writes.put("speed", 1.0)
        assert await now() - start == pytest.approx(0.1)

    run_in_virtual_time(scenario())


def test_success_is_told_only_after_the_shadow_has_taken_it() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def slow() -> None:
            await release.wait()

        writes = Writes(FakeShadow(lambda *_: slow()))
        put = writes.put("speed", 1.0)
        await asyncio.sleep(1)
        assert writes.shadow.begun
        assert not put.done()
        assert not writes.accepted
        release.set()
        assert (await put).status == Status.SUCCESS

    run_in_virtual_time(scenario())


def test_one_update_of_a_thing_is_under_way_and_what_comes_meanwhile_goes_together_next() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def slow() -> None:
            await release.wait()

        writes = Writes(FakeShadow(lambda *_: slow()))
        puts = [writes.put("speed", 1.0)]
        for value in (2.0, 3.0, 4.0):
            await asyncio.sleep(0.2)
            puts.append(writes.put("speed", value))
        assert len(writes.shadow.begun) == 1
        release.set()
        await asyncio.gather(*puts)
        assert writes.shadow.taken == [("pump", {"speed": 1.0}), ("pump", {"speed": 4.0})]
        assert writes.shadow.most_under_way["pump"] == 1

    run_in_virtual_time(scenario())


def test_slow_things_do_not_delay_others_up_to_the_calls_that_may_be_under_way() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def slow() -> None:
            await release.wait()

        writes = Writes(FakeShadow(lambda thing, _: slow() if thing.startswith("slow") else None))
        puts = [writes.put("speed", 1.0, f"slow-{number}") for number in range(19)]
        await asyncio.sleep(0.2)
        assert (await writes.put("speed", 1.0)).status == Status.SUCCESS
        puts += [writes.put("speed", 1.0, f"slow-more-{number}") for number in range(10)]
        await asyncio.sleep(1)
        assert writes.shadow.most_under_way[""] == 20
        release.set()
        await asyncio.gather(*puts)
        writes.check()

    run_in_virtual_time(scenario())


@pytest.mark.parametrize("failures", [1, 3])
def test_conflicts_and_throttles_are_tried_again(failures: int) -> None:
    left = failures

    def failing(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ShadowUnavailable("AWS IoT: ConflictException Version conflict")

    async def scenario() -> None:
        writes = Writes(FakeShadow(failing))
        assert (await writes.put("speed", 1.0)).status == Status.SUCCESS
        assert len(writes.shadow.begun) == failures + 1
        assert len(writes.accepted) == 1
        writes.check()

    run_in_virtual_time(scenario())


def test_a_write_is_answered_at_its_deadline_with_the_trouble_and_is_not_tried_any_more() -> None:
    def failing(*_: Any) -> None:
        raise ShadowUnavailable("AWS IoT: ThrottlingException")

    async def scenario() -> None:
        writes = Writes(FakeShadow(failing))
        start = await now()
        reply = await writes.put("speed", 1.0)
        assert await now() - start == pytest.approx(DEADLINE)
        assert reply.status == Status.GATEWAY_TIMEOUT
        assert reply.reason == (
            "e-speed: AWS IoT has not confirmed it within 5 s (AWS IoT: ThrottlingException); "
            "the device may get it all the same"
        )
        tried = len(writes.shadow.begun)
        await asyncio.sleep(60)
        assert len(writes.shadow.begun) == tried
        assert not writes.accepted
        assert writes.counters == {"writes_in": 1, "writes_late": 1}

    run_in_virtual_time(scenario())


def test_a_call_that_ends_well_after_the_deadline_is_echoed_since_the_device_has_the_value() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(lambda *_: asyncio.sleep(DEADLINE + 1)))
        reply = await writes.put("speed", 1.0)
        assert reply.status == Status.GATEWAY_TIMEOUT
        assert not writes.accepted
        await asyncio.sleep(2)
        assert writes.echoed() == [("pump", "e-speed", 1.0)]
        assert writes.counters == {"writes_in": 1, "writes_late": 1}

    run_in_virtual_time(scenario())


def test_a_write_whose_turn_never_came_does_not_reach_the_device_after_its_deadline() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(lambda *_: asyncio.sleep(DEADLINE + 1)))
        first = writes.put("speed", 1.0)
        await asyncio.sleep(0.2)
        second = await writes.put("speed", 2.0)
        assert second.status == Status.GATEWAY_TIMEOUT
        assert second.reason
        assert second.reason.endswith("the device does not get it")
        await first
        await asyncio.sleep(60)
        assert writes.shadow.taken == [("pump", {"speed": 1.0})]
        writes.check()

    run_in_virtual_time(scenario())


@pytest.mark.parametrize(
    ("thing", "name", "value", "status", "reason"),
    [
        ("pump", "gone", number(1), Status.NOT_FOUND, "e-gone: the connector serves no such property"),
        ("stranger", "speed", number(1), Status.NOT_FOUND, "no such property of stranger"),
        ("pump 1", "speed", number(1), Status.BAD_REQUEST, "AWS IoT has no such thing"),
        ("p" * 129, "speed", number(1), Status.BAD_REQUEST, "AWS IoT has no such thing"),
        ("pump", "speed", text("fast"), Status.BAD_REQUEST, "NUMBER takes a finite number"),
        ("pump", "speed", number(float("nan")), Status.BAD_REQUEST, "NUMBER"),
        ("pump", "speed", NOTHING, Status.BAD_REQUEST, "null"),
        ("pump", "mode", text("x" * MOST_BYTES), Status.ENTITY_TOO_LARGE, "a shadow has at most 8192 bytes"),
    ],
)  # fmt: skip
def test_what_no_shadow_can_take_is_refused_with_a_reason_and_never_sent(
    thing: str, name: str, value: Value, status: Status, reason: str
) -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        refused, fine = await asyncio.gather(
            writes.put(name, value, thing), writes.put("mode", text("on"), "fan")
        )
        assert refused.status == status
        assert refused.reason
        assert reason in refused.reason
        assert fine.status == Status.SUCCESS
        assert [name for name, _ in writes.shadow.begun] == ["fan"]
        assert writes.counters == {"writes_in": 2, "writes_refused": 1, "writes_accepted": 1}

    run_in_virtual_time(scenario())


def test_a_value_that_just_fits_a_shadow_is_sent_and_one_byte_more_is_not() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        most = MOST_BYTES - len('{"mode":""}')
        for size, status in ((most, Status.SUCCESS), (most + 1, Status.ENTITY_TOO_LARGE)):
            assert (await writes.put("mode", text("x" * size))).status == status
            half, odd = divmod(size, 2)
            assert (await writes.put("mode", text("ü" * half + "x" * odd))).status == status
        assert len(writes.shadow.taken) == 2
        writes.check()

    run_in_virtual_time(scenario())


def test_one_refused_property_leaves_the_others_of_its_update_alone() -> None:
    def judge(_: str, values: Mapping[str, Any]) -> None:
        if "mode" in values:
            raise ShadowRefused(400, "AWS IoT refuses: InvalidRequestException")

    async def scenario() -> None:
        names = [f"p{number}" for number in range(6)]
        writes = Writes(FakeShadow(judge), mode="STRING", **dict.fromkeys(names, "NUMBER"))
        puts = {name: writes.put(name, 1.0) for name in names} | {"mode": writes.put("mode", text("x"))}
        await asyncio.gather(*puts.values())
        assert {name for name, put in puts.items() if put.result().status != Status.SUCCESS} == {"mode"}
        assert puts["mode"].result().reason == "e-mode: AWS IoT refuses: InvalidRequestException"
        assert writes.shadow.state("pump") == dict.fromkeys(names, 1.0)
        writes.check()

    run_in_virtual_time(scenario())


def test_values_too_large_together_go_one_after_the_other() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(), a="STRING", b="STRING")
        big = text("x" * (MOST_BYTES // 2))
        replies = await asyncio.gather(writes.put("a", big), writes.put("b", big))
        assert [reply.status for reply in replies] == [Status.SUCCESS] * 2
        assert [list(values) for _, values in writes.shadow.taken] == [["a"], ["b"]]

    run_in_virtual_time(scenario())


def test_a_full_shadow_and_a_missing_permission_are_told() -> None:
    failure = ShadowRefused(413, "the shadow of pump would have more than 8192 bytes")

    def judge(*_: Any) -> None:
        raise failure

    async def scenario() -> None:
        nonlocal failure
        writes = Writes(FakeShadow(judge))
        assert (await writes.put("speed", 1.0)).status == Status.ENTITY_TOO_LARGE
        for status in (401, 403):
            failure = ShadowRefused(status, "AWS IoT refuses: ForbiddenException")
            writes.shadow.begun.clear()
            both = await asyncio.gather(writes.put("speed", 1.0), writes.put("mode", text("on")))
            assert [reply.status for reply in both] == [Status.FORBIDDEN] * 2
            assert len(writes.shadow.begun) == 1  # no property is the reason
        failure = ShadowRefused(404, "AWS IoT has no thing or shadow of pump")
        assert (await writes.put("speed", 1.0)).status == Status.NOT_FOUND
        writes.check()

    run_in_virtual_time(scenario())


@pytest.mark.parametrize(
    ("base_type", "value", "shadow", "kept"),
    [
        ("JSON", Value(BaseType.JSON, '{"a":1}'), '{"a":1}', {"a": 1}),
        (
            "LOCATION",
            Value(BaseType.LOCATION, Location(8.5, 47.0, 0.0)),
            {"longitude": 8.5, "latitude": 47.0, "elevation": 0.0},
            {"longitude": 8.5, "latitude": 47.0, "elevation": 0.0},
        ),
        ("THINGNAME", text("pump-2"), "pump-2", "pump-2"),
        ("INTEGER", Value(BaseType.NUMBER, 3.0), 3, 3),
    ],
)
def test_a_shadow_gets_the_base_types_form_and_the_echo_the_kept_one(
    base_type: str, value: Value, shadow: Any, kept: Any
) -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(), p=base_type)
        assert (await writes.put("p", value)).status == Status.SUCCESS
        assert writes.shadow.taken == [("pump", {"p": shadow})]
        assert writes.accepted == [("pump", [Accepted("e-p", base_type, kept)])]

    run_in_virtual_time(scenario())


def test_an_infotable_goes_as_text_so_that_a_shadow_cannot_merge_it() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(), p="INFOTABLE")
        table = InfoTable.build({"n": BaseType.NUMBER}, [{"n": 1.0}])
        assert (await writes.put("p", Value(BaseType.INFOTABLE, table))).status == Status.SUCCESS
        assert isinstance(writes.shadow.state("pump")["p"], str)

    run_in_virtual_time(scenario())


def test_several_properties_of_one_call_are_one_answer_that_names_what_failed() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        reply = await writes.back.put("pump", {"e-speed": number(1), "e-gone": number(2)})
        assert reply.status == Status.NOT_FOUND
        assert reply.reason == "e-gone: the connector serves no such property of pump"
        assert writes.shadow.state("pump") == {"speed": 1.0}
        assert (await writes.back.put("pump", {"e-speed": number(3)})).status == Status.SUCCESS

    run_in_virtual_time(scenario())


def test_no_update_is_begun_without_the_lease() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        put = writes.put("speed", 1.0)
        await asyncio.sleep(0.05)
        writes.owned = False
        reply = await put
        assert reply.status == Status.SERVICE_UNAVAILABLE
        assert reply.reason == "e-speed: the connector of this Thing is being replaced, write again"
        assert (await writes.put("speed", 1.0)).status == Status.SERVICE_UNAVAILABLE
        assert not writes.shadow.begun
        writes.check()

    run_in_virtual_time(scenario())


def test_a_lease_that_goes_between_two_tries_ends_them() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())

        def failing(*_: Any) -> None:
            writes.owned = False
            raise ShadowUnavailable("AWS IoT: ConflictException")

        writes.shadow.behave = failing
        assert (await writes.put("speed", 1.0)).status == Status.SERVICE_UNAVAILABLE
        assert len(writes.shadow.begun) == 1

    run_in_virtual_time(scenario())


def test_nothing_is_begun_while_it_rests_and_what_waited_is_written_when_it_goes_on() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(lambda *_: asyncio.sleep(1)))
        first = writes.put("speed", 1.0)
        await asyncio.sleep(0.2)
        start = await now()
        await writes.back.rest(3)
        assert await now() - start == pytest.approx(0.9)
        assert first.done()
        writes.owned = False
        second = writes.put("speed", 2.0)
        await asyncio.sleep(2)
        assert len(writes.shadow.begun) == 1
        writes.owned = True
        writes.back.go_on()
        assert (await second).status == Status.SUCCESS

    run_in_virtual_time(scenario())


def test_a_slow_shadow_keeps_nobody_waiting_for_the_rest_longer_than_asked() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(lambda *_: asyncio.sleep(100)))
        put = writes.put("speed", 1.0)
        await asyncio.sleep(0.2)
        start = await now()
        await writes.back.rest(0.5)
        assert await now() - start == pytest.approx(0.5)
        await writes.back.settle(0)
        assert (await put).status == Status.SERVICE_UNAVAILABLE

    run_in_virtual_time(scenario())


def test_what_waits_at_the_end_is_written_at_once_and_answered() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        put = writes.put("speed", 1.0)
        await asyncio.sleep(0.01)
        start = await now()
        await writes.back.settle(3)
        assert await now() == start
        assert put.done() or (await put)
        assert put.result().status == Status.SUCCESS
        assert (await writes.put("speed", 2.0)).status == Status.SERVICE_UNAVAILABLE
        writes.check()

    run_in_virtual_time(scenario())


def test_what_hangs_at_the_end_is_answered_all_the_same() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow(lambda *_: asyncio.sleep(100)))
        puts = [writes.put("speed", 1.0), writes.put("speed", 1.0, "fan")]
        await asyncio.sleep(0.2)
        puts.append(writes.put("mode", text("x")))
        await asyncio.sleep(0)
        start = await now()
        await writes.back.settle(3)
        assert await now() - start == pytest.approx(3)
        replies = await asyncio.gather(*puts)
        assert [reply.status for reply in replies] == [Status.SERVICE_UNAVAILABLE] * 3
        writes.check()

    run_in_virtual_time(scenario())


def test_a_fault_nobody_foresaw_is_an_answer_too() -> None:
    async def scenario() -> None:
        writes = Writes(FakeShadow())
        writes.shapes.failing = RuntimeError("the table is away")
        reply = await writes.put("speed", 1.0)
        assert (reply.status, reply.reason) == (
            Status.INTERNAL_ERROR,
            "e-speed: RuntimeError: the table is away",
        )
        writes.shapes.failing = None
        assert (await writes.put("speed", 1.0)).status == Status.SUCCESS
        writes.check()

    run_in_virtual_time(scenario())


_CALLS = st.lists(
    st.tuples(st.sampled_from(["pump", "fan"]), st.sampled_from("ab"), st.floats(0, 0.3)), max_size=25
)


@given(
    _CALLS,
    st.lists(st.sampled_from(["take", "slow", "very slow", "conflict", "refuse"]), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_shadow_does_each_write_is_answered_in_time_and_the_last_accepted_one_stays(
    calls: list[tuple[str, str, float]], outcomes: list[str]
) -> None:
    behaviour = iter(outcomes)

    def behave(*_: Any) -> Awaitable[None] | None:
        match next(behaviour, "take"):
            case "slow":
                return asyncio.sleep(1)
            case "very slow":
                return asyncio.sleep(DEADLINE)
            case "conflict":
                raise ShadowUnavailable("conflict")
            case "refuse":
                raise ShadowRefused(400, "no")
        return None

    async def scenario() -> None:
        writes = Writes(FakeShadow(behave), a="NUMBER", b="NUMBER")
        puts: list[tuple[str, str, float, asyncio.Task[Reply]]] = []

        async def timed(name: str, value: float, thing: str) -> Reply:
            start = await now()
            reply = await writes.put(name, value, thing)
            assert await now() - start <= DEADLINE + 1e-6
            return reply

        for value, (thing, name, pause) in enumerate(calls):
            puts.append((thing, name, float(value), asyncio.ensure_future(timed(name, float(value), thing))))
            await asyncio.sleep(pause)
        replies = await asyncio.gather(*(put for *_, put in puts))
        await asyncio.sleep(100)
        writes.check()
        assert writes.shadow.most_under_way["pump"] <= 1
        assert writes.shadow.most_under_way["fan"] <= 1
        for thing in ("pump", "fan"):
            # Taken in the order in which they were written, and echoed exactly as taken.
            for name in ("a", "b"):
                taken = [values[name] for t, values in writes.shadow.taken if t == thing and name in values]
                assert taken == sorted(taken)
                echoed = [value for t, edge, value in writes.echoed() if (t, edge) == (thing, f"e-{name}")]
                assert echoed == taken
                confirmed = [
                    value
                    for (t, n, value, _), reply in zip(puts, replies, strict=True)
                    if (t, n) == (thing, name) and reply.status == Status.SUCCESS
                ]
                if confirmed:
                    assert taken[-1] >= confirmed[-1]

    run_in_virtual_time(scenario())
