"""Finding Things: tags, masks, the silent 500, pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.thingworx.model import PropertyDefinition

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client

TAG = "AWS_CONNECTED_THING:AWS_CONNECTED_THING"
OPTIMIZED = "ThingTemplates/RemoteThing/QueryImplementingThingsOptimized"
NAME_ONLY = {"rows": [{"name": "name"}]}
NO_ROWS: dict[str, Any] = {"rows": []}


@pytest.fixture
def fleet(client: Client) -> Client:
    """600 remote Things f-0000.. beside pump-1."""
    for number in range(600):
        client.server.platform.add_thing(f"f-{number:04d}", description=f"number {number}")
    return client


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("Resources/EntityServices/GetEntityList", {"type": "Thing"}),
        ("Resources/SearchFunctions/SearchModelTags", {"types": {"items": ["Thing"]}}),
        (
            "Resources/SearchFunctions/SpotlightSearch",
            {"searchExpression": "*", "types": {"items": ["Thing"]}},
        ),
        (
            "Resources/SearchFunctions/SpotlightSearchV2",
            {"searchExpression": "*", "types": {"items": ["Thing"]}},
        ),
        ("ThingTemplates/RemoteThing/QueryImplementingThings", {}),
        (OPTIMIZED, {}),
    ],
)
def test_results_end_silently_at_500_unless_max_items_says_more(
    fleet: Client, path: str, params: dict[str, Any]
) -> None:
    assert len(fleet.rows(path, tags=TAG, **params)) == 500
    assert len(fleet.rows(path, tags=TAG, maxItems=100_000, **params)) == 601


def test_get_things_ends_silently_at_500_too(fleet: Client) -> None:
    assert len(fleet.call("GET", "Things").json()["rows"]) == 500
    found = fleet.call("GET", f"Things?maxItems=1000&nameMask=f-00*&tags={TAG}").json()["rows"]
    assert len(found) == 100


def test_search_things_puts_the_things_into_tables_in_one_row(fleet: Client) -> None:
    (row,) = fleet.rows("Resources/SearchFunctions/SearchThings", modelTags=TAG, maxItems=1000)
    assert len(row["commonResults"]["rows"]) == len(row["thingResults"]["rows"]) == 601
    assert row["commonResults"]["rows"][0] == {
        "name": "f-0000", "description": "number 0", "type": "Thing", "id": "f-0000",
        "parentName": "RemoteThing", "parentType": "ThingTemplate",
    }  # fmt: skip


def test_only_the_optimized_service_pages(fleet: Client) -> None:
    pages = [
        fleet.rows(
            OPTIMIZED,
            tags=TAG,
            maxItems=250,
            offset=offset,
            basicPropertyNames=NAME_ONLY,
            propertyNames=NO_ROWS,
        )
        for offset in (0, 250, 500, 750)
    ]
    assert [len(page) for page in pages] == [250, 250, 101, 0]
    names = [row["name"] for page in pages for row in page]
    assert names == sorted(names)
    assert len(set(names)) == 601
    unpaged = fleet.rows("ThingTemplates/RemoteThing/QueryImplementingThings", maxItems=1, offset=300)
    assert unpaged[0]["name"] == "f-0000"


def test_the_total_ignores_paging(fleet: Client) -> None:
    (row,) = fleet.rows(f"{OPTIMIZED}WithTotalCount", tags=TAG, maxItems=10, offset=600)
    assert row["totalCount"] == 601
    assert [thing["name"] for thing in row["rootEntityList"]["rows"]] == ["pump-1"]


def test_columns_are_the_ones_asked_for(client: Client) -> None:
    (row,) = client.rows(OPTIMIZED, tags=TAG, basicPropertyNames=NAME_ONLY, propertyNames=NO_ROWS)
    assert row == {"name": "pump-1"}


def test_left_out_property_names_mean_all_properties_of_the_template(client: Client) -> None:
    (row,) = client.rows(OPTIMIZED, tags=TAG)
    assert row["isConnected"] is False
    assert "Temp" not in row  # defined on the Thing itself


@pytest.mark.parametrize("suffix", ["", "WithTotalCount"])
def test_an_old_platform_has_no_optimized_service(client: Client, suffix: str) -> None:
    name = f"QueryImplementingThingsOptimized{suffix}"
    client.server.platform.settings.missing_services = frozenset({name})
    answer = client.service(f"ThingTemplates/RemoteThing/{name}")
    assert answer.status_code == 404
    assert answer.text == f"No service handler defined for service {name} on thing RemoteThing"


def test_every_change_shows_in_the_next_search(client: Client) -> None:
    def found() -> set[str]:
        return {
            row["name"]
            for row in client.rows("ThingTemplates/GenericThing/QueryImplementingThings", tags=TAG)
        }

    assert found() == {"pump-1"}
    client.server.platform.add_thing("pump-2")
    assert found() == {"pump-1", "pump-2"}
    client.service("Things/tank-1/AddTags", tags=TAG)
    assert found() == {"pump-1", "pump-2", "tank-1"}
    client.service("Things/pump-1/RemoveTags", tags=TAG)
    assert found() == {"pump-2", "tank-1"}
    assert client.service("Resources/EntityServices/DeleteThing", name="pump-2").status_code == 200
    assert found() == {"tank-1"}


@pytest.mark.parametrize(
    "tags",
    [
        "Plant:Line1;Site:North",
        "Plant: Line1; Site: North",
        ["Plant:Line1", "Site:North"],
        [
            {"vocabulary": "Plant", "vocabularyTerm": "Line1"},
            {"vocabulary": "Site", "vocabularyTerm": "North"},
        ],
    ],
)
def test_tags_are_taken_in_all_their_forms_and_all_must_be_there(client: Client, tags: Any) -> None:
    client.server.platform.add_thing("both", tags="Plant:Line1;Site:North")
    found = client.rows("Resources/EntityServices/GetEntityList", type="Thing", tags=tags)
    assert [row["name"] for row in found] == ["both"]
    assert found[0]["tags"] == [
        {"vocabulary": "Plant", "vocabularyTerm": "Line1"},
        {"vocabulary": "Site", "vocabularyTerm": "North"},
    ]


def test_a_tag_without_a_term_fails(client: Client) -> None:
    assert client.service(OPTIMIZED, tags="Plant").status_code == 500


def test_a_template_finds_the_things_of_templates_under_it(client: Client) -> None:
    platform = client.server.platform
    platform.add_template("Pump", "SDKGateway")
    platform.add_thing("gw", "Pump")
    names = {row["name"] for row in client.rows(OPTIMIZED)}
    assert names == {"gw", "pump-1"}
    everything = client.rows("ThingTemplates/GenericThing/QueryImplementingThingsOptimized")
    assert {row["name"] for row in everything} == {"gw", "pump-1", "tank-1"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": "EQ", "fieldName": "name", "value": "m-2"}, ["m-2"]),
        ({"type": "GT", "fieldName": "Rate", "value": 1}, ["m-2", "m-3"]),
        ({"type": "LIKE", "fieldName": "name", "value": "m-?"}, ["m-0", "m-1", "m-2", "m-3"]),
        ({"type": "IN", "fieldName": "Rate", "values": [0, 3]}, ["m-0", "m-3"]),
        ({"type": "Between", "fieldName": "Rate", "from": 1, "to": 2}, ["m-1", "m-2"]),
        (
            {
                "type": "And",
                "filters": [
                    {"type": "GE", "fieldName": "Rate", "value": 1},
                    {"type": "Or", "filters": [
                        {"type": "EQ", "fieldName": "Rate", "value": 0},
                        {"type": "EQ", "fieldName": "Rate", "value": 3},
                    ]},
                ],
            },
            ["m-3"],
        ),
        ({"type": "TaggedWith", "tags": ["Odd:yes"]}, ["m-1", "m-3"]),
    ],
)  # fmt: skip
def test_queries_filter_on_template_properties(client: Client, filters: Any, expected: list[str]) -> None:
    platform = client.server.platform
    platform.add_template("Motor", "RemoteThing", [PropertyDefinition("Rate", "NUMBER")])
    for number in range(4):
        platform.add_thing(f"m-{number}", "Motor", tags="Odd:yes" if number % 2 else "Odd:no")
        client.call("PUT", f"Things/m-{number}/Properties/Rate", {"Rate": number})
    path = "ThingTemplates/Motor/QueryImplementingThingsOptimized"
    found = client.rows(path, query={"filters": filters}, basicPropertyNames=NAME_ONLY, propertyNames=NO_ROWS)
    assert [row["name"] for row in found] == expected


@pytest.mark.parametrize(
    "query",
    [
        {"filters": [{"type": "EQ", "fieldName": "name", "value": "x"}]},
        {"filters": {"type": "NOT", "fieldName": "name"}},
        {"filters": {"type": "IN", "fieldName": "name", "values": []}},
        '{"filters": {}}',
    ],
)
def test_a_query_of_another_form_fails(client: Client, query: Any) -> None:
    assert client.service(OPTIMIZED, query=query).status_code == 500


def test_query_implementing_things_cuts_before_it_sorts_unless_told_otherwise(fleet: Client) -> None:
    path = "ThingTemplates/RemoteThing/QueryImplementingThings"
    query = {"sorts": [{"fieldName": "name", "isAscending": False}]}
    assert fleet.rows(path, maxItems=2, query=query)[0]["name"] == "f-0001"
    assert fleet.rows(path, maxItems=2, query=query, isSortFirst=True)[0]["name"] == "pump-1"


def test_an_unknown_type_makes_the_spotlight_search_every_type(client: Client) -> None:
    path = "Resources/SearchFunctions/SpotlightSearchV2"
    kinds = {row["type"] for row in client.rows(path, searchExpression="*", types={"items": ["Things"]})}
    assert kinds == {"Thing", "ThingTemplate"}
    kinds = {row["type"] for row in client.rows(path, searchExpression="*", types={"items": ["Thing"]})}
    assert kinds == {"Thing"}


def test_a_search_expression_matches_the_whole_name_unless_it_has_a_wildcard(client: Client) -> None:
    path = "Resources/SearchFunctions/SpotlightSearch"
    assert client.rows(path, searchExpression="pump") == []
    assert [row["name"] for row in client.rows(path, searchExpression="pump*")] == ["pump-1"]


def test_vocabulary_terms_link_to_their_things(client: Client) -> None:
    client.service("ModelTags/Plant/AddVocabularyTerm", term="Line2")
    assert client.rows("ModelTags/Plant/GetVocabularyTerms") == [{"name": "Line1"}, {"name": "Line2"}]
    links = client.rows("ModelTags/Plant/GetVocabularyTermLinks", term="Line1")
    assert [row["name"] for row in links] == ["tank-1"]


def test_an_edited_shape_or_template_tells_its_time_and_its_things_follow(client: Client) -> None:
    platform = client.server.platform
    times = iter(range(1, 100))
    platform.now = lambda: next(times)
    platform.add_shape("Wet", [PropertyDefinition("level")])
    platform.add_template("Pump", shapes=["Wet"])
    platform.add_template("Big Pump", "Pump")
    thing = platform.add_thing("big-1", "Big Pump")
    before = thing.last_modified

    def stamps() -> dict[str, int]:
        rows = client.rows(
            "Resources/SearchFunctions/SpotlightSearch",
            searchExpression="*",
            types={"items": ["ThingTemplate", "ThingShape"]},
        )
        return {row["name"]: row["lastModifiedDate"] for row in rows}

    def names() -> set[str]:
        return {row["name"] for row in client.rows("Things/big-1/GetPropertyDefinitions")}

    first = stamps()
    platform.edit_shape("Wet", PropertyDefinition("depth"), removed=["level"])
    second = stamps()
    assert {name for name in second if second[name] != first[name]} == {"Wet"}
    assert {"depth", "level"} & names() == {"depth"}
    platform.edit_template("Pump", PropertyDefinition("speed"))
    assert {name for name, time in stamps().items() if time != second[name]} == {"Pump"}
    assert "speed" in names()
    assert thing.last_modified == before


def test_the_things_of_a_shape_are_those_of_its_templates_and_what_is_derived_from_them(
    client: Client,
) -> None:
    platform = client.server.platform
    platform.add_shape("Wet")
    platform.add_template("Pump", shapes=["Wet"])
    platform.add_template("Big Pump", "Pump")
    platform.add_thing("big-1", "Big Pump")
    rows = client.rows("ThingShapes/Wet/QueryImplementingThingsOptimized", tags=TAG, propertyNames=NO_ROWS)
    assert [row["name"] for row in rows] == ["big-1"]
