"""Device shadows: what is sent to AWS IoT, and which of its answers are final."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import boto3
import orjson
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lambdas.connector.shadow import Shadow, ShadowRefused, ShadowUnavailable, is_thing_name
from tests.aws_mock import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_iot_data import IoTDataPlaneClient


@pytest.fixture
def client() -> Iterator[IoTDataPlaneClient]:
    with aws():
        boto3.client("iot").create_thing(thingName="pump")
        yield boto3.client("iot-data")


def state(client: IoTDataPlaneClient, **which: str) -> Any:
    return orjson.loads(client.get_thing_shadow(thingName="pump", **which)["payload"].read())["state"]


class Failing:
    """An iot-data client whose calls fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def update_thing_shadow(self, **_: Any) -> None:
        """As boto3's."""
        raise self.error

    get_thing_shadow = update_thing_shadow


def failure(status: int, code: str = "Code") -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "why"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "UpdateThingShadow")


def shadow_of(client: Any, name: str | None = None, section: str = "desired") -> Shadow:
    return Shadow(client, name=name, section=section)


def test_values_are_desired_and_leave_the_rest_of_the_shadow_alone(client: IoTDataPlaneClient) -> None:
    shadow = shadow_of(client)
    asyncio.run(shadow.update("pump", {"speed": 1.5, "mode": "on"}))
    asyncio.run(shadow.update("pump", {"speed": 2.0}))
    assert state(client)["desired"] == {"speed": 2.0, "mode": "on"}


def test_a_named_shadow_and_the_reported_section_by_choice(client: IoTDataPlaneClient) -> None:
    asyncio.run(shadow_of(client, "control", "reported").update("pump", {"speed": 1.5}))
    assert state(client, shadowName="control") == {"reported": {"speed": 1.5}}
    assert asyncio.run(shadow_of(client, "control").reported("pump")) == {"speed": 1.5}
    assert asyncio.run(shadow_of(client).reported("pump")) == {}


def test_a_shadow_without_reported_state_reports_nothing(client: IoTDataPlaneClient) -> None:
    shadow = shadow_of(client)
    asyncio.run(shadow.update("pump", {"speed": 1.5}))
    assert asyncio.run(shadow.reported("pump")) == {}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "ConflictException"),
        (429, "ThrottlingException"),
        (400, "ThrottlingException"),
        (500, "InternalFailureException"),
        (503, "ServiceUnavailableException"),
    ],
)
def test_conflicts_throttles_and_faults_may_pass(status: int, code: str) -> None:
    with pytest.raises(ShadowUnavailable, match=f"AWS IoT: {code} why"):
        asyncio.run(shadow_of(Failing(failure(status, code))).update("pump", {"speed": 1}))


def test_no_answer_may_pass() -> None:
    with pytest.raises(ShadowUnavailable, match="does not answer"):
        asyncio.run(shadow_of(Failing(ReadTimeoutError(endpoint_url="x"))).update("pump", {"speed": 1}))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "AWS IoT refuses: Code why"),
        (403, "AWS IoT refuses: Code why"),
        (404, "AWS IoT has no thing or shadow of pump: why"),
        (413, "the shadow of pump would have more than 8192 bytes"),
    ],
)
def test_refusals_are_final_and_tell_why(status: int, reason: str) -> None:
    with pytest.raises(ShadowRefused) as caught:
        asyncio.run(shadow_of(Failing(failure(status))).update("pump", {"speed": 1}))
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_a_shadow_that_may_not_be_read_is_refused() -> None:
    with pytest.raises(ShadowRefused):
        asyncio.run(shadow_of(Failing(failure(403))).reported("pump"))


def test_twenty_calls_that_hang_take_no_thread_of_others() -> None:
    release = threading.Event()

    class Hanging:
        def update_thing_shadow(self, **_: Any) -> None:
            """As boto3's."""
            release.wait()

    async def scenario() -> None:
        shadow = shadow_of(Hanging())
        hanging = [asyncio.ensure_future(shadow.update(f"pump-{n}", {})) for n in range(shadow.threads)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: 7) == 7
        assert not any(call.done() for call in hanging)
        release.set()
        await asyncio.gather(*hanging)

    asyncio.run(scenario())


def test_nothing_is_begun_once_it_is_closed(client: IoTDataPlaneClient) -> None:
    shadow = shadow_of(client)
    shadow.close()
    with pytest.raises(ShadowUnavailable, match="replaced"):
        asyncio.run(shadow.update("pump", {"speed": 1}))
    assert asyncio.run(shadow_of(client).reported("pump")) == {}


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("pump", True),
        ("A:b_c-1", True),
        ("p" * 128, True),
        ("p" * 129, False),
        ("", False),
        ("pump 1", False),
        ("pump.1", False),
        ("pümp", False),
        ("pump\n", False),
    ],
)
def test_thing_names_are_those_of_aws_iot(name: str, fits: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_thing_name(name) is fits
