"""What names the Things of a topic rule, asked of AWS IoT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ops.returning import UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_iot import IoTClient

__all__ = ["TopicRules"]

#: What AWS IoT answers for a rule that isn't there, and what one would expect.
_NO_RULE = frozenset({"UnauthorizedException", "ResourceNotFoundException"})


class TopicRules:
    """What names the Thing in topic rules, each looked up once.

    Args:
        client: boto3 IoT client.
        named_by: what named it in rules that are gone; None: nobody knows.
    """

    def __init__(self, client: IoTClient, named_by: str | None) -> None:
        self._client = client
        self._named_by = named_by
        self._known: dict[str, str | None] = {}

    def expression(self, rule: str) -> str:
        """The SQL that names a rule's Things: what its partition key is made of.

        Raises:
            UnreadableError: the rule is gone, and nobody said what it was.
        """
        if rule not in self._known:
            self._known[rule] = self._partition_key(rule)
        found = self._known[rule] or self._named_by
        if found is None:
            raise UnreadableError(
                f"the topic rule {rule} is gone, or has no action for the stream; say with --named-by what "
                "named its Things: clientid() or topic(n)"
            )
        return found

    def _partition_key(self, rule: str) -> str | None:
        try:
            actions = self._client.get_topic_rule(ruleName=rule)["rule"].get("actions", [])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _NO_RULE:
                raise
            return None
        keys = (action["kinesis"].get("partitionKey", "") for action in actions if "kinesis" in action)
        return next((key.removeprefix("${").removesuffix("}") for key in keys), None)
