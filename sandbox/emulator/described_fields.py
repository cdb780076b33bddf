"""Fields that AWS returns as they were set, without which Terraform plans a change for ever.

Restored: tags given to CreateStream; tracing of a state machine; a replication group's KMS key;
DescribeCacheParameters by Source. For alarms see cloudwatch_alarms.py.
Replaces kinesis._create_stream, stepfunctions._create_state_machine and _update_state_machine,
elasticache._create_replication_group, _rg_xml and _describe_cache_parameters; uses elasticache._p,
_replication_groups, kinesis._streams, stepfunctions._state_machines.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
import re
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import elasticache, kinesis, stepfunctions

from . import patching

_PARAMETER = re.compile(r"<Parameter>.*?</Parameter>", re.DOTALL)


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(elasticache, "_p", "_replication_groups")
    patching.require(kinesis, "_streams")
    patching.require(stepfunctions, "_state_machines")
    patching.replace(kinesis, "_create_stream", _tagged_for)
    for name in ("_create_state_machine", "_update_state_machine"):
        patching.replace(stepfunctions, name, _traced_for)
    patching.replace(elasticache, "_create_replication_group", _encrypted_for)
    patching.replace(elasticache, "_rg_xml", _group_xml_for)
    patching.replace(elasticache, "_describe_cache_parameters", _parameters_for)


def _tagged_for(original: Any) -> Any:
    def create(data: dict[str, Any]) -> Any:
        answer = original(data)
        if answer[0] == 200:
            kinesis._streams[data["StreamName"]]["tags"].update(data.get("Tags") or {})
        return answer

    return create


def _traced_for(original: Any) -> Any:
    def change(data: dict[str, Any]) -> Any:
        answer = original(data)
        if answer[0] == 200:
            arn = json.loads(answer[2]).get("stateMachineArn") or data["stateMachineArn"]
            if machine := stepfunctions._state_machines.get(arn):
                tracing = data.get("tracingConfiguration")
                machine["tracingConfiguration"] = tracing or machine.get(
                    "tracingConfiguration", {"enabled": False}
                )
        return answer

    return change


def _encrypted_for(original: Any) -> Any:
    def create(params: dict[str, Any]) -> Any:
        answer = original(params)
        group = elasticache._replication_groups.get(elasticache._p(params, "ReplicationGroupId"))
        if answer[0] == 200 and group is not None:
            group["KmsKeyId"] = elasticache._p(params, "KmsKeyId")
        return answer

    return create


def _group_xml_for(original: Any) -> Any:
    def xml(group: dict[str, Any]) -> str:
        text: str = original(group)
        if key := group.get("KmsKeyId"):
            field = "<AtRestEncryptionEnabled>"
            text = text.replace(field, f"<KmsKeyId>{escape(key)}</KmsKeyId>{field}", 1)
        return text

    return xml


def _parameters_for(original: Any) -> Any:
    def describe(params: dict[str, Any]) -> Any:
        status, headers, body = original(params)
        if source := elasticache._p(params, "Source"):
            wanted = f"<Source>{source}</Source>"
            text = _PARAMETER.sub(lambda match: match[0] if wanted in match[0] else "", body.decode())
            return status, headers, text.encode()
        return status, headers, body

    return describe
