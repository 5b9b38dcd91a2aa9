"""The schema of a PostgreSQL journal: which release's it is, and the way to this one's.

Nothing changes it but `migrate`, which somebody calls. Releases add first, and take away what no
release still in use needs: so the one before this works on a journal that has been migrated for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from seedbed_worker.journal.migrations import Migration, migrations, pending
from seedbed_worker.journal.port import JournalError, WrongJournal
from seedbed_worker.journal.postgres_errors import said
from seedbed_worker.journal.postgres_session import connect

if TYPE_CHECKING:
    from seedbed_worker.journal.postgres_session import Connection

MIGRATE_HINT = "run: seedbed journal migrate"

_LOCK = 0x5EEDBED
"""Of PostgreSQL's advisory locks: whoever migrates has it."""

_HAS_SCHEMA = "SELECT to_regclass('seedbed.schema_version') IS NOT NULL"
_APPLIED = "SELECT number, checksum FROM seedbed.schema_version"
_ENTRY = "INSERT INTO seedbed.schema_version (number, name, checksum) VALUES ({}, '{}', '{}');"


async def check(connection: Connection) -> None:
    """Raises `WrongJournal` if the journal lacks something that this release needs."""
    lacking = await missing(connection)
    if lacking:
        names = ", ".join(migration.name for migration in lacking)
        raise WrongJournal(f"the journal lacks {names} of this release's schema; {MIGRATE_HINT}")


async def missing(connection: Connection) -> Sequence[Migration]:
    """What is to be applied, in order. Raises `WrongJournal` if what was applied differs."""
    known = migrations("postgres")
    applied: dict[int, str] = {}
    if await connection.fetchval(_HAS_SCHEMA):
        applied = {row["number"]: row["checksum"] for row in await connection.fetch(_APPLIED)}
    numbers = {migration.number for migration in known}
    return pending(known, {number: sum_ for number, sum_ in applied.items() if number in numbers})


async def migrate(dsn: str) -> Sequence[str]:
    """Apply what is missing, each file in a transaction of its own; returns their names.

    Two at a time do no harm: one waits for the other. Raises `JournalError`.
    """
    applied: list[str] = []
    async with _connected(dsn) as connection:
        while True:
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                lacking = await missing(connection)
                if not lacking:
                    return applied
                await connection.execute(_script(lacking[0]))
            applied.append(lacking[0].name)


async def pending_sql(dsn: str) -> str:
    """What `migrate` would run, as a script for `psql`; empty if nothing is missing.

    Raises `JournalError`.
    """
    async with _connected(dsn) as connection:
        lacking = await missing(connection)
    return "\n".join(f"BEGIN;\n{_script(migration)}COMMIT;\n" for migration in lacking)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncGenerator[Connection]:
    connection = await connect(dsn)
    try:
        yield connection
        await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise JournalError(f"PostgreSQL has not done it: {said(error)}") from error
    finally:
        connection.terminate()


def _script(migration: Migration) -> str:
    """Its SQL, and its entry in the table of what was applied."""
    entry = _ENTRY.format(migration.number, migration.name, migration.checksum)
    return f"{migration.sql}\n{entry}\n"
