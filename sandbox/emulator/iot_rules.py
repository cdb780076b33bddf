"""IoT topic rules: the Kinesis action, templates, and what a SELECT may ask of a payload.

Restored behaviour, as the IoT developer guide documents it:
- the action `kinesis`; its failure reaches the rule's error action like any other;
- substitution templates see the original message and the SQL functions, never the SELECT's output: a
  template that names an alias, or a field that isn't there, fails the action;
- a payload that isn't JSON: `SELECT *` alone gives its bytes, a SELECT of functions only works, any
  other SELECT gives nothing;
- a SQL function that the emulator doesn't know fails CreateTopicRule (SqlParseException) instead of
  silently leaving its field out.
Replaces iot._validate_rule_sql, _rule_event, _run_rule_actions and _dispatch_rule_action; extends
_RULE_ACTION_RESOURCE_KEYS; uses _eval_select_expr, _rule_message, _rule_select_clause,
_split_select_items, _split_select_alias, _unimplemented_sql_functions, _SELECT_FUNC_RE, _MISSING and
kinesis._put_record.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import base64
import contextvars
import json
import re
from typing import Any, NamedTuple

from ministack.core.responses import set_request_account_id, set_request_region
from ministack.services import iot, kinesis

from . import patching


class Published(NamedTuple):
    """The message that a rule works on."""

    topic: str
    payload: bytes
    client_id: str | None


class RuleActionError(RuntimeError):
    """A rule action failed; the error action is told why."""


_published: contextvars.ContextVar[Published] = contextvars.ContextVar("published")
_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(kinesis, "_put_record")
    patching.require(
        iot,
        *("_RULE_ACTION_RESOURCE_KEYS", "_eval_select_expr", "_rule_message", "_rule_select_clause"),
        *("_split_select_items", "_split_select_alias", "_unimplemented_sql_functions", "_SELECT_FUNC_RE"),
        "_MISSING",
    )
    iot._RULE_ACTION_RESOURCE_KEYS["kinesis"] = ("streamName",)
    patching.replace(iot, "_validate_rule_sql", _validate_for)
    patching.replace(iot, "_rule_event", _event_for)
    patching.replace(iot, "_run_rule_actions", _run_for)
    patching.replace(iot, "_dispatch_rule_action", _dispatch_for)


def _validate_for(original: Any) -> Any:
    def validate(sql: str) -> str | None:
        if unknown := iot._unimplemented_sql_functions(sql):
            return f"the sandbox doesn't implement the SQL function(s) {', '.join(unknown)}"
        return original(sql)

    return validate


def is_json(payload: bytes) -> bool:
    """Whether a payload is a JSON text."""
    try:
        json.loads(payload.decode())
    except ValueError:
        return False
    return True


def _event_for(original: Any) -> Any:
    def event(sql: str, topic: str, payload: bytes, client_id: str | None = None, message: Any = None) -> Any:
        if is_json(payload):
            return original(sql, topic, payload, client_id, message=message)
        items = [
            iot._split_select_alias(item)[0]
            for item in iot._split_select_items(iot._rule_select_clause(sql)) or ["*"]
        ]
        if items == ["*"]:
            return bytes(payload)
        if all(iot._SELECT_FUNC_RE.match(item) for item in items):
            return original(sql, topic, payload, client_id, message=message)
        return iot._MISSING

    return event


def _run_for(original: Any) -> Any:
    async def run(  # noqa: PLR0917 - the emulator's own signature
        account: str, region: str, rule: dict, payload: bytes, topic: str = "", client_id: str | None = None
    ) -> None:
        token = _published.set(Published(topic, bytes(payload or b""), client_id))
        try:
            await original(account, region, rule, payload, topic, client_id)
        finally:
            _published.reset(token)

    return run


def _dispatch_for(original: Any) -> Any:
    async def dispatch(account: str, region: str, rule_name: str, action: dict, event: Any) -> None:
        if "kinesis" in action:
            contextvars.copy_context().run(_put_record, account, region, action["kinesis"], event)
        else:
            await original(account, region, rule_name, action, _text(event))

    return dispatch


def _text(event: Any) -> Any:
    """What the other actions are given: they carry text, so bytes must be one."""
    if not isinstance(event, bytes):
        return event
    try:
        return event.decode()
    except UnicodeDecodeError as error:
        raise RuleActionError(f"the action can't carry a binary payload: {error}") from error


def _put_record(account: str, region: str, action: dict[str, Any], event: Any) -> None:
    set_request_account_id(account)
    set_request_region(region)
    key = evaluate(action.get("partitionKey") or "${newuuid()}")
    data = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
    status, _, body = kinesis._put_record(
        {
            "StreamName": evaluate(action["streamName"]),
            "PartitionKey": key,
            "Data": base64.b64encode(data).decode(),
        }
    )
    if status >= 400:
        error = json.loads(body)
        raise RuleActionError(f"{error.get('__type')}: {error.get('message')}")


def evaluate(template: str) -> str:
    """Fill a substitution template from the original message.

    Raises:
        RuleActionError: An expression has no value there.
    """
    published = _published.get()
    message = iot._rule_message(published.payload)

    def fill(match: re.Match[str]) -> str:
        value = iot._eval_select_expr(
            match[1], published.topic, published.payload, message, published.client_id
        )
        if value is iot._MISSING or value is None:
            raise RuleActionError(f"{match[0]} has no value in the original message")
        return value if isinstance(value, str) else json.dumps(value)

    return _TEMPLATE.sub(fill, template)
