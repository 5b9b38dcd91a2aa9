"""SQLite files that are new, of another release, damaged, or nowhere."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from seedbed_worker.journal.port import History, JournalError, Unavailable, WrongJournal
from seedbed_worker.journal.sqlite import SqliteJournal
from seedbed_worker.journal.sqlite_thread import SqliteThread
from tests.integration.journal.sqlite_files import TYPE, group, last, opened, taken

FULL = 2
"""Of SQLite's numbers for `synchronous`."""


async def refused(path: Path) -> JournalError:
    """How opening it fails."""
    with pytest.raises(JournalError) as refusal:
        async with opened(path):
            pass
    return refusal.value


def by_hand(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_many_may_make_the_same_file_at_once(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / f"{number}.db"
        journals = [SqliteJournal(path) for _ in range(8)]
        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(journal.open("test")) for journal in journals]
        assert len({one.result() for one in opening}) == 1
        for journal in journals:
            await journal.close()


async def test_a_new_file_that_another_sets_up_is_waited_for(path: Path) -> None:
    journal = SqliteJournal(path)
    async with asyncio.TaskGroup() as tasks:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            opening = tasks.create_task(journal.open("test"))
            done, _ = await asyncio.wait([opening], timeout=0.2)
            assert not done
            other.execute("ROLLBACK")
    assert opening.result().cluster == "test"
    await journal.close()


async def test_a_file_is_durable_at_each_commit(path: Path) -> None:
    def settings(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "wal_autocheckpoint")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    thread = SqliteThread(path, lock_wait_s=1)
    found = await thread.run(settings)
    await thread.close()
    assert found == {"journal_mode": "wal", "synchronous": FULL, "wal_autocheckpoint": 4000}


async def test_a_transaction_that_is_left_open_holds_nobody_up(path: Path) -> None:
    thread = SqliteThread(path, lock_wait_s=1)
    await thread.run(lambda connection: connection.execute("BEGIN IMMEDIATE"))
    by_hand(path, "CREATE TABLE other (number)", "INSERT INTO other VALUES (7)")
    assert await thread.run(lambda one: one.execute("SELECT * FROM other").fetchall()) == [(7,)]
    await thread.close()


async def test_a_snapshot_is_what_an_entity_begins_from(path: Path) -> None:
    async with opened(path) as journal:
        fence = await taken(journal)
        for seq in (1, 2, 3):
            await journal.append(group(fence, seq))
        by_hand(path, "INSERT INTO snapshot SELECT id, 0, 'a', 7, x'aa' FROM entity_type")
        assert await journal.load(TYPE, 0, ["a"]) == {"a": History(7, True, b"\xaa")}


async def test_a_file_of_a_newer_release_is_refused_and_left_as_it_is(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(group(await taken(journal), 1))
    by_hand(path, "INSERT INTO schema_version VALUES (99, '0099_later.sql', 'sum')")
    error = await refused(path)
    assert isinstance(error, WrongJournal)
    assert "schema version 99" in str(error)
    by_hand(path, "DELETE FROM schema_version WHERE number = 99")
    async with opened(path) as journal:
        assert await last(journal) == 1


async def test_a_file_of_a_changed_build_is_refused(path: Path) -> None:
    async with opened(path):
        pass
    by_hand(path, "UPDATE schema_version SET checksum = 'other'")
    error = await refused(path)
    assert isinstance(error, WrongJournal)
    assert "schema version 1 has checksum other" in str(error)


async def test_a_file_in_no_folder_is_unavailable(path: Path) -> None:
    error = await refused(path.parent / "nowhere" / "journal.db")
    assert isinstance(error, Unavailable)
    assert "nowhere/journal.db cannot be opened: its folder must be there" in str(error)


async def test_what_is_no_sqlite_file_is_refused_and_kept(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    assert "journal.db is damaged or no SQLite file" in str(await refused(path))
    assert path.read_bytes() == b"not a database" * 1000


async def test_a_torn_file_is_refused(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(group(await taken(journal), 1, b"x" * 100_000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    error = await refused(path)
    assert not isinstance(error, Unavailable)
    assert "journal.db is damaged" in str(error)
    path.write_bytes(whole)
    async with opened(path) as journal:
        assert await last(journal) == 1
