"""Step Functions: JSONata where the emulator's evaluation differs.

Restored behaviour: all expressions of one Assign see the variables as they were before it; Succeed has
Output. Replaces stepfunctions._apply_state_assign and _apply_output_path; uses _state_query_language,
_apply_jsonata_template, _apply_jsonata_output.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

from typing import Any

import ministack.services.stepfunctions as states

from . import patching


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(states, "_state_query_language", "_apply_jsonata_template", "_apply_jsonata_output")
    patching.replace(states, "_apply_state_assign", _assign_for)
    patching.replace(states, "_apply_output_path", _output_for)


def _assign_for(original: Any) -> Any:
    def assign(
        state_def: dict[str, Any], raw_input: Any, ctx: Any, result: Any = None, error_output: Any = None
    ) -> None:
        if ctx is None or states._state_query_language(state_def, ctx) != "JSONata":
            original(state_def, raw_input, ctx, result=result, error_output=error_output)
            return
        values = {
            name: states._apply_jsonata_template(
                template, raw_input, ctx, result=result, error_output=error_output
            )
            for name, template in (state_def.get("Assign") or {}).items()
        }
        ctx.setdefault("variables", {}).update(values)

    return assign


def _output_for(original: Any) -> Any:
    def output(state_def: dict[str, Any], data: Any, ctx: Any = None) -> Any:
        if state_def.get("Type") == "Succeed" and states._state_query_language(state_def, ctx) == "JSONata":
            return states._apply_jsonata_output(state_def, data, ctx, default=data)
        return original(state_def, data, ctx)

    return output
