"""Each distribution works alone: what it needs is declared, and nothing else comes with it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".cache" / "environments"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def run(*command: str | Path, **settings: str) -> str:
    """Output of a command that must succeed; its errors are shown if it does not."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=env | settings,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def environment(name: str, *projects: str, pins: str | None) -> Path:
    """A virtual environment of its own with these projects; returns its Python."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        run("uv", "venv", "--quiet", "--python", "3.11", folder)
    if pins is not None:
        run("uv", "pip", "sync", "--quiet", "--python", python, "--require-hashes", pins)
    options = ["--no-deps"] if pins is not None else []
    for ours in ("seedbed", "seedbed-seed", "seedbed-worker"):
        options += ["--reinstall-package", ours]  # else uv takes the build of an earlier run
    run("uv", "pip", "install", "--quiet", "--python", python, *options, *projects)
    return python


def test_the_three_versions_are_equal() -> None:
    files = ["pyproject.toml", "services/seed/pyproject.toml", "services/worker/pyproject.toml"]
    versions = {tomllib.loads(Path(ROOT, file).read_text())["project"]["version"] for file in files}
    assert len(versions) == 1


@pytest.mark.parametrize("service", ["seed", "worker"])
def test_a_service_starts_with_only_its_own_pins(service: str) -> None:
    python = environment(service, ".", f"services/{service}", pins=f"requirements/{service}.txt")
    other = "worker" if service == "seed" else "seed"
    run(python, "-c", f"import seedbed_{service}.__main__")
    run(
        python,
        "-c",
        f"import importlib.util as u; assert u.find_spec('seedbed_{other}') is None",
    )


def test_a_client_gets_few_packages_and_imports_no_service() -> None:
    python = environment("client", ".", pins=None)
    installed = {
        line.split("==")[0]
        for line in run("uv", "pip", "freeze", "--python", python).splitlines()
        if "==" in line
    }
    assert installed == {"googleapis-common-protos", "grpcio", "protobuf", "typing-extensions"}
    run(python, "-c", "from seedbed import Client, Entity, once, reason, service_config")


def test_gen_needs_its_extra_and_finds_our_protos_in_the_installed_package(tmp_path: Path) -> None:
    command: list[str | Path] = [
        "-m",
        "seedbed.cli",
        "gen",
        "examples/thermostat/proto",
        "--out",
        tmp_path,
    ]
    bare = environment("cli", ".[cli]", pins=None)
    ended = subprocess.run([bare, *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "grpcio-tools, mypy-protobuf not installed; run: pip install" in ended.stderr
    assert not list(tmp_path.iterdir())

    python = environment("gen", ".[cli,gen]", pins=None)
    run(python, *command)
    made = sorted(path.name for path in tmp_path.rglob("*.py*"))
    assert made == [f"thermostat_pb2{kind}" for kind in (".py", ".pyi", "_grpc.py", "_grpc.pyi")]
    run(python, "-c", "import thermostat.v1.thermostat_pb2_grpc", PYTHONPATH=str(tmp_path))


def test_unit_and_contract_tests_pass_at_the_floors() -> None:
    python = environment(
        "floors",
        *(".", "services/seed", "services/worker", "examples/thermostat"),
        pins="requirements/floors.txt",
    )
    # The generator needs a newer protobuf than its code does.
    without = "--ignore=tests/unit/sdk/test_gen.py"
    output = run(python, "-m", "pytest", "-q", "-x", without, "tests/unit", "tests/contract")
    assert " passed" in output
