"""What the broker says of a client, through boto3's own model of GetConnection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambdas.connector.connections import Connections, NotAllowed
from lambdas.connector.presence_record import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

SINCE = 1_800_000_000_000


@pytest.fixture
def stubbed() -> Iterator[tuple[Connections, Stubber]]:
    client = boto3.client(
        "iot-data", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(client) as stubber:
        yield Connections(client), stubber


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ({"connected": True, "connectedSince": SINCE}, Answer(connected=True, since=SINCE)),
        ({"connected": False, "disconnectedSince": SINCE}, Answer(connected=False, since=SINCE)),
        ({"connected": False}, Answer(connected=False, since=None)),
        ({"connected": True}, Answer(connected=True, since=None)),
    ],
)
def test_an_answer_says_whether_a_client_is_connected_and_since_when(
    stubbed: tuple[Connections, Stubber], response: dict[str, object], answer: Answer
) -> None:
    connections, stubber = stubbed
    stubber.add_response("get_connection", response, {"clientId": "site/pump 1"})
    assert connections.ask("site/pump 1") == answer
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "InvalidRequestException"])
def test_a_client_that_nobody_knows_is_not_connected(stubbed: tuple[Connections, Stubber], code: str) -> None:
    connections, stubber = stubbed
    stubber.add_client_error("get_connection", code)
    assert connections.ask("pump") == Answer(connected=False, since=None)


def test_a_name_that_no_client_can_have_is_not_connected(stubbed: tuple[Connections, Stubber]) -> None:
    connections, stubber = stubbed
    stubber.add_response("get_connection", {"connected": True})
    assert connections.ask("") == Answer(connected=False, since=None)


@pytest.mark.parametrize("code", ["ForbiddenException", "AccessDeniedException"])
def test_a_missing_permission_is_told_apart(stubbed: tuple[Connections, Stubber], code: str) -> None:
    connections, stubber = stubbed
    stubber.add_client_error("get_connection", code)
    with pytest.raises(NotAllowed):
        connections.ask("pump")


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailureException"])
def test_what_may_pass_says_nothing_about_the_client(stubbed: tuple[Connections, Stubber], code: str) -> None:
    connections, stubber = stubbed
    stubber.add_client_error("get_connection", code)
    with pytest.raises(ClientError):
        connections.ask("pump")
