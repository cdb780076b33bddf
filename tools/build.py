"""Build what Terraform deploys: `lambdas.zip` and one dependency layer.

The same sources and pins give the same bytes in any folder, under any umask, on any day: entries are
sorted, carry one fixed date and mode, and are stored rather than compressed, since compressors differ
between machines. Wheels are fetched for the target and unpacked as they are: nothing is compiled here.

    python tools/build.py [--architecture arm64] [--python 3.13] [--out dist]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
LAMBDAS = ROOT / "lambdas"
REQUIREMENTS = LAMBDAS / "requirements.txt"

#: Zip can't say anything earlier.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
#: Amazon Linux 2023, under Python 3.12 and newer, has glibc 2.34; older tags run there too.
_GLIBC = ("2_34", "2_28", "2_17")


def build_code(target: Path) -> None:
    """Write the zip with the `lambdas` package."""
    sources = sorted(path for path in LAMBDAS.rglob("*.py") if "__pycache__" not in path.parts)
    _write(target, ((path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in sources))


def build_layer(target: Path, *, architecture: str, python: str) -> None:
    """Write the layer zip with everything in lambdas/requirements.txt for one target.

    Args:
        target: zip to write.
        architecture: `arm64` or `x86_64`.
        python: for example `3.13`.

    Raises:
        subprocess.CalledProcessError: a wheel does not exist for the target, or the index is out of reach.
    """
    with tempfile.TemporaryDirectory() as folder:
        _download(Path(folder), architecture=architecture, python=python)
        entries: dict[str, bytes] = {}
        for wheel in sorted(Path(folder).glob("*.whl")):
            entries.update(_unpacked(wheel))
    _write(target, sorted(entries.items()))


def _download(folder: Path, *, architecture: str, python: str) -> None:
    machine = _MACHINES[architecture]
    platforms = [f"manylinux_{glibc}_{machine}" for glibc in _GLIBC] + [f"manylinux2014_{machine}"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        + ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        + [argument for platform in platforms for argument in ("--platform", platform)]
        + ["--dest", str(folder), "--requirement", str(REQUIREMENTS)],
        check=True,
    )


def _unpacked(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Entries of a wheel where a layer has them: below `python/`, without scripts."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if name.endswith("/") or path.parts[0].endswith(".data"):
                continue
            yield f"python/{name}", archive.read(name)


def _write(target: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".tmp")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix, whatever machine this is: the mode is read by it
            info.external_attr = _MODE << 16
            archive.writestr(info, data)
    unfinished.replace(target)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build lambdas.zip and the dependency layer.")
    parser.add_argument("--architecture", choices=sorted(_MACHINES), default="arm64")
    parser.add_argument("--python", default="3.13", help="Python version of the functions")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    build_code(options.out / "lambdas.zip")
    build_layer(
        options.out / f"layer-{options.architecture}.zip",
        architecture=options.architecture,
        python=options.python,
    )
    for path in sorted(options.out.glob("*.zip")):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
