"""From an address to a journal."""

from __future__ import annotations

from pathlib import Path

from seedbed.settings import Secret
from seedbed_worker.journal.port import Journal
from seedbed_worker.journal.sqlite import SqliteJournal

SQLITE = "sqlite:///"


def journal_at(address: Secret, *, create: bool = True) -> Journal:
    """The journal of a checked `SEEDBED_JOURNAL`; nothing is opened yet.

    `create`: `open` may make it if it is not there.
    """
    return SqliteJournal(Path(address.read().removeprefix(SQLITE)), create=create)
