"""A connection that a pooler leads to another server for each transaction."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from seedbed_worker.journal.port import Fence
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.postgres_session import Session, Sessions
from seedbed_worker.journal.postgres_statements import APPEND

pytestmark = pytest.mark.integration

TYPE = "bank.Account"


@asynccontextmanager
async def writing(dsn: str) -> AsyncGenerator[Session]:
    session = await Sessions(lambda: dsn, require_sync=False).writing()
    try:
        yield session
    finally:
        session.connection.terminate()


async def fenced(dsn: str) -> UUID:
    fence = Fence(1, uuid4())
    journal = PostgresJournal(lambda: dsn)
    await journal.open("test")
    await journal.enter({TYPE: 2})
    await journal.take(TYPE, 0, fence)
    await journal.close()
    return fence.writer


async def written(session: Session, writer: UUID) -> bool:
    """Whether an append of no records finds its fence."""
    groups = ([1], [0], [1], [writer], [0])
    columns = len(set(re.findall(r"\$\d+", APPEND)))
    nothing = (list[object]() for _ in range(columns - len(groups)))
    return bool(await session.append(*groups, *nothing))


async def test_a_server_that_does_not_know_the_statement_is_sent_it(journal_dsn: str) -> None:
    writer = await fenced(journal_dsn)
    async with writing(journal_dsn) as session:
        assert await written(session, writer)
        for _ in range(2):
            await session.connection.execute("DEALLOCATE ALL")
            assert await written(session, writer)
        assert not await written(session, uuid4())


async def test_a_server_that_knows_the_statement_from_another_client_is_sent_it(
    journal_dsn: str,
) -> None:
    writer = await fenced(journal_dsn)
    async with writing(journal_dsn) as session:
        await session.prepare()
        assert await written(session, writer)


async def test_nothing_is_set_for_longer_than_a_transaction(journal_dsn: str) -> None:
    writer = await fenced(journal_dsn)
    async with writing(journal_dsn) as session:
        assert await written(session, writer)
        rows = await session.connection.fetch(
            "SELECT name FROM pg_settings WHERE source IN ('client', 'session')"
        )
        assert {row["name"] for row in rows} <= {"client_encoding", "application_name"}
        held = await session.connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
        )
        assert held == 0
