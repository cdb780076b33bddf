"""The module's inputs and outputs as Markdown tables, from variables.tf and outputs.tf.

python -m tools.terraform_inputs            # prints them
python -m tools.terraform_inputs --write    # puts them into docs/configuration.md, between its markers
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["DOCUMENT", "defaults", "main", "updated"]

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "configuration.md"
_MODULE = ROOT / "terraform"
_OPTIONAL = re.compile(r"^    (\w+) += optional\([^,]+(?:\([^)]*\))?, (.+)\)$", re.MULTILINE)


def _blocks(kind: str, text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(rf'^{kind} "(\w+)" {{\n(.*?)^}}\n', text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def _argument(name: str, block: str) -> str | None:
    found = re.search(rf"^  {name} += (.+)$", block, re.MULTILINE)
    return found[1] if found else None


def _default(block: str) -> str | None:
    default = _argument("default", block)
    if default == "{}" and (parts := _OPTIONAL.findall(block)):
        return "{ " + ", ".join(f"{name} = {value}" for name, value in parts) + " }"
    return default


def defaults() -> dict[str, str | None]:
    """Each input's default as HCL, objects with all their fields; None for a required input."""
    return {
        name: _default(block) for name, block in _blocks("variable", (_MODULE / "variables.tf").read_text())
    }


def _cell(text: str) -> str:
    return text.strip('"').replace('\\"', '"').replace("|", "\\|")


def _tables() -> dict[str, str]:
    variables = (_MODULE / "variables.tf").read_text()
    inputs = ["| input | default | what it is |", "| --- | --- | --- |"]
    for name, block in _blocks("variable", variables):
        default = _default(block)
        shown = "required" if default is None else f"`{default}`"
        inputs.append(f"| `{name}` | {shown} | {_cell(_argument('description', block) or '')} |")
    outputs = ["| output | what it is |", "| --- | --- |"]
    for name, block in _blocks("output", (_MODULE / "outputs.tf").read_text()):
        outputs.append(f"| `{name}` | {_cell(_argument('description', block) or '')} |")
    return {"inputs": "\n".join(inputs), "outputs": "\n".join(outputs)}


def updated(document: str) -> str:
    """`document` with today's tables between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    for name, table in _tables().items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in document or end not in document:
            raise ValueError(f"the document needs the lines {begin} and {end}")
        before, rest = document.split(begin, 1)
        document = f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
    return document


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Command line."""
    if list(arguments) == ["--write"]:
        DOCUMENT.write_text(updated(DOCUMENT.read_text()))
    else:
        print("\n\n".join(_tables().values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
