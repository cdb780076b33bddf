"""Runs the real Terraform on a copy of the module, against the sandbox's AWS.

The copy is byte for byte the module that users apply; it keeps state, provider and lock file inside
the sandbox's folder. A provider mirror on this machine's disk is used where there is one, the public
registry elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Terraform", "TerraformError", "provider_mirror"]

ROOT = Path(__file__).resolve().parent.parent
_PARTS = ("terraform", "statemachine")
#: Where machines without a way to the public registry keep provider mirrors.
_MIRROR_ROOTS = (
    "/opt",
    "/usr/local/share",
    "/usr/share",
    "/usr/local/lib",
    "/var/lib",
    "/srv",
    "~/.terraform.d",
)
_MIRROR_DEPTH = 3


class TerraformError(RuntimeError):
    """Terraform ended with an error; the message holds the end of what it said."""


def provider_mirror() -> Path | None:
    """Folder of a filesystem mirror that has the AWS provider, or None.

    `TF_PROVIDER_MIRROR` names one outright; otherwise the usual places are searched.
    """
    named = os.environ.get("TF_PROVIDER_MIRROR")
    if named:
        return Path(named)
    for root in _MIRROR_ROOTS:
        for depth in range(_MIRROR_DEPTH):
            # A mirror is laid out as {mirror}/{registry host}/hashicorp/aws/{version}/{platform}.
            for found in _glob(Path(root).expanduser(), "*/" * (depth + 1) + "hashicorp/aws"):
                return found.parent.parent.parent
    return None


def _glob(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from root.glob(pattern)
    except OSError:
        return  # a folder nobody may read holds no mirror for us


class Terraform:
    """One working copy of the module.

    Args:
        folder: working folder; made anew by `prepare`.
        environment: variables that lead the AWS provider to its account.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._module = folder / "terraform"
        self._variables = folder / "sandbox.tfvars.json"
        self._environment = {**os.environ, **environment, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        # No look for newer releases, and no note of it in the home folder.
        self._environment["CHECKPOINT_DISABLE"] = "1"
        for name in [name for name in self._environment if name.startswith(("TF_CLI_CONFIG", "TF_VAR_"))]:
            del self._environment[name]

    def prepare(self) -> None:
        """Copy the module and install its provider."""
        for part in _PARTS:
            shutil.copytree(
                ROOT / part,
                self._folder / part,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"),
            )
        mirror = provider_mirror()
        if mirror:
            config = self._folder / "terraform.rc"
            config.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n')
            self._environment["TF_CLI_CONFIG_FILE"] = str(config)
        self.run("init", "-no-color")

    def apply(self, variables: Mapping[str, Any]) -> None:
        """`terraform apply` with `variables`."""
        self._variables.write_text(json.dumps(variables, indent=2))
        self.run("apply", "-auto-approve", "-no-color", "-parallelism=20", f"-var-file={self._variables}")

    def destroy(self) -> None:
        """`terraform destroy` of what `apply` made."""
        self.run("destroy", "-auto-approve", "-no-color", "-parallelism=20", f"-var-file={self._variables}")

    def outputs(self) -> dict[str, Any]:
        """The module's outputs."""
        return {name: entry["value"] for name, entry in json.loads(self.run("output", "-json")).items()}

    def run(self, *arguments: str) -> str:
        """Run a Terraform command in the module's folder and return what it printed.

        Raises:
            TerraformError: it ended with an error.
        """
        with (self._folder / "terraform.log").open("a") as log:
            log.write(f"\n$ terraform {' '.join(arguments)}\n")
            done = subprocess.run(
                ["terraform", *arguments],
                cwd=self._module,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise TerraformError(f"terraform {arguments[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout
