"""What a function finds beside its own code: the standard library and the AWS SDK, nothing else.

AWS documents that the managed Python runtimes include boto3 and botocore with their dependencies. The
functions run on the interpreter that made the emulator's environment, without that environment's
site-packages: an import that the deployment package forgot fails here as it fails on AWS.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

SDK_MODULES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")


def interpreter() -> str:
    """The Python outside any virtual environment, whatever version a function's `Runtime` names."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(base if base.exists() else Path(os.path.realpath(sys.executable)))


@functools.cache
def sdk_directory() -> Path:
    """A folder with links to the SDK's modules, and only those (made once a start)."""
    folder = Path(tempfile.gettempdir()) / "lambda-runtime"
    folder.mkdir(exist_ok=True)
    for name in SDK_MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"{name} isn't installed in the emulator's environment")
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
    return folder
