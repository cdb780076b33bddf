"""Runs after the first one: they read what has changed, and nothing else; what is bad harms nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lambdas.fetcher import listing, retry
from lambdas.shared.control_table import ControlTable
from lambdas.shared.errors import ThingworxUnavailable
from lambdas.shared.refusals import Refusals
from lambdas.shared.registry import Registry, connect
from lambdas.shared.settings import AssignerSettings
from sandbox.certificates import Certificates, make_certificates
from sandbox.thingworx.model import remote_property
from tests.aws_mock import CONTROL_TABLE
from tests.integration.whole_stack import BUCKET, Stack, whole_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.shared.shape import Shape

TEMP, LEVEL = remote_property("temp"), remote_property("level", "INTEGER")
NAMES = [f"pump-{number}" for number in range(6)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(retry, "_FIRST", 0.0)
    with whole_stack(certificates, monkeypatch) as made:
        platform = made.platform
        platform.add_shape("Wet", [LEVEL])
        platform.add_template("Pump", properties=[TEMP])
        platform.add_template("Wet Pump", "Pump", shapes=["Wet"])
        for number, name in enumerate(NAMES):
            platform.add_thing(name, "Wet Pump" if number < 2 else "Pump")
        yield made


def read(stack: Stack, run: str, **options: Any) -> set[str]:
    """Names of the Things whose definitions a run reads."""
    stack.server.faults.reset_counters()
    stack.discover(run, **options)
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{run}/definitions-")
    names: set[str] = set()
    for entry in found["Contents"]:
        document = staged(entry["Key"])
        names |= document["things"].keys() | document["failed"].keys()
    assert stack.server.faults.counters()["by_service"].get("GetPropertyDefinitions", 0) >= len(names)
    return names


def staged(key: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    )
    return document


def shapes(stack: Stack) -> dict[str, Shape]:
    """What the router would know of each Thing."""
    registry = Registry(connect(AssignerSettings.from_env(stack.environ)), "demo")
    entries = dict(zip(NAMES, registry.lookup(NAMES), strict=True))
    known = registry.shapes(sorted({entry.shape for entry in entries.values() if entry}))
    return {name: known[entry.shape] for name, entry in entries.items() if entry}


def edges(stack: Stack, name: str) -> dict[str, str]:
    """Property -> edge name, as the router knows them."""
    return {prop: found.edge for prop, found in shapes(stack)[name].items()}


def test_a_run_in_which_nothing_changed_reads_no_definitions(stack: Stack) -> None:
    assert read(stack, "run-1") == set(NAMES)
    before = shapes(stack)
    assert read(stack, "run-2") == set()
    assert shapes(stack) == before
    counts = stack.report()["counts"]
    assert (counts["listed"], counts["read"], counts["kept"]) == (6, 0, 6)


def test_an_edited_thing_is_read_again_and_no_other(stack: Stack) -> None:
    read(stack, "run-1")
    stack.platform.define(stack.platform.thing("pump-3"), remote_property("speed"))
    assert read(stack, "run-2") == {"pump-3"}
    assert edges(stack, "pump-3") == {"temp": "temp", "speed": "speed"}


def test_the_things_of_an_edited_template_are_read_again_those_of_derived_ones_too(stack: Stack) -> None:
    read(stack, "run-1")
    stack.platform.edit_template("Wet Pump", remote_property("depth"))
    assert read(stack, "run-2") == {"pump-0", "pump-1"}
    stack.platform.edit_template("Pump", removed=["temp"])
    stack.platform.edit_template("Pump", remote_property("speed"))
    assert read(stack, "run-3") == set(NAMES)
    assert edges(stack, "pump-0") == {"level": "level", "depth": "depth", "speed": "speed"}


def test_the_things_of_an_edited_shape_are_read_again(stack: Stack) -> None:
    read(stack, "run-1")
    stack.platform.edit_shape("Wet", remote_property("level", "NUMBER"))
    assert read(stack, "run-2") == {"pump-0", "pump-1"}
    assert shapes(stack)["pump-0"]["level"].base_type == "NUMBER"


def test_what_changes_while_a_run_reads_is_read_by_the_next(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(stack, "run-1")
    listed = listing.list_things

    def edit_after(*arguments: Any) -> Any:
        found = listed(*arguments)
        stack.platform.define(stack.platform.thing("pump-3"), remote_property("speed"))
        return found

    with monkeypatch.context() as patch:
        patch.setattr("lambdas.fetcher.survey.list_things", edit_after)
        assert read(stack, "run-2") == set()
    assert read(stack, "run-3") == {"pump-3"}


def test_a_run_that_was_not_published_is_not_relied_on(stack: Stack) -> None:
    read(stack, "run-1")
    stack.platform.define(stack.platform.thing("pump-3"), remote_property("speed"))
    assert read(stack, "run-2", dry_run=True) == {"pump-3"}
    assert read(stack, "run-3") == {"pump-3"}
    assert read(stack, "run-4") == set()


def test_a_pass_over_all_is_made_on_request_and_once_a_day(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(stack, "run-1")
    assert read(stack, "run-2", full=True) == set(NAMES)
    assert stack.report()["why_all"] == "asked for"
    assert read(stack, "run-3") == set()
    monkeypatch.setattr("lambdas.fetcher.changes.FULL_EVERY", 0)
    assert read(stack, "run-4") == set(NAMES)


@pytest.mark.parametrize("body", [b'{"v": 99}', b"{", b'{"v": 1}', b'{"v": 1, "mistakes": []}'])
def test_a_pass_over_all_is_made_when_nobody_can_read_what_was_seen(stack: Stack, body: bytes) -> None:
    read(stack, "run-1")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="fleet/seen.json", Body=body)
    assert read(stack, "run-2") == set(NAMES)
    assert read(stack, "run-3") == set()


def test_a_platform_that_cannot_tell_changes_has_all_read_each_time(stack: Stack) -> None:
    stack.platform.settings.missing_services = frozenset({"SpotlightSearch", "SpotlightSearchV2"})
    read(stack, "run-1")
    assert read(stack, "run-2") == set(NAMES)
    assert stack.report()["why_all"] == "the platform can't tell what has changed"


def test_a_platform_without_pages_is_searched_for_the_times_of_changes(stack: Stack) -> None:
    stack.platform.settings.missing_services = frozenset({"QueryImplementingThingsOptimized"})
    read(stack, "run-1")
    assert read(stack, "run-2") == set()
    stack.platform.define(stack.platform.thing("pump-3"), remote_property("speed"))
    assert read(stack, "run-3") == {"pump-3"}
    assert stack.server.faults.counters()["by_service"].get("QueryImplementingThingsOptimized", 0) == 0


def test_a_run_about_some_things_reads_them_and_leaves_the_others(stack: Stack) -> None:
    read(stack, "run-1")
    for name in ("pump-2", "pump-3"):
        stack.platform.define(stack.platform.thing(name), remote_property("speed"))
    stack.platform.delete_thing("pump-4")
    stack.platform.delete_thing("pump-5")
    stack.platform.add_thing("new", "Pump")
    assert read(stack, "run-2", things=["pump-3", "pump-5", "new", "stranger"]) == {"pump-3", "new"}
    assert {name: set(found) for name, found in shapes(stack).items()} == {
        "pump-0": {"temp", "level"},
        "pump-1": {"temp", "level"},
        "pump-2": {"temp"},
        "pump-4": {"temp"},
        "pump-3": {"temp", "speed"},
    }
    # The next run over all makes up for what this one left.
    assert read(stack, "run-3") == {"pump-2", "pump-3", "new"}
    assert "pump-4" not in shapes(stack)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 403, "body": "no permission"}, "no permission"),
        ({"status": 500, "body": "Unable to Invoke Service : broken definition"}, "broken definition"),
        ({"status": 503, "body": "busy"}, "busy"),
        ({"drop": True}, "no answer"),
    ],
)
def test_a_bad_thing_keeps_what_it_had_is_named_and_read_again(
    stack: Stack, fault: dict[str, Any], reason: str
) -> None:
    read(stack, "run-1")
    before = shapes(stack)
    for name in NAMES:
        stack.platform.define(stack.platform.thing(name), remote_property("speed"))
    stack.server.faults.add(thing="pump-3", service="GetPropertyDefinitions", **fault)
    read(stack, "run-2")
    report = stack.report()
    assert list(report["failed"]) == ["pump-3"]
    assert reason in report["failed"]["pump-3"]
    assert shapes(stack)["pump-3"] == before["pump-3"]
    assert all("speed" in found for name, found in shapes(stack).items() if name != "pump-3")
    stack.server.faults.clear()
    assert read(stack, "run-3") == {"pump-3"}
    assert "speed" in shapes(stack)["pump-3"]


def test_a_thing_deleted_between_list_and_read_keeps_its_entry_until_the_next_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(stack, "run-1")
    listed = listing.list_things

    def delete_after(*arguments: Any) -> Any:
        found = listed(*arguments)
        stack.platform.delete_thing("pump-3")
        return found

    with monkeypatch.context() as patch:
        patch.setattr("lambdas.fetcher.survey.list_things", delete_after)
        read(stack, "run-2", full=True)
    assert list(stack.report()["failed"]) == ["pump-3"]
    assert "pump-3" in shapes(stack)
    stack.discover("run-3")
    assert "pump-3" not in shapes(stack)


def test_an_empty_list_removes_nothing_unless_the_run_allows_it(stack: Stack) -> None:
    read(stack, "run-1")
    for name in NAMES:
        stack.platform.delete_thing(name)
    assert stack.discover("run-2")["removals_withheld"] == 6
    report = stack.report()
    assert (report["removals_withheld"], len(shapes(stack))) == (NAMES, 6)
    assert stack.discover("run-3", allow_removals=True)["removed"] == 6
    assert shapes(stack) == {}


def test_a_renamed_edge_name_is_published_and_kept_by_the_daily_pass(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(stack, "run-1")
    thing = stack.platform.thing("pump-3")
    thing.rebound = {"temp": remote_property("temp", edge_name="T1").binding}
    stack.platform.model_changed(thing)
    read(stack, "run-2")
    assert (edges(stack, "pump-3"), edges(stack, "pump-4")) == ({"temp": "T1"}, {"temp": "temp"})
    monkeypatch.setattr("lambdas.fetcher.survey._EACH_UP_TO", 0)
    monkeypatch.setattr("lambdas.fetcher.changes.FULL_EVERY", 0)
    assert read(stack, "run-3") == set(NAMES)
    assert edges(stack, "pump-3") == {"temp": "T1"}


def test_in_a_large_run_one_of_each_kind_is_asked_for_its_bindings(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_CONCURRENCY", "1")
    monkeypatch.setattr("lambdas.fetcher.survey._EACH_UP_TO", 0)
    read(stack, "run-1")
    assert stack.server.faults.counters()["by_service"]["GetPropertySubscriptions"] == 2  # templates


def test_the_report_names_what_owners_got_wrong_and_goes_on_naming_it(stack: Stack) -> None:
    platform = stack.platform
    platform.add_thing("not remote", "GenericThing", properties=[TEMP])
    platform.add_thing("no-property")
    platform.add_thing("local", properties=[TEMP, remote_property("odd", "NOTHING")])
    local = platform.thing("local")
    local.rebound = {"temp": None}
    platform.add_thing("never", properties=[remote_property("temp", push_type="NEVER")])
    platform.add_thing("named", "Pump", identifier="SN-1")
    stack.discover("run-1")
    slot = next(
        record.slot
        for record in ControlTable(CONTROL_TABLE, stack.dynamodb).things()
        if record.name == "pump-0"
    )
    Refusals(CONTROL_TABLE, stack.dynamodb).tell(slot, {"pump-0": "bound elsewhere"})
    expected = {
        "not remote": [{"code": "not_remote"}, {"code": "name_not_for_iot"}],
        "no-property": [{"code": "no_property"}],
        "local": [{"code": "unsupported_type", "property": "odd"}, {"code": "not_bound", "property": "temp"}],
        "never": [{"code": "push_never", "property": "temp"}],
        "named": [{"code": "identifier_set"}],
    }
    assert stack.report()["mistakes"] == expected
    assert read(stack, "run-2") == set()
    refused = {"pump-0": [{"code": "bind_refused", "detail": "bound elsewhere"}]}
    assert stack.report()["mistakes"] == expected | refused

    local.rebound = None
    platform.model_changed(local)
    platform.set_identifier(platform.thing("named"), "")
    stack.discover("run-3")
    mistakes = stack.report()["mistakes"]
    assert mistakes["local"] == [{"code": "unsupported_type", "property": "odd"}]
    assert "named" not in mistakes


def test_reports_tell_outcome_counts_and_times_and_the_last_thirty_are_kept(stack: Stack) -> None:
    stack.discover("run-1")
    report = stack.report()
    assert report["outcome"] == "published"
    assert report["counts"]["added"] == report["counts"]["things_published"] == len(NAMES)
    assert set(report["steps"]) == {"list", "fetch", "assign", "scale", "publish"}
    stack.discover("run-2", dry_run=True)
    assert stack.report()["outcome"] == "planned"
    stack.server.faults.add(service="QueryImplementingThingsOptimized", status=503)
    with pytest.raises(ThingworxUnavailable):
        stack.discover("run-3")
    report = stack.report()
    assert (report["run"], report["outcome"], report["error"]) == ("run-3", "failed", "ThingworxUnavailable")
    stack.server.faults.clear()
    for number in range(4, 34):
        stack.discover(f"run-{number}", dry_run=True)
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="reports/")["Contents"]
    runs = {entry["Key"].rsplit("Z-", 1)[1].removesuffix(".json") for entry in found}
    assert runs == {f"run-{number}" for number in range(4, 34)}
