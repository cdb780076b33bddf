"""README and docs name only targets, outputs, inputs and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def declared(kind: str) -> set[str]:
    """Names that the Terraform module declares."""
    texts = (path.read_text() for path in (ROOT / "terraform").glob("*.tf"))
    return {name for text in texts for name in re.findall(rf'^{kind} "(\w+)"', text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`| {4})make ([a-z0-9-]+)", text)) <= targets
    assert set(re.findall(r"terraform output -raw (\w+)", text)) <= declared("output")
    assert set(re.findall(r"-var (\w+)=", text)) <= declared("variable")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_names_every_folder_of_the_project() -> None:
    text = (ROOT / "README.md").read_text()
    for folder in ("lambdas", "statemachine", "terraform", "sandbox", "tests", "docs"):
        assert f"`{folder}/`" in text


def test_every_line_of_the_delivery_contract_names_a_test_that_holds_it() -> None:
    text = (ROOT / "docs" / "delivery-contract.md").read_text()
    lines = re.findall(r"^(\d+)\. .+?`(tests/[\w/]+\.py)::(\w+)`", text, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _, _ in lines] == list(range(1, 11))
    for _, file, name in lines:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"
