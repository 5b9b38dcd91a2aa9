"""`seedbed up` starts no etcd that would acknowledge the renewal of a revoked lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.cli import etcd_program

VERSIONS = [
    ("3.5.22", False),
    ("3.5.23", True),
    ("3.5.30", True),
    ("3.6.0", False),
    ("3.6.4", False),
    ("3.6.5", True),
    ("3.7.0", True),
    ("4.0.0", True),
]


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an `etcd` on PATH may be put; there is no checkout beside it."""
    monkeypatch.setattr(etcd_program, "GET_ETCD", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "etcd"


@pytest.mark.parametrize(("version", "good"), VERSIONS)
def test_an_etcd_on_path_is_taken_if_it_is_new_enough(
    on_path: Path, version: str, good: bool
) -> None:
    on_path.write_text(f"#!/bin/sh\necho etcd Version: {version}\n")
    on_path.chmod(0o755)
    assert etcd_program.find({}) == (on_path if good else None)


def test_what_does_not_run_is_no_etcd(on_path: Path) -> None:
    on_path.write_text("#!/bin/sh\nexit 1\n")
    on_path.chmod(0o755)
    assert etcd_program.find({}) is None
