"""Connections to PostgreSQL: each is looked at before it is used, and none relies on its session.

No start-up parameters, nothing set for longer than a transaction: a pooler (PgBouncer) may give
each transaction another server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from seedbed_worker.journal.port import InDoubt, Unavailable, Whose, WrongJournal
from seedbed_worker.journal.postgres_errors import no_connection
from seedbed_worker.journal.postgres_statements import APPEND, DURABILITY, WHOSE

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Statement: TypeAlias = PreparedStatement[asyncpg.Record]

CONNECT_S = 5.0
"""Limit for connecting, with what is asked of a new connection."""

APPEND_NAME = "seedbed_append_2"
"""Of the prepared statement. To be changed with its text: behind a pooler, workers of two releases
may meet the same server."""

_NOT_PREPARED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""What a pooler's server says that has not seen, or has seen, another client's statement."""


class Session:
    """One connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._append: Statement | None = None
        self._warning = ""
        connection.add_log_listener(self._heard)

    async def prepare(self, *, named: bool = True) -> None:
        """Make `append` ready: kept by the server under its name, or sent and planned each time."""
        try:
            # The driver asks several things to learn the types, and sets `jit` meanwhile. So all in
            # one transaction, for one server; rolled back, which a prepared statement outlives.
            await self.connection.execute("BEGIN")
            self._append = await self.connection.prepare(APPEND, name=APPEND_NAME if named else "")
            await self.connection.execute("ROLLBACK")
        except _NOT_PREPARED:
            await self.connection.execute("ROLLBACK")
            await self.prepare(named=False)

    async def append(self, *columns: object) -> list[asyncpg.Record]:
        """Run `APPEND`. Raises what asyncpg raises, and `InDoubt`."""
        assert self._append is not None, "this connection is not for writing"
        self._warning = ""
        try:
            rows = await self._append.fetch(*columns)
        except _NOT_PREPARED:  # nothing was done
            await self.prepare(named=False)
            rows = await self._append.fetch(*columns)
        if self._warning:  # as when somebody has ended its wait for a standby
            raise InDoubt(f"PostgreSQL has written it with a warning: {self._warning}")
        return rows

    async def whose(self) -> Whose:
        """Whose journal it leads to. Raises `WrongJournal`."""
        row = await self.connection.fetchrow(WHOSE)
        if row is None:
            raise WrongJournal(
                "the journal has lost whose it is: put the database back from a backup"
            )
        return Whose(*row)

    def _heard(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        if (message.severity_en or message.severity) == "WARNING":
            self._warning = message.message


class Sessions:
    """Makes them. `dsn` is asked each time, since the secret in it may have been changed.

    `require_sync`: refuse a server without synchronous replication.
    """

    def __init__(self, dsn: Callable[[], str], *, require_sync: bool) -> None:
        self._dsn = dsn
        self._require_sync = require_sync
        self.whose: Whose | None = None
        """What was opened, and each further connection must lead to."""

    async def reading(self) -> Session:
        """A connection for all but `append`. Raises `JournalError`."""
        return await self._session(writes=False)

    async def writing(self) -> Session:
        """A connection for `append`. Raises `JournalError`."""
        return await self._session(writes=True)

    async def _session(self, *, writes: bool) -> Session:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await connect(self._dsn())
                session = Session(connection)
                await self._check(connection)
                if writes:
                    await session.prepare()
                return session
        except BaseException as error:
            if connection is not None:
                connection.terminate()
            if not isinstance(error, Exception):
                raise
            raise no_connection(error) from error

    async def _check(self, connection: Connection) -> None:
        row = await connection.fetchrow(DURABILITY)
        assert row is not None
        wrong = unsafe(row["waits"], row["standbys"], require_sync=self._require_sync)
        if self.whose is None:
            if wrong:
                raise WrongJournal(wrong)
            return
        found = await connection.fetchrow(WHOSE)
        if found is None or found["timeline"] != self.whose.timeline:
            wrong = "SEEDBED_JOURNAL leads to another journal than before"
        if wrong:
            raise Unavailable(wrong)


async def connect(dsn: str) -> Connection:
    """Connect, without anything that outlasts a transaction. Raises `Unavailable`."""
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT_S, statement_cache_size=0)
    except Exception as error:
        raise no_connection(error) from error


def unsafe(waits: str, standbys: str, *, require_sync: bool) -> str:
    """Why what this server calls written may be lost (its `synchronous_commit` and
    `synchronous_standby_names`); empty if it may not.
    """
    if waits == "off":
        return (
            "PostgreSQL's synchronous_commit is off, so what it calls written may be lost:"
            " switch it on for the journal's user (ALTER ROLE … SET synchronous_commit = on)"
        )
    if require_sync and (waits == "local" or not standbys):
        setting = (
            f"synchronous_commit is {waits}" if standbys else "synchronous_standby_names is empty"
        )
        return (
            f"PostgreSQL's {setting}, but SEEDBED_JOURNAL_REQUIRE_SYNC asks for synchronous"
            " replication: set it up, or switch SEEDBED_JOURNAL_REQUIRE_SYNC off"
        )
    return ""
