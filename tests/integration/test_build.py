"""The packages that Terraform deploys: same bytes anywhere, and every wheel exists for the target."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tools.build import ROOT, build_code, build_layer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("layer") / "layer-arm64.zip"
    build_layer(target, architecture="arm64", python="3.13")
    return target


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def pinned() -> dict[str, str]:
    lines = (ROOT / "lambdas" / "requirements.txt").read_text().splitlines()
    pins = (line.split("#")[0].strip() for line in lines)
    return {normal(name): version for name, _, version in (pin.partition("==") for pin in pins if pin)}


def test_every_pin_of_the_layer_has_a_wheel_for_python_3_13_on_arm64(layer: Path) -> None:
    with zipfile.ZipFile(layer) as archive:
        found = {
            tuple(name.split("/")[1].removesuffix(".dist-info").rsplit("-", 1))
            for name in archive.namelist()
            if name.endswith(".dist-info/METADATA")
        }
        native = [name for name in archive.namelist() if name.endswith(".so")]
    assert {(normal(name), version) for name, version in found} == set(pinned().items())
    assert native
    assert all("cpython-313-aarch64-linux-gnu" in name or ".abi3." in name for name in native)


def test_the_pins_are_complete(tmp_path: Path) -> None:
    """The layer is built without resolving, so nothing in it may ask for a package that is not pinned."""
    platforms = (f"manylinux{tag}_aarch64" for tag in ("_2_34", "_2_28", "_2_17", "2014"))
    resolved = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-"),
            *("--target", str(tmp_path), "--only-binary=:all:", "--python-version", "3.13"),
            *(argument for platform in platforms for argument in ("--platform", platform)),
            *("-r", str(ROOT / "lambdas" / "requirements.txt")),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {normal(entry["metadata"]["name"]) for entry in json.loads(resolved.stdout)["install"]}
    assert wanted == set(pinned())


def test_the_code_zip_has_the_same_bytes_in_another_folder_and_under_another_umask(tmp_path: Path) -> None:
    here = tmp_path / "here.zip"
    build_code(here)
    copy = tmp_path / "elsewhere" / "deep"
    shutil.copytree(ROOT / "lambdas", copy / "lambdas", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", copy / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy / "lambdas").rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (0, 0))
    program = "import os, pathlib; os.umask(0o077); from tools.build import build_code; "
    subprocess.run(
        [sys.executable, "-c", f"{program}build_code(pathlib.Path('there.zip'))"], cwd=copy, check=True
    )
    assert digest(copy / "there.zip") == digest(here)


def test_the_layer_has_the_same_bytes_when_it_is_built_again(layer: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    build_layer(again, architecture="arm64", python="3.13")
    assert digest(again) == digest(layer)


def test_the_code_zip_holds_the_handlers_and_no_test_equipment(tmp_path: Path) -> None:
    target = tmp_path / "lambdas.zip"
    build_code(target)
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
    for function in ("fetcher", "assigner", "scaler", "router", "connector"):
        assert f"lambdas/{function}/handler.py" in names
    assert all(name.startswith("lambdas/") and name.endswith(".py") for name in names)
