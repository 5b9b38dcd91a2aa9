"""Which PostgreSQL a journal opens, and how its schema gets there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from uuid import uuid4

import asyncpg
import pytest

from seedbed_worker.journal.port import Fence, JournalError, Unavailable, WrongJournal
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.postgres_schema import migrate, pending_sql
from tests.support.postgres import Server

pytestmark = pytest.mark.integration

ALL = ["0001_journal.sql", "0002_reminders.sql"]


@pytest.fixture
async def empty(postgres: Server) -> str:
    """Address of a database in which nothing is."""
    return postgres.dsn(await postgres.create())


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def opens(dsn: str, *, require_sync: bool = False) -> None:
    journal = PostgresJournal(lambda: dsn, require_sync=require_sync)
    try:
        await journal.open("test")
    finally:
        await journal.close()


async def verb(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `seedbed journal migrate`."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "seedbed.cli", "journal", "migrate", *arguments],
        env=clean() | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SEEDBED_")}


async def test_a_database_that_was_not_migrated_is_refused_with_what_to_run(empty: str) -> None:
    with pytest.raises(WrongJournal, match=r"0001_journal.sql, .* seedbed journal migrate"):
        await opens(empty)
    assert await migrate(empty) == ALL
    await opens(empty)


async def test_a_schema_that_lacks_something_is_refused(journal_dsn: str) -> None:
    await execute(journal_dsn, "DELETE FROM seedbed.schema_version")
    with pytest.raises(WrongJournal, match="seedbed journal migrate"):
        await opens(journal_dsn)


async def test_a_schema_that_a_newer_release_has_added_to_is_served(journal_dsn: str) -> None:
    await execute(journal_dsn, "INSERT INTO seedbed.schema_version VALUES (99, 'later', 'sum')")
    await opens(journal_dsn)
    assert await migrate(journal_dsn) == []


async def test_a_schema_of_another_build_is_refused(journal_dsn: str) -> None:
    await execute(journal_dsn, "UPDATE seedbed.schema_version SET checksum = 'other'")
    with pytest.raises(WrongJournal, match="checksum"):
        await opens(journal_dsn)
    with pytest.raises(WrongJournal, match="checksum"):
        await migrate(journal_dsn)


async def test_of_several_who_migrate_each_file_is_applied_by_one(empty: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(migrate(empty)) for _ in range(5)]
    assert sorted(name for run in runs for name in run.result()) == ALL


async def test_what_is_printed_does_the_same(empty: str) -> None:
    await execute(empty, await pending_sql(empty))
    assert await pending_sql(empty) == ""
    assert await migrate(empty) == []
    await opens(empty)


async def test_a_migration_that_fails_leaves_nothing(empty: str) -> None:
    await execute(empty, "CREATE SCHEMA seedbed; CREATE TABLE seedbed.snapshot ()")
    with pytest.raises(JournalError, match='relation "snapshot" already exists'):
        await migrate(empty)
    await execute(empty, "DROP TABLE seedbed.snapshot")
    assert await migrate(empty) == ALL


async def test_the_verb_migrates_and_says_what_it_did(empty: str) -> None:
    code, out, _ = await verb("--print", SEEDBED_JOURNAL=empty)
    assert (code, out) == (0, await pending_sql(empty))
    assert await verb(SEEDBED_JOURNAL=empty) == (
        0,
        "".join(f"applied {name}\n" for name in ALL),
        "",
    )
    assert await verb(SEEDBED_JOURNAL=empty) == (0, "nothing to do\n", "")
    code, out, _ = await verb("-o", "json", SEEDBED_JOURNAL=empty)
    assert (code, json.loads(out)) == (0, {"applied": []})


async def test_the_verb_says_why_not(empty: str, postgres: Server) -> None:
    code, out, _ = await verb()
    assert (code, "SQLite file is migrated when" in out) == (0, True)
    code, _, errors = await verb(SEEDBED_JOURNAL="none")
    assert (code, "SEEDBED_JOURNAL" in errors) == (2, True)
    nobody = "postgresql://u:secret@127.0.0.1:1/db"
    code, _, errors = await verb(SEEDBED_JOURNAL=nobody)
    assert (code, "no connection" in errors, "secret" in errors) == (3, True, False)
    code, _, errors = await verb(SEEDBED_JOURNAL="postgresql://u:se/cret@127.0.0.1:1/db")
    assert (code, "SEEDBED_JOURNAL" in errors, "cret" in errors) == (3, True, False)
    await execute(empty, "CREATE SCHEMA seedbed; CREATE TABLE seedbed.snapshot ()")
    code, _, errors = await verb(SEEDBED_JOURNAL=empty)
    assert (code, "already exists" in errors) == (1, True)


async def test_a_server_that_may_lose_what_it_has_answered_is_refused(journal_dsn: str) -> None:
    with pytest.raises(WrongJournal, match="SEEDBED_JOURNAL_REQUIRE_SYNC"):
        await opens(journal_dsn, require_sync=True)
    await opens(journal_dsn)
    database = journal_dsn.partition("@/")[2].partition("?")[0]
    await execute(journal_dsn, f"ALTER DATABASE {database} SET synchronous_commit = off")
    with pytest.raises(WrongJournal, match="synchronous_commit is off"):
        await opens(journal_dsn)


async def test_a_connection_that_leads_elsewhere_is_not_used(postgres: Server) -> None:
    """As after a failover, or a restore, to a server with another history."""
    one, other = await postgres.journal(), await postgres.journal()
    await opens(other)
    address = one
    journal = PostgresJournal(lambda: address)
    try:
        await journal.open("test")
        await journal.enter({"a.Type": 2})
        address = other
        await disconnected(one)
        with pytest.raises(Unavailable, match="another journal"):
            await journal.take("a.Type", 1, Fence(1, uuid4()))
        address = one
        await journal.take("a.Type", 1, Fence(1, uuid4()))
    finally:
        await journal.close()


async def disconnected(dsn: str) -> None:
    await execute(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
