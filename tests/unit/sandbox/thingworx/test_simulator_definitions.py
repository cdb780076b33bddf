"""Property definitions, remote bindings, and the life of a Thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.thingworx.model import REMOTE_TEMPLATES, PropertyDefinition, remote_property

if TYPE_CHECKING:
    from tests.unit.sandbox.thingworx.simulator_client import Client

DEFINITIONS = "Things/pump-1/GetPropertyDefinitions"


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["name"] for row in rows}


def test_the_category_filter_is_the_servers(client: Client) -> None:
    flags = {"isReadOnly": False, "isPersistent": False, "isLogged": True}
    assert client.rows(DEFINITIONS, category="AWSConnectorBound") == [
        {"name": "Temp", "description": "", "baseType": "NUMBER", **flags},
        {"name": "Speed", "description": "", "baseType": "INTEGER", **flags},
    ]
    assert names(client.rows(DEFINITIONS, category="Metadata")) == {
        "name",
        "description",
        "thingTemplate",
        "tags",
    }
    assert client.rows(DEFINITIONS, category="none of them") == []


def test_definitions_are_filtered_by_base_type_too(client: Client) -> None:
    assert names(client.rows(DEFINITIONS, type="INTEGER")) == {"Speed"}


def test_without_filters_the_built_in_properties_come_along(client: Client) -> None:
    assert names(client.rows(DEFINITIONS)) >= {"name", "isConnected", "lastConnection", "Temp"}


def test_one_definition_is_found_by_name(client: Client) -> None:
    assert client.rows("Things/pump-1/GetPropertyDefinition", name="Speed")[0]["baseType"] == "INTEGER"
    assert client.service("Things/pump-1/GetPropertyDefinition", name="None").status_code == 500


def test_the_definitions_resource_says_category_aspects_and_source(client: Client) -> None:
    platform = client.server.platform
    platform.add_template("Pump", "RemoteThing", [PropertyDefinition("Rate", "NUMBER", units="l/s")])
    platform.add_thing("p", "Pump", properties=[remote_property("Temp")])
    rows = {row["name"]: row for row in client.call("GET", "Things/p/PropertyDefinitions").json()["rows"]}
    assert (rows["Temp"]["category"], rows["Temp"]["sourceType"], rows["Temp"]["sourceName"]) == (
        "AWSConnectorBound", "Thing", "p",
    )  # fmt: skip
    assert (rows["Rate"]["sourceType"], rows["Rate"]["sourceName"]) == ("ThingTemplate", "Pump")
    assert rows["isConnected"]["sourceName"] == "RemoteThing"
    assert rows["Rate"]["aspects"]["rows"][0]["units"] == "l/s"
    assert rows["name"]["aspects"]["rows"][0]["isBuiltIn"] is True


def test_metadata_holds_the_definitions(client: Client) -> None:
    (row,) = client.rows("Things/pump-1/GetMetadata")
    assert (row["name"], row["type"]) == ("pump-1", "Thing")
    assert names(row["propertyDefinitions"]["rows"]) >= {"Temp", "Speed"}
    as_json = client.rows("Things/pump-1/GetMetadataAsJSON")[0]["result"]
    assert as_json["propertyDefinitions"]["Temp"]["aspects"]["pushType"] == "ALWAYS"
    assert client.call("GET", "Things/pump-1/Metadata").json()["rows"] == [row]


def test_subscriptions_name_the_edge_properties(client: Client) -> None:
    assert client.rows("Things/pump-1/GetPropertySubscriptions", options={}) == [
        {"edgeName": "temp", "pushType": "ALWAYS", "pushThreshold": 0},
        {"edgeName": "Speed", "pushType": "ALWAYS", "pushThreshold": 0},
    ]


@pytest.mark.parametrize("template", REMOTE_TEMPLATES)
def test_the_whole_remote_family_has_subscriptions(client: Client, template: str) -> None:
    client.server.platform.add_thing("remote", template, properties=[remote_property("T")])
    assert len(client.rows("Things/remote/GetPropertySubscriptions")) == 1


def test_a_local_thing_has_no_subscriptions(client: Client) -> None:
    assert client.service("Things/tank-1/GetPropertySubscriptions").status_code == 404


def test_a_binding_is_read_property_by_property(client: Client) -> None:
    (row,) = client.rows("Things/pump-1/GetRemotePropertyBinding", propertyName="Temp")
    assert (row["name"], row["sourceName"], row["pushType"]) == ("Temp", "temp", "ALWAYS")
    answer = client.service("Things/pump-1/GetRemotePropertyBinding", propertyName="name")
    assert answer.status_code == 500
    assert "not remotely bound" in answer.text


def test_rebinding_changes_the_edge_name_and_the_push_type(client: Client) -> None:
    answer = client.service(
        "Things/pump-1/SetRemotePropertyBinding",
        propertyName="Temp", sourcePropertyName="t", pushType="VALUE", pushThreshold=0.5, cacheTime=-1,
    )  # fmt: skip
    assert answer.status_code == 200
    assert {"edgeName": "t", "pushType": "VALUE", "pushThreshold": 0.5} in client.rows(
        "Things/pump-1/GetPropertySubscriptions"
    )
    client.push("pump-1", {"name": "t", "value": 3}, {"name": "temp", "value": 9})
    assert client.value("pump-1", "Temp") == 3


def test_a_property_without_a_binding_is_local(client: Client) -> None:
    assert client.service("Things/pump-1/RemoveRemotePropertyBinding", propertyName="Temp").status_code == 200
    assert len(client.rows("Things/pump-1/GetPropertySubscriptions")) == 1
    assert client.call("PUT", "Things/pump-1/Properties/Temp", {"Temp": 5}).status_code == 200
    assert client.value("pump-1", "Temp") == 5


def test_a_binding_needs_a_known_property_and_push_type(client: Client) -> None:
    path = "Things/pump-1/SetRemotePropertyBinding"
    assert client.service(path, propertyName="Nothing").status_code == 500
    assert client.service(path, propertyName="Temp", pushType="SOMETIMES").status_code == 500


def test_a_property_is_added_bound_and_removed(client: Client) -> None:
    path = "Things/pump-1/AddPropertyDefinition"
    answer = client.service(
        path, name="Flow", type="NUMBER", category="AWSConnectorBound", logged=True, remote=True,
        remotePropertyName="flow", pushType="ALWAYS",
    )  # fmt: skip
    assert (answer.status_code, answer.content) == (200, b"")
    client.push("pump-1", {"name": "flow", "value": 2})
    assert client.value("pump-1", "Flow") == 2
    assert client.service(path, name="Flow", type="NUMBER").status_code == 403
    assert client.service(path, name="X", type="FLOAT").status_code == 500
    assert client.service("Things/pump-1/RemovePropertyDefinition", name="Flow").status_code == 200
    assert client.call("GET", "Things/pump-1/Properties/Flow").status_code == 404
    assert client.service("Things/pump-1/RemovePropertyDefinition", name="isConnected").status_code == 500


def test_a_default_value_shows_until_the_first_write(client: Client) -> None:
    client.service("Things/tank-1/AddPropertyDefinition", name="Max", type="INTEGER", defaultValue="12")
    assert client.value("tank-1", "Max") == 12


def test_bulk_definitions_report_each_row(client: Client) -> None:
    values = {
        "rows": [
            {
                "name": "A",
                "baseType": "NUMBER",
                "isRemote": True,
                "remotePropertyName": "a",
                "isLogged": True,
            },
            {"name": "Level", "baseType": "NUMBER"},
        ]
    }
    path = "Things/tank-1/AddPropertyDefinitions"
    report = client.rows(path, values=values, ignoreInvalidDefinitions=True)
    assert [(row["name"], row["success"]) for row in report] == [("A", True), ("Level", False)]
    assert "already exists" in report[1]["errorMessage"]
    assert client.service(path, values=values).status_code == 403


def test_a_created_thing_must_be_enabled_before_use(client: Client) -> None:
    create = "Resources/EntityServices/CreateThing"
    made = client.service(
        create, name="new", description="", thingTemplateName="RemoteThing", tags="Plant:Line9"
    )
    assert (made.status_code, made.content) == (200, b"")
    assert client.call("GET", "Things/new").json()["enabled"] is False
    assert client.call("GET", "Things/new/Properties").status_code == 503
    client.service("Things/new/EnableThing")
    client.service("Things/new/RestartThing")
    assert client.call("GET", "Things/new/Properties").status_code == 200
    assert client.rows("Things/new/IsEnabled") == [{"result": True}]
    assert client.service(create, name="new", thingTemplateName="RemoteThing").status_code == 500
    assert client.service(create, name="other", thingTemplateName="None").status_code == 500
    assert client.service("Resources/EntityServices/DeleteThing", name="new").status_code == 200
    assert client.call("GET", "Things/new").status_code == 404
    assert client.service("Resources/EntityServices/DeleteThing", name="new").status_code == 500


def test_tags_are_added_and_removed(client: Client) -> None:
    client.service("Things/tank-1/AddTags", tags="Site:North")
    client.service("Things/tank-1/RemoveTags", tags="Plant:Line1")
    assert client.rows("Things/tank-1/GetTags")[0]["result"] == [
        {"vocabulary": "Site", "vocabularyTerm": "North"}
    ]


def test_an_identifier_is_set(client: Client) -> None:
    client.service("Things/pump-1/SetIdentifier", identifier="SN-1")
    assert client.rows("Things/pump-1/GetIdentifier") == [{"result": "SN-1"}]


def test_changes_of_a_thing_move_its_last_modified_date(client: Client) -> None:
    thing = client.server.platform.thing("pump-1")
    for path, params in [
        ("AddTags", {"tags": "A:b"}),
        ("SetIdentifier", {"identifier": "x"}),
        ("AddPropertyDefinition", {"name": "P", "type": "STRING"}),
        ("SetRemotePropertyBinding", {"propertyName": "P"}),
        ("RestartThing", {}),
    ]:
        thing.last_modified = 0
        client.service(f"Things/pump-1/{path}", **params)
        assert thing.last_modified > 0, path


def test_the_platform_says_how_many_things_it_has(client: Client) -> None:
    assert client.rows("Subsystems/PlatformSubsystem/GetThingCount") == [{"result": 2}]
    assert client.rows("Resources/DeviceFunctions/GetUnboundRemoteThings") == [{"name": "pump-1"}]
    assert "RemoteThing" in names(client.call("GET", "ThingTemplates").json()["rows"])
    assert client.call("GET", "ThingTemplates/RemoteThing").status_code == 200
