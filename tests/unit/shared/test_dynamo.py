"""DynamoDB's item format: what goes in comes back, and nothing else goes in."""

from __future__ import annotations

from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from lambdas.shared.dynamo import conditional, from_item, to_item
from lambdas.shared.errors import Conflict

scalars = st.text(max_size=50) | st.booleans() | st.integers(-(10**30), 10**30)
names = st.text(min_size=1, max_size=20)
items = st.dictionaries(names, scalars | st.dictionaries(names, scalars, max_size=4), max_size=6)


@given(items)
def test_what_goes_in_comes_back(item: dict[str, Any]) -> None:
    assert from_item(to_item(item)) == item


@given(items)
def test_the_form_is_the_one_that_boto3_writes_and_reads(item: dict[str, Any]) -> None:
    assert to_item(item) == {name: TypeSerializer().serialize(value) for name, value in item.items()}
    stored: dict[str, Any] = to_item(item)
    assert {name: TypeDeserializer().deserialize(value) for name, value in stored.items()} == item


def test_bytes_are_kept() -> None:
    assert from_item(to_item({"payload": b"\x00\xff"})) == {"payload": b"\x00\xff"}


def test_sets_of_names_are_kept() -> None:
    names = frozenset({"pump", "fan"})
    assert to_item({"names": names}) == {"names": {"SS": ["fan", "pump"]}}
    assert from_item(to_item({"names": names})) == {"names": names}


def test_an_attribute_that_is_none_is_absent() -> None:
    assert to_item({"owner": None, "until": 1}) == {"until": {"N": "1"}}


@pytest.mark.parametrize("value", [1.5, {1}, object()])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no form"):
        to_item({"value": value})


def test_only_a_lost_condition_is_a_conflict() -> None:
    lost = ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, "PutItem")
    busy = ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "PutItem")
    with pytest.raises(Conflict, match="create slot 1"), conditional("create slot 1"):
        raise lost
    with pytest.raises(ClientError, match="Throttling"), conditional("create slot 1"):
        raise busy
