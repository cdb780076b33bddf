"""What a topic rule reported when it couldn't put a message into the stream, made into the record it meant.

The report is AWS IoT's error action message (docs/reference/data-formats.md). It has the message as it was
published, but neither its time nor the Thing: the time is taken from the queue, the Thing from the
rule's own expression.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import Any, NamedTuple

import orjson

from ops.returning import LONGEST_KEY, StreamRecord, UnreadableError

__all__ = ["RuleError", "is_expression", "read_rule_error", "record_of"]

_EXPRESSION = re.compile(r"clientid\(\)|topic\(([1-9][0-9]?)\)")
#: What AWS IoT allows as a rule's name; it refuses to be asked for any other.
_RULE_NAME = re.compile(r"[a-zA-Z0-9_]{1,128}")
_LIFECYCLE = "$aws/events/presence/"
#: What the report has for a message without a client, and what the rules' SQL has for it.
_NO_CLIENT_REPORTED, _NO_CLIENT = "N/A", "n/a"


class RuleError(NamedTuple):
    """One failure of a rule.

    Attributes:
        rule: its name.
        topic: as the rule's SQL sees it, without what Basic Ingest puts before it.
        client: MQTT client id, `n/a` over HTTPS.
        payload: as published, base64.
    """

    rule: str
    topic: str
    client: str
    payload: str

    @property
    def is_lifecycle(self) -> bool:
        """Whether it is about who connects: such a record is the message itself."""
        return self.topic.startswith(_LIFECYCLE)


def is_expression(text: str) -> bool:
    """Whether a text is SQL that may name the Thing: `clientid()` or `topic(n)`."""
    return _EXPRESSION.fullmatch(text) is not None


def read_rule_error(body: str) -> RuleError:
    """Read a report.

    Raises:
        UnreadableError: it isn't one.
    """
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError("it is not JSON, so no report of a topic rule") from error
    if type(document) is not dict:
        raise UnreadableError("it is no JSON object, so no report of a topic rule")
    rule, topic, client, payload = (
        _text(document, name) for name in ("ruleName", "topic", "clientId", "base64OriginalPayload")
    )
    if not _RULE_NAME.fullmatch(rule):
        raise UnreadableError("its ruleName can't be a topic rule's")
    try:
        a2b_base64(payload, strict_mode=True)
    except ValueError as error:
        raise UnreadableError("base64OriginalPayload is not base64") from error
    topic = topic.removeprefix(f"$aws/rules/{rule}/")
    return RuleError(rule, topic, _NO_CLIENT if client == _NO_CLIENT_REPORTED else client, payload)


def record_of(error: RuleError, expression: str, time: int) -> StreamRecord:
    """The record that the rule would have written.

    Args:
        error: what it reported.
        expression: the SQL that names the Thing; nobody asks for it where `is_lifecycle` holds.
        time: when it failed, milliseconds since 1970 UTC.

    Raises:
        UnreadableError: the expression is none that names a Thing.
    """
    if error.is_lifecycle:
        return _lifecycle(error)
    thing = _thing(error, expression)
    # The stream takes no other keys, so such a message failed, and would for ever; the router holds it.
    key = thing[:LONGEST_KEY] or _NO_CLIENT
    envelope = {"d": error.payload, "n": thing, "c": error.client, "t": time, "s": error.topic}
    return StreamRecord(key, orjson.dumps(envelope))


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if type(value) is not str:
        raise UnreadableError(f"it has no text {name}, as a report of a topic rule does")
    return value


def _thing(error: RuleError, expression: str) -> str:
    """What stands where the expression looks for the name; empty where nothing does."""
    found = _EXPRESSION.fullmatch(expression)
    if found is None:
        raise UnreadableError(
            f"the topic rule {error.rule} names Things by {expression}, not by clientid() or topic(n)"
        )
    level = found[1]
    if level is None:
        return error.client
    levels = error.topic.split("/")
    return levels[int(level) - 1] if int(level) <= len(levels) else ""


def _lifecycle(error: RuleError) -> StreamRecord:
    event = a2b_base64(error.payload)
    try:
        document: Any = orjson.loads(event)
    except orjson.JSONDecodeError as fault:
        raise UnreadableError("it is about a lifecycle event that is not JSON") from fault
    client = document.get("clientId") if type(document) is dict else None
    if type(client) is not str or not 0 < len(client) <= LONGEST_KEY:
        raise UnreadableError("it is about a lifecycle event without a clientId")
    return StreamRecord(client, event)
