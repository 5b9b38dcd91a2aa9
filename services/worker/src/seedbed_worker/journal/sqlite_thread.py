"""A connection to a SQLite file, used on one thread of its own; and what its errors mean."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from seedbed_worker.journal.port import Clash, InDoubt, JournalError, Unavailable

T = TypeVar("T")

CHECKPOINT_PAGES = 4000
"""So long grows the log beside the file before it is moved into it: more is faster and lumpier."""
WAL_TRIES = 20
"""How often a file is asked to have a log, which two processes cannot do at once."""

_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NOT_COMMITTED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL}


class SqliteThread:
    """Runs functions with its connection, one after another in the order in which they came.

    A function has transactions of its own, none or several. `lock_wait_s`: how long it waits for
    other connections' transactions to end. `create`: make the file if it is not there.
    """

    def __init__(self, path: Path, *, lock_wait_s: float, create: bool = True) -> None:
        self._path = path
        self._create = create
        self._lock_wait_s = lock_wait_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seedbed-journal")
        self._connection: sqlite3.Connection | None = None
        self._closed: asyncio.Future[None] | None = None

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """What the function returns. Raises `JournalError`.

        It runs to its end, and in its turn, even if the caller is cancelled meanwhile.
        """
        if self._closed is not None:
            raise Unavailable("the journal is closed")
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, self._run, function))

    def close(self) -> Awaitable[None]:
        """Ask for no more; wait until what was asked for has ended and the file is closed."""
        if self._closed is None:
            loop = asyncio.get_running_loop()
            self._closed = loop.run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)  # that still runs, and ends the thread
        return asyncio.shield(self._closed)

    def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return function(self._connection)
        except sqlite3.Error as error:
            raise _meaning(error, self._path) from error
        finally:
            if self._connection is not None and self._connection.in_transaction:
                self._disconnect()  # it could not even roll back

    def _connect(self) -> sqlite3.Connection:
        mode = "rwc" if self._create else "rw"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._lock_wait_s,
            isolation_level=None,
            cached_statements=64,
        )
        try:
            _use_log(connection)
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


@contextmanager
def writing(connection: sqlite3.Connection, *, wait_for_disk: bool = True) -> Generator[None]:
    """One transaction that writes; all that it reads is true until it ends.

    What raises within it rolls it back. Raises `InDoubt` if it may have been committed. Without
    `wait_for_disk` a power failure may undo it, as long as no later transaction has waited; never
    one before it.
    """
    connection.execute(f"PRAGMA synchronous = {'FULL' if wait_for_disk else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    with _rolled_back_on_error(connection):
        yield
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) in _NOT_COMMITTED:
                raise
            raise InDoubt(f"SQLite failed in a commit: {error}") from error


@contextmanager
def reading(connection: sqlite3.Connection) -> Generator[None]:
    """One transaction that sees one state of the file, and waits for nobody."""
    connection.execute("BEGIN")
    with _rolled_back_on_error(connection):
        yield
        connection.execute("COMMIT")


@contextmanager
def _rolled_back_on_error(connection: sqlite3.Connection) -> Generator[None]:
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # some errors have ended it
                connection.execute("ROLLBACK")
        raise


def _use_log(connection: sqlite3.Connection) -> None:
    """Write-ahead logging. A new file is busy at once, not after a wait, if another asks too."""
    for tries_left in reversed(range(WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or not tries_left:
                raise
            connection.execute("BEGIN IMMEDIATE")  # this waits
            connection.execute("ROLLBACK")
        else:
            return


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 if SQLite gave none (it is the module's own error)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _meaning(error: sqlite3.Error, path: Path) -> JournalError:
    code = _code(error)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Clash()
    if code in _DAMAGED:
        return JournalError(
            f"{path} is damaged or no SQLite file ({error}): put it back from a backup,"
            " or name another file (SEEDBED_JOURNAL)"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return Unavailable(
            f"{path.absolute()} cannot be opened: its folder must be there and be writable"
            " (and the file itself, for what does not make a new one)"
        )
    if code in _PASSING:
        return Unavailable(f"SQLite cannot use {path} now: {error}")
    return JournalError(f"SQLite failed on {path}: {error}")
