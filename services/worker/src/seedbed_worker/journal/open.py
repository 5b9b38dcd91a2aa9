"""From an address to a journal."""

from __future__ import annotations

from pathlib import Path

from seedbed.settings import Secret
from seedbed_worker.journal.port import Journal
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.sqlite import SqliteJournal

SQLITE = "sqlite:///"


def journal_at(address: Secret, *, create: bool = True, require_sync: bool = False) -> Journal:
    """The journal of a checked `SEEDBED_JOURNAL`; nothing is opened yet.

    `create`: `open` may make a file that is not there. `require_sync`: as
    `SEEDBED_JOURNAL_REQUIRE_SYNC`, of a PostgreSQL.
    """
    if not address.read().startswith(SQLITE):
        return PostgresJournal(address.read, require_sync=require_sync)
    return SqliteJournal(Path(address.read().removeprefix(SQLITE)), create=create)
