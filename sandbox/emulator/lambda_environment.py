"""What a Python function finds in its environment: variables, its own code, its layers.

Restored behaviour: the documented environment variables and nothing of the emulator's own environment;
code first on the path, then the layers, the last one first. Uses lambda_runtime.execution_credentials,
_account_region_from_function_config, _RESERVED_RUNTIME_ENV_VARS and lambda_svc._resolve_layer_zip.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ministack.core.lambda_runtime as runtime
import ministack.services.lambda_svc as service

from . import managed_runtime, patching, settings

if TYPE_CHECKING:
    from .lambda_logs import LogStream

_extracting = threading.Lock()


def check() -> None:
    """Raise OverlayError if the emulator lacks what this module uses."""
    patching.require(
        runtime, "execution_credentials", "_account_region_from_function_config", "_RESERVED_RUNTIME_ENV_VARS"
    )
    patching.require(service, "_resolve_layer_zip")


def variables(config: dict[str, Any], code: Path, folder: Path, log: LogStream) -> dict[str, str]:
    """The variables that AWS documents for every function, under the function's own ones."""
    _, region = runtime._account_region_from_function_config(config)
    logging_config = config.get("LoggingConfig") or {}
    own = {
        name: value
        for name, value in ((config.get("Environment") or {}).get("Variables") or {}).items()
        if name not in runtime._RESERVED_RUNTIME_ENV_VARS
    }
    defaults = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "TZ": ":UTC",
    }
    if settings.CA_BUNDLE:
        defaults["SSL_CERT_FILE"] = settings.CA_BUNDLE
    if (level := logging_config.get("ApplicationLogLevel")) and logging_config.get("LogFormat") == "JSON":
        defaults["AWS_LAMBDA_LOG_LEVEL"] = level
    fixed = {
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', 'python')}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.get("MemorySize", 128)),
        "AWS_LAMBDA_FUNCTION_NAME": config.get("FunctionName", ""),
        "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": logging_config.get("LogFormat", "Text"),
        "AWS_LAMBDA_LOG_GROUP_NAME": log.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log.name,
        "AWS_REGION": region,
        "LAMBDA_RUNTIME_DIR": str(managed_runtime.sdk_directory()),
        "LAMBDA_TASK_ROOT": str(code),
        "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "_HANDLER": config.get("Handler", ""),
    }
    credentials = {name: value for name, value in runtime.execution_credentials(config).items() if value}
    return {**defaults, **own, **fixed, **credentials}


def layer_paths(config: dict[str, Any]) -> list[str]:
    """The import path that a function's layers give it."""
    packages = [service._resolve_layer_zip(layer) for layer in config.get("Layers") or []]
    layers = [unpacked(package) for package in packages if package]
    return [path for layer in reversed(layers) for path in _python_paths(layer)]


def _python_paths(layer: Path) -> list[str]:
    """The folders of a layer that AWS puts on the path of a Python function."""
    python = layer / "python"
    return [
        str(path) for path in [*sorted(python.glob("lib/python3*/site-packages")), python] if path.is_dir()
    ]


def unpacked(package: bytes) -> Path:
    """The folder with a package's files; equal packages share one, as they are read-only on AWS."""
    parent = Path(tempfile.gettempdir()) / "lambda-packages"
    folder = parent / hashlib.sha256(package).hexdigest()[:32]
    with _extracting:
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                archive.extractall(partial)
            partial.rename(folder)
    return folder
