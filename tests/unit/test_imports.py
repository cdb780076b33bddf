"""What may import what: lambdas never import the sandbox, and functions never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAMBDAS = ROOT / "lambdas"
FUNCTIONS = ("fetcher", "assigner", "scaler", "router", "connector", "watch")


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports when it runs; type-checking blocks do not run."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(child for part in node.body for child in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted(LAMBDAS.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(LAMBDAS).parts[0]
    for name in imports_of(path):
        top, *rest = name.split(".")
        assert top not in {"sandbox", "tests", "tools", "moto"}, f"{name} is test equipment"
        if top == "lambdas" and rest:
            target = rest[0]
            if room in FUNCTIONS:
                assert target in {room, "shared", "thingworx"}, f"{room} reaches into {target}"
            else:
                assert target not in FUNCTIONS, f"{room} reaches into the function {target}"
