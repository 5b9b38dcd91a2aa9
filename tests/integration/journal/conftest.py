"""What holds for all tests of SQLite files: no thread outlives its journal."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Generator[Path]:
    """Of a file that is not there yet."""
    yield tmp_path / "journal.db"
    for thread in threading.enumerate():
        if thread.name.startswith("seedbed-journal"):
            thread.join(timeout=5)
            assert not thread.is_alive()
