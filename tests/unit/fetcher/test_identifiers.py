"""Identifiers: found by a search, believed only when the Thing itself says so."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.fetcher.identifiers import identified
from lambdas.shared.errors import ThingworxCallFailed
from lambdas.thingworx.infotable import InfoTable
from tests.unit.fetcher.fake_platform import FakePlatform

TAG = "Plant:Line1"


def searched(*names: str) -> Any:
    row = {"commonResults": {"rows": [{"name": name} for name in names]}}
    return lambda *_: InfoTable({}, [row])


def test_things_with_an_identifier_are_named() -> None:
    platform = FakePlatform(
        SearchThings=searched("b", "a", "none"),
        GetIdentifier=lambda thing, _: InfoTable({}, [{"result": "" if thing == "none" else "SN"}]),
    )
    assert identified(platform, TAG) == ["a", "b"]
    assert platform.calls[0][3]["modelTags"] == TAG


def test_a_search_that_finds_everything_is_given_up() -> None:
    platform = FakePlatform(
        SearchThings=searched(*map(str, range(200))), GetIdentifier=lambda *_: InfoTable({}, [{}])
    )
    assert identified(platform, TAG) == []
    assert platform.called("GetIdentifier") == 20


def refuses(*_: object) -> InfoTable:
    raise ThingworxCallFailed(500, "no")


@pytest.mark.parametrize("search", [refuses, lambda *_: None, lambda *_: InfoTable({}, [{"other": 1}])])
def test_a_platform_that_cannot_be_searched_names_nobody(search: Any) -> None:
    assert identified(FakePlatform(SearchThings=search), TAG) == []


def test_a_thing_that_does_not_tell_is_not_named() -> None:
    assert identified(FakePlatform(SearchThings=searched("a"), GetIdentifier=refuses), TAG) == []
