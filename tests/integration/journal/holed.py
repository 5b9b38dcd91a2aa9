"""SQLite journals whose fence has a hole, made in the process that uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed_worker.journal import sqlite_statements
from seedbed_worker.journal.sqlite import SqliteJournal

NO_FENCE = "SELECT last_off FROM fence WHERE type = ? AND shard = ? AND ? > 0 AND ? IS NOT NULL"
NO_WRITER = "SELECT last_off FROM fence WHERE type = ? AND shard = ? AND epoch = ? AND ? NOT NULL"


def holed(path: Path, check: str) -> SqliteJournal:
    """One that asks this of the fence."""
    pytest.MonkeyPatch().setattr(sqlite_statements, "FENCED", check)
    return SqliteJournal(path)
