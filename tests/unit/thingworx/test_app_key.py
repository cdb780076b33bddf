"""A key is told to nobody, and what is no key is not sent."""

from __future__ import annotations

from typing import cast

import pytest
from botocore.exceptions import ClientError

from lambdas.shared.errors import ThingworxRefused, ThingworxUnavailable
from lambdas.shared.secrets import Secret
from lambdas.thingworx.app_key import read_app_key


class Stored:
    """A secret's text, or the failure to read it."""

    def __init__(self, content: dict[str, str] | Exception) -> None:
        self.content = content

    def get_secret_value(self, **_: str) -> dict[str, str]:
        """As boto3's."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


def secret(content: dict[str, str] | Exception) -> Secret:
    return Secret(cast("object", Stored(content)), "arn:key")  # type: ignore[arg-type] # a stand-in


def test_a_key_has_its_version_and_is_not_shown() -> None:
    key = read_app_key(secret({"SecretString": "abc-123\n", "VersionId": "v7"}))
    assert (key.text, key.version) == ("abc-123", "v7")
    assert "abc-123" not in repr(key)


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_secret_that_is_no_key_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ThingworxRefused) as caught:
        read_app_key(secret({"SecretString": text, "VersionId": "v1"}))
    assert not text or text not in str(caught.value)


def test_a_secret_of_bytes_needs_a_person() -> None:
    with pytest.raises(ThingworxRefused):
        read_app_key(secret({"VersionId": "v1"}))


def test_a_secret_that_can_not_be_read_now_is_waited_for() -> None:
    error = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "GetSecretValue")
    with pytest.raises(ThingworxUnavailable):
        read_app_key(secret(error))
