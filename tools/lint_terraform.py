"""`terraform fmt`, `validate` and `test` of the module, on a copy; says so where there is no Terraform."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from sandbox.terraform import Terraform, TerraformError

__all__ = ["main"]


def main() -> int:
    """Command line; 0 when the module is clean or Terraform is not installed."""
    if not shutil.which("terraform"):
        print("terraform is not installed: the module was not checked")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        terraform = Terraform(Path(folder), {"AWS_REGION": "us-east-1"})
        terraform.prepare()
        try:
            terraform.run("fmt", "-check", "-recursive", "-diff")
            terraform.run("validate", "-no-color")
            terraform.run("test", "-no-color")
        except TerraformError as error:
            print(error)
            return 1
    print("terraform: formatted, valid, tests pass")
    return 0


if __name__ == "__main__":
    sys.exit(main())
