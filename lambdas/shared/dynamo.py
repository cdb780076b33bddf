"""The part of DynamoDB's item format the tables use, and what a lost condition means.

The low-level client is used throughout: it is thread-safe and returns half as many objects as the
resource layer. Numbers are whole numbers here, so they come back as `int`, never as `Decimal`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lambdas.shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["conditional", "from_item", "to_item", "to_value"]


def to_value(value: Any) -> dict[str, Any]:
    """One attribute value, for example `{"N": "1"}`, of any type that `from_item` gives back.

    Raises:
        TypeError: any other type.
    """
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, Mapping):
        return {"M": to_item(value)}
    if isinstance(value, frozenset):
        return {"SS": sorted(value)}
    raise TypeError(f"{type(value).__name__} has no form in the tables")


def to_item(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Attributes in DynamoDB's form; those that are None are left out."""
    return {name: to_value(value) for name, value in attributes.items() if value is not None}


def from_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Inverse of `to_item`."""
    return {name: _from_value(value) for name, value in item.items()}


def _from_value(value: Mapping[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "N":
        return int(content)
    if kind == "M":
        return from_item(content)
    if kind == "SS":
        return frozenset(content)
    return content


@contextlib.contextmanager
def conditional(what: str) -> Iterator[None]:
    """Turn a lost condition of the write inside into `Conflict`, saying `what` was tried.

    Raises:
        Conflict: the condition didn't hold.
    """
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise Conflict(f"{what}: the item changed since it was read") from error
