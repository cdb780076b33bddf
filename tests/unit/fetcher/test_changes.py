"""Choosing: what may have changed is read, and nothing else; where that can't be known, all is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.fetcher.changes import FULL_EVERY, Choice, choose, reason_for_all
from lambdas.fetcher.listing import Row
from lambdas.fetcher.models import Models
from lambdas.shared.errors import ThingworxCallFailed
from lambdas.shared.seen import Seen, Stamp

NOW = 1_700_000_000_000
CATEGORY, URL = "bound", "https://platform/Thingworx"
LISTED = {"a": Row(1, "Pump"), "b": Row(2, "Pump"), "c": Row(3, "Fan")}
MODELS = Models(
    {"ThingTemplate/Pump": 10, "ThingTemplate/Fan": 11, "ThingShape/Wet": 12}, {"Pump": None, "Fan": "Pump"}
)
MEMBERS = {
    "ThingTemplate/Pump": {"a", "b", "c", "untagged"},
    "ThingTemplate/Fan": {"c"},
    "ThingShape/Wet": {"b"},
}


def seen(**changes: int) -> Seen:
    """All of it, with other times of changes than today's for those named."""
    things: dict[str, tuple[Stamp, str | None]] = {
        name: (changes.get(name, row.stamp), "shape") for name, row in LISTED.items()
    }
    models = {name: changes.get(name.split("/")[1], stamp) for name, stamp in MODELS.stamps.items()}
    return Seen(CATEGORY, URL, NOW, "pages_with_times", models, things)


def chosen(before: Seen | None, models: Models | None = MODELS, why_all: str = "") -> Choice:
    return choose(LISTED, models, before, why_all, lambda kind, name: MEMBERS[f"{kind}/{name}"])


def test_nothing_changed_reads_nothing() -> None:
    assert chosen(seen()) == Choice([], frozenset(), "")


def test_a_thing_with_another_time_is_read_whether_it_is_later_or_earlier() -> None:
    assert chosen(seen(a=0, c=9)).read == ["a", "c"]


def test_a_new_thing_is_read_and_one_that_failed_last_time() -> None:
    before = seen()
    del before.things["b"]
    assert chosen(before).read == ["b"]


@pytest.mark.parametrize(("model", "read"), [("Pump", ["a", "b", "c"]), ("Fan", ["c"]), ("Wet", ["b"])])
def test_an_edited_template_or_shape_has_its_things_read(model: str, read: list[str]) -> None:
    assert chosen(seen(**{model: 0})).read == read


def test_a_thing_whose_time_the_platform_does_not_tell_is_read_each_time() -> None:
    before = seen()
    before.things["a"] = (None, "shape")
    choice = choose(LISTED | {"a": Row(None, "Pump")}, MODELS, before, "", lambda *_: set())
    assert choice.read == ["a"]


def test_all_is_read_where_the_times_of_templates_are_not_told() -> None:
    choice = chosen(seen(), None)
    assert (choice.read, bool(choice.why_all)) == (["a", "b", "c"], True)


def test_all_is_read_where_a_template_cannot_be_seen() -> None:
    choice = chosen(seen(), Models(MODELS.stamps, {"Pump": None}))
    assert (choice.read, choice.why_all) == (["a", "b", "c"], "not all templates can be seen")


def test_all_is_read_where_a_templates_things_cannot_be_listed() -> None:
    def refuse(*_: str) -> set[str]:
        raise ThingworxCallFailed(403, "no permission")

    choice = choose(LISTED, MODELS, seen(Pump=0), "", refuse)
    assert choice.read == ["a", "b", "c"]
    assert "no permission" in choice.why_all


def test_all_is_read_where_more_templates_have_changed_than_are_asked() -> None:
    many: dict[str, Stamp] = {f"ThingTemplate/T{number}": number for number in range(51)}
    assert chosen(seen(), Models(many | MODELS.stamps, MODELS.bases)).read == ["a", "b", "c"]


def test_a_pass_over_all_tells_what_has_not_changed() -> None:
    assert chosen(seen(a=0, Fan=0), why_all="once a day") == Choice(
        ["a", "b", "c"], frozenset("b"), "once a day"
    )


@pytest.mark.parametrize(
    ("before", "later", "asked", "why"),
    [
        (seen(), 0, False, ""),
        (seen(), FULL_EVERY - 1, False, ""),
        (seen(), FULL_EVERY, False, "once a day"),
        (seen(), -1, False, "once a day"),
        (seen(), 0, True, "asked for"),
        (None, 0, False, "nothing is known of an earlier run"),
        (Seen("other", URL, NOW, ""), 0, False, "the category or the platform is another"),
        (Seen(CATEGORY, "https://other", NOW, ""), 0, False, "the category or the platform is another"),
    ],
)
def test_why_all_are_read(before: Seen | None, later: int, asked: bool, why: str) -> None:  # noqa: FBT001 - cases
    assert reason_for_all(before, CATEGORY, URL, NOW + later, asked=asked) == why


times = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(times, times)
def test_whatever_differs_is_read(then: dict[str, int], now: dict[str, int]) -> None:
    before = Seen(CATEGORY, URL, NOW, "", {}, {name: (stamp, "shape") for name, stamp in then.items()})
    listed = {name: Row(stamp) for name, stamp in now.items()}
    choice = choose(listed, Models({}, {}), before, "", lambda *_: set())
    assert set(choice.read) == {name for name in now if then.get(name) != now[name]}
