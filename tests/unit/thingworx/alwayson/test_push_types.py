"""What each push type pushes, keeps back and remembers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.thingworx.alwayson import BaseType, InfoTable
from lambdas.thingworx.alwayson.push_types import PushFilter, Subscription, subscriptions_in
from lambdas.thingworx.infotable import ValueRow
from tests.unit.thingworx.alwayson.peer import subscriptions


def pushed(kind: str, threshold: float, *values: Any, base_type: str = "NUMBER") -> list[Any]:
    """Values that are pushed, one call a value."""
    chooser, found = PushFilter(), []
    for time, value in enumerate(values):
        row = ValueRow("p", base_type, value, time)
        chosen = chooser.choose([row], {"p": Subscription(kind, threshold)}, honour=True)
        chooser.settled(chosen.push, chosen.suppressed)
        found += [entry.value for entry in chosen.push]
    return found


@pytest.mark.parametrize(
    ("kind", "threshold", "values", "expected"),
    [
        ("ALWAYS", 0.0, [1, 1, 2], [1, 1, 2]),
        ("VALUE", 0.0, [1, 1, 2, 2, 1], [1, 2, 1]),
        ("VALUE", 0.5, [1.0, 1.5, 1.6, 1.2, 1.0], [1.0, 1.6, 1.0]),
        ("VALUE", 0.5, [0.0, 0.4, 0.8, 1.2], [0.0, 0.8]),
        ("DEADBAND", 0.5, [0.0, 0.4, 0.8], [0.0, 0.8]),
        ("NEVER", 0.0, [1, 2], []),
        ("SOMETHING_NEW", 0.0, [1, 1], [1, 1]),
        ("VALUE", 0.5, [1.0, math.inf, math.inf, 1.0], [1.0, math.inf, math.inf, 1.0]),
    ],
)
def test_numbers(kind: str, threshold: float, values: list[float], expected: list[float]) -> None:
    assert pushed(kind, threshold, *values) == expected


def test_on_and_off_push_what_is_true_and_what_is_false() -> None:
    values = [True, True, False, True, False]
    assert pushed("ON", 0, *values, base_type="BOOLEAN") == [True, True, True]
    assert pushed("OFF", 0, *values, base_type="BOOLEAN") == [False, False]


def test_a_threshold_says_nothing_about_texts() -> None:
    assert pushed("VALUE", 5, "a", "a", "b", base_type="STRING") == ["a", "b"]


def test_a_number_that_is_none_is_always_different() -> None:
    assert len(pushed("VALUE", 0.5, 1.0, math.nan, math.nan)) == 3
    assert len(pushed("VALUE", 0.0, 1.0, math.nan, math.nan)) == 3


def test_another_quality_is_a_difference() -> None:
    chooser, wishes = PushFilter(), {"p": Subscription("VALUE", 5)}
    chooser.settled([ValueRow("p", "NUMBER", 1, 1)], [])
    row = ValueRow("p", "NUMBER", 1, 2, "BAD")
    assert chooser.choose([row], wishes, honour=True).push == [row]


def test_an_older_value_is_never_kept_back_and_never_compared_with() -> None:
    chooser, wishes = PushFilter(), {"p": Subscription("VALUE")}
    chooser.settled([ValueRow("p", "NUMBER", 1, 10)], [])
    late = ValueRow("p", "NUMBER", 1, 5)
    assert chooser.choose([late], wishes, honour=True).push == [late]
    chooser.settled([late._replace(value=7)], [])
    assert chooser.pushed["p"].value == 1


def test_within_one_call_each_row_is_compared_with_the_one_before_it() -> None:
    rows = [ValueRow("p", "NUMBER", value, time) for time, value in enumerate([1, 1, 2, 2, 1])]
    chosen = PushFilter().choose(rows, {"p": Subscription("VALUE")}, honour=True)
    assert [row.value for row in chosen.push] == [1, 2, 1]
    assert len(chosen.suppressed) == 2


def test_what_the_platform_did_not_take_is_not_compared_with() -> None:
    chooser, wishes = PushFilter(), {"p": Subscription("VALUE")}
    row = ValueRow("p", "NUMBER", 1, 1)
    chooser.choose([row], wishes, honour=True)
    assert chooser.choose([row], wishes, honour=True).push == [row]


def test_push_types_can_be_ignored_but_not_missing_bindings() -> None:
    rows = [ValueRow("p", "NUMBER", 1, 1), ValueRow("q", "NUMBER", 1, 1)]
    chosen = PushFilter().choose(rows, {"p": Subscription("NEVER")}, honour=False)
    assert (chosen.push, chosen.suppressed, chosen.unbound) == ([rows[0]], [], [rows[1]])


def test_the_newest_value_is_known_whether_it_was_pushed_or_not() -> None:
    chooser = PushFilter()
    chooser.settled([ValueRow("p", "NUMBER", 1, 1)], [ValueRow("q", "NUMBER", 2, 1)])
    chooser.settled([], [ValueRow("p", "NUMBER", 3, 2)])
    assert {name: row.value for name, row in chooser.newest.items()} == {"p": 3, "q": 2}
    assert chooser.pushed["p"].value == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.integers(0, 5), st.booleans()).map(
            lambda entry: ValueRow(entry[0], "NUMBER", float(entry[2]), entry[1])
        )
    ),
    st.sampled_from(["ALWAYS", "VALUE", "ON", "OFF", "NEVER", "DEADBAND"]),
    st.booleans(),
)
def test_every_row_is_in_exactly_one_part_and_their_order_stays(
    rows: list[ValueRow],
    kind: str,
    honour: bool,  # noqa: FBT001 - hypothesis gives it by position
) -> None:
    rows.sort(key=lambda row: row.time)
    chosen = PushFilter().choose(rows, {"p": Subscription(kind), "q": Subscription()}, honour=honour)
    identities = sorted(id(row) for part in chosen for row in part)
    assert identities == sorted(map(id, rows))
    for part in chosen:
        assert [row.time for row in part] == sorted(row.time for row in part)
    assert {row.name for row in chosen.unbound} <= {"r"}


def test_subscriptions_are_read_by_column_name_and_odd_rows_do_no_harm() -> None:
    assert subscriptions_in(subscriptions(a="always", b=("VALUE", 2))) == {
        "a": Subscription("ALWAYS"),
        "b": Subscription("VALUE", 2.0),
    }
    table = InfoTable.build(
        {"pushThreshold": BaseType.STRING, "edgeName": BaseType.STRING},
        [{"edgeName": "a", "pushThreshold": "1"}, {"edgeName": None}, {"edgeName": ""}],
    )
    assert subscriptions_in(table) == {"a": Subscription()}
    assert subscriptions_in(None) == {}


def echoed(kind: str, *values: float, last: float | None = None, honour: bool = True) -> list[float]:
    """Values that are pushed back, after one that was pushed."""
    chooser = PushFilter()
    if last is not None:
        chooser.settled([ValueRow("p", "NUMBER", last, 1)], [])
    rows = [ValueRow("p", "NUMBER", value, 2 + number) for number, value in enumerate(values)]
    return [
        row.value for row in chooser.choose_echo(rows, {"p": Subscription(kind, 5.0)}, honour=honour).push
    ]


def test_an_echo_is_pushed_whatever_the_threshold_but_not_what_is_never_pushed() -> None:
    for kind in ("ALWAYS", "VALUE", "DEADBAND", "ON", "OFF"):
        assert echoed(kind, 1.5, last=1.0) == [1.5]
        assert echoed(kind, 1.5) == [1.5]
    assert echoed("NEVER", 1.5) == []
    assert echoed("NEVER", 1.5, honour=False) == [1.5]


def test_an_echo_of_what_the_platform_shows_is_kept_back() -> None:
    assert echoed("ALWAYS", 1.5, last=1.5) == []
    chooser = PushFilter()
    row = ValueRow("gone", "NUMBER", 1.5, 1)
    assert chooser.choose_echo([row], {}, honour=True).unbound == [row]
    chooser.settled([row._replace(quality="BAD")], [])
    assert chooser.choose_echo([row], {"gone": Subscription()}, honour=True).push == [row]


def test_unseen_is_what_was_not_pushed_as_it_is() -> None:
    chooser = PushFilter()
    never, drifted, same = (ValueRow(name, "NUMBER", 1.0, 2) for name in ("never", "drifted", "same"))
    chooser.settled([drifted._replace(value=0.9, time=1), same._replace(time=1)], [never, drifted, same])
    assert chooser.unseen() == {"never": never, "drifted": drifted}
