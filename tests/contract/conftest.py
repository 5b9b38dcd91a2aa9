"""The journals that the contract is tested with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from seedbed_worker.journal.memory import Memory, MemoryJournal
from seedbed_worker.journal.port import Journal
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.sqlite import SqliteJournal
from tests.contract.journals import Maker, opened

POSTGRES = pytest.param("postgres", marks=pytest.mark.integration)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    if request.param == "memory":
        memory = Memory()
        return lambda: MemoryJournal(memory)
    if request.param == "sqlite":
        return lambda: SqliteJournal(tmp_path / "journal.db")
    dsn = request.getfixturevalue("journal_dsn")
    return lambda: PostgresJournal(lambda: dsn)


@pytest.fixture
async def journal(make: Maker) -> AsyncGenerator[Journal]:
    async with opened(make) as journal:
        yield journal
