"""EC2: security group rules that name a prefix list.

Restored behaviour: AuthorizeSecurityGroupEgress and -Ingress keep IpPermissions.N.PrefixListIds, and a
rule to one prefix list, which is what Terraform makes, is described with it. Without it Terraform finds
another rule than it made, and can neither change nor destroy it.
Replaces ec2._parse_ip_permissions and _sg_rule_xml; uses ec2._p.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from ministack.services import ec2

from . import patching


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(ec2, "_p")
    patching.replace(ec2, "_parse_ip_permissions", _with_prefix_lists)
    patching.replace(ec2, "_sg_rule_xml", _described_for)


def _with_prefix_lists(original: Any) -> Any:
    def parse(params: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = original(params, prefix)
        for number, rule in enumerate(rules, start=1):
            rule["PrefixListIds"] = _prefix_lists(params, f"{prefix}.{number}.PrefixListIds")
        return rules

    return parse


def _described_for(original: Any) -> Any:
    def describe(group_id: str, rule: dict[str, Any], *, is_egress: bool = False) -> str:
        text: str = original(group_id, rule, is_egress=is_egress)
        for entry in rule.get("PrefixListIds", [])[:1]:
            field = "<ipProtocol>"
            text = text.replace(field, f"<prefixListId>{entry['PrefixListId']}</prefixListId>{field}", 1)
        return text

    return describe


def _prefix_lists(params: dict[str, Any], prefix: str) -> list[dict[str, str]]:
    found = []
    for number in count(1):
        entry = {
            name: value
            for name in ("PrefixListId", "Description")
            if (value := ec2._p(params, f"{prefix}.{number}.{name}"))  # noqa: SLF001 - an overlay is about them
        }
        if "PrefixListId" not in entry:
            break
        found.append(entry)
    return found
