"""Brings a SQLite file to this release's schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from seedbed_worker.journal.migrations import migrations, pending


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is pending, within the caller's transaction. Raises `WrongJournal`."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
    )
    applied = dict(connection.execute("SELECT number, checksum FROM schema_version"))
    for migration in pending(migrations("sqlite"), applied):
        for statement in _statements(migration.sql):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO schema_version VALUES (?, ?, ?)",
            (migration.number, migration.name, migration.checksum),
        )


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
