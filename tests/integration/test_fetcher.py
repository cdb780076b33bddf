"""The fetcher against a simulated platform, S3 and DynamoDB."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import boto3
import pytest
import trustme

from lambdas.fetcher import handler, retry
from lambdas.fetcher.pace import Pace
from lambdas.shared.errors import RunLost, ThingworxRefused, ThingworxUnavailable
from lambdas.shared.run_lock import RunLock
from lambdas.shared.shape import Property, shape_id, to_item
from lambdas.shared.staging import Staging, StagingFault
from sandbox.thingworx.model import remote_property
from sandbox.thingworx.server import SimulatorServer
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aws_lambda_powertools.utilities.typing import LambdaContext

BUCKET = "demo-staging"
TAG = "AWS_CONNECTED_THING:AWS_CONNECTED_THING"
RUN = "run-1"
SHAPE = {"Temp": Property("NUMBER", "Temp")}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[SimulatorServer]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob, path in zip([certificate.cert_chain_pems[0], certificate.private_key_pem], files, strict=True):
        blob.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with SimulatorServer(tls=files, control_port=None) as server:
        variables = {
            "STACK": "demo",
            "CONTROL_TABLE": CONTROL_TABLE,
            "STAGING_BUCKET": BUCKET,
            "THINGWORX_URL": f"{server.url}/Thingworx",
            "THING_TAG": TAG,
            "PROPERTY_CATEGORY": "AWSConnectorBound",
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),  # wins over the other where a machine sets it
        }
        with aws(), mock.patch.dict(os.environ, variables), mock.patch.object(retry, "_FIRST", 0.0):
            secret = boto3.client("secretsmanager").create_secret(Name="key", SecretString=server.app_key)
            os.environ["THINGWORX_APP_KEY_SECRET_ARN"] = secret["ARN"]
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            RunLock(CONTROL_TABLE, create_control_table()).begin(RUN, 10**9, 1_800_000_000_000)
            handler._parts.cache_clear()
            yield server
            handler._parts().platform.close()
            handler._parts.cache_clear()


def call(action: str, run: str = RUN, **event: Any) -> dict[str, Any]:
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    return handler.handle({"action": action, "run": run, **event}, cast("LambdaContext", context))


def staged(name: str) -> dict[str, Any]:
    return Staging(boto3.client("s3"), BUCKET, RUN).get(name)


def add(server: SimulatorServer, count: int, *properties: Any) -> list[str]:
    names = [f"Pump {number:05}" for number in range(count)]
    for name in names:
        server.platform.add_thing(name, tags=[TAG], properties=properties or [remote_property("Temp")])
    return names


def test_tagged_things_are_listed_beyond_the_platforms_silent_limit(platform: SimulatorServer) -> None:
    names = add(platform, 1203)
    platform.platform.add_thing("untagged", tags=["Other:Tag"], properties=[remote_property("Temp")])
    assert call("list") == {"things": 1203, "to_read": 1203, "packets": [0, 1, 2]}
    assert [name for packet in range(3) for name in staged(f"list-{packet}")["things"]] == names


def test_no_things_are_one_empty_packet(platform: SimulatorServer) -> None:
    assert call("list") == {"things": 0, "to_read": 0, "packets": [0]}
    assert call("fetch", packet=0) == {"read": 0, "failed": 0}


def test_definitions_are_staged_with_their_shapes(platform: SimulatorServer) -> None:
    names = add(
        platform,
        3,
        remote_property("Temp"),
        remote_property("Secret", "NOTHING"),
        remote_property("Local", category="Other"),
    )
    call("list")
    assert call("fetch", packet=0) == {"read": 3, "failed": 0}
    document = staged("definitions-0")
    assert document["things"] == dict.fromkeys(names, shape_id(SHAPE))
    assert document["shapes"] == {shape_id(SHAPE): to_item(SHAPE)}
    assert document["unsupported"] == {name: ["Secret"] for name in names}


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"drop": True}])
def test_a_platform_that_is_busy_for_a_moment_is_asked_again(
    platform: SimulatorServer, fault: dict[str, Any]
) -> None:
    add(platform, 5)
    platform.faults.add(service="QueryImplementingThingsOptimized", times=1, **fault)
    platform.faults.add(service="GetPropertyDefinitions", times=2, **fault)
    assert call("list")["things"] == 5
    assert call("fetch", packet=0) == {"read": 5, "failed": 0}


def test_a_thing_deleted_meanwhile_is_reported(platform: SimulatorServer) -> None:
    names = add(platform, 3)
    call("list")
    platform.platform.delete_thing(names[1])
    assert call("fetch", packet=0) == {"read": 2, "failed": 1}
    assert list(staged("definitions-0")["failed"]) == [names[1]]


def test_a_platform_without_paging_is_listed_all_the_same(platform: SimulatorServer) -> None:
    names = add(platform, 600)
    platform.faults.add(service="QueryImplementingThingsOptimized", status=404)
    call("list")
    assert staged("list-0")["things"] + staged("list-1")["things"] == names
    platform.faults.add(service="SearchModelTags", status=404)
    call("list")
    assert staged("list-0")["things"] + staged("list-1")["things"] == names


def test_a_platform_that_starts_is_unavailable(platform: SimulatorServer) -> None:
    add(platform, 1)
    platform.faults.starting = True
    with pytest.raises(ThingworxUnavailable):
        call("list")


def test_a_login_page_is_a_refusal(platform: SimulatorServer) -> None:
    add(platform, 1)
    call("list")
    platform.faults.add(redirect="https://login.example/")
    with pytest.raises(ThingworxRefused):
        call("fetch", packet=0)


def test_a_run_that_lost_the_lock_asks_the_platform_nothing(platform: SimulatorServer) -> None:
    with pytest.raises(RunLost):
        call("list", run="run-2")


def test_a_packet_nobody_listed_is_refused_in_words(platform: SimulatorServer) -> None:
    with pytest.raises(StagingFault, match=r"list-7\.json is missing"):
        call("fetch", packet=7)


def test_an_unknown_action_is_refused_in_words(platform: SimulatorServer) -> None:
    with pytest.raises(ValueError, match="list, fetch"):
        call("write")


def test_all_fetchers_together_keep_to_the_rate(
    platform: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def pace(per_second: float, window: int) -> Pace:
        rates.append(per_second)
        return Pace(0, window)

    monkeypatch.setenv("FETCH_PER_SECOND", "120")
    monkeypatch.setattr(handler, "Pace", pace)
    add(platform, 1203)
    packets = call("list")["packets"]
    for packet in packets:
        call("fetch", packet=packet)
    assert rates == [120, *(40 for _ in packets)]
