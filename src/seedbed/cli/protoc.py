"""Runs protoc with the plugins of the extra `gen`: modules, gRPC modules, and stubs of both."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from os import environ, pathsep
from pathlib import Path

_NEEDED = {"grpc_tools": "grpcio-tools", "mypy_protobuf": "mypy-protobuf"}
_PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
LIMIT_S = 300.0
"""What one run may take."""


class ProtocError(Exception):
    """A .proto file is wrong; the text is protoc's, with file and line."""


def missing() -> list[str]:
    """Packages of the extra that are not installed."""
    found = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    return found or [name for name in _PLUGINS if _program(name) is None]


def run(sources: Iterable[Path], root: Path, out: Path, descriptors: Path) -> str:
    """Generate code for the sources into `out`, and a descriptor set with line numbers.

    `root` is the folder that imports of the sources begin at. Returns protoc's warnings; raises
    `ProtocError`.
    """
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"-I{folder}" for folder in (root, *_shipped())),
            *(f"--plugin={name}={_program(name)}" for name in _PLUGINS),
            *(f"--python_out={out}", f"--grpc_python_out={out}"),
            *(f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}"),
            *(f"--descriptor_set_out={descriptors}", "--include_imports", "--include_source_info"),
            *map(str, sources),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    if ended.returncode != 0:
        raise ProtocError(ended.stderr.strip() or f"protoc ended with {ended.returncode}")
    return ended.stderr.strip()


def _shipped() -> list[Path]:
    """The folders that `seedbed/v1/options.proto` and `google/rpc/*.proto` are in."""
    folders: list[Path] = []
    for package in ("seedbed", "google.rpc"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            inside = Path(next(iter(spec.submodule_search_locations)))
            folders.append(inside.parents[package.count(".")])
    return folders


def _program(name: str) -> str | None:
    """A program of this environment, also where that is not active."""
    here = sysconfig.get_path("scripts")
    return shutil.which(name, path=f"{here}{pathsep}{environ.get('PATH', '')}")
