"""What a SQLite file does under load: who waits for whom, and what a caller that leaves changes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from seedbed_worker.journal.port import History, Unavailable
from tests.integration.journal.sqlite_files import TYPE, group, last, opened, taken


@contextmanager
def locked(path: Path) -> Generator[None]:
    """By another connection, as a process would that is in a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_file_that_stays_locked_is_unavailable(path: Path) -> None:
    async with opened(path, lock_wait_s=0.05) as journal:
        fence = await taken(journal)
        await journal.append(group(fence, 1))
        with locked(path):
            with pytest.raises(Unavailable, match=r"journal\.db now: database is locked"):
                await journal.append(group(fence, 2))
            with pytest.raises(Unavailable):
                await taken(journal)
            with pytest.raises(Unavailable):
                await journal.open("test")
        assert await last(journal) == 1
        assert await journal.append(group(fence, 2))
        assert await last(journal) == 2


async def test_reads_wait_for_no_write(path: Path) -> None:
    async with opened(path) as journal, asyncio.TaskGroup() as tasks:
        fence = await taken(journal)
        await journal.append(group(fence, 1))
        with locked(path):
            append = tasks.create_task(journal.append(group(fence, 2)))
            await asyncio.sleep(0)  # it has begun
            assert await journal.load(TYPE, 0, ["a"]) == {"a": History(1, True, b"1")}
            assert len(await journal.tail(TYPE, 0, 0, 9)) == 1
            assert not append.done()
        assert await append


async def test_an_append_whose_caller_goes_away_is_written(path: Path) -> None:
    async with opened(path) as journal, asyncio.TaskGroup() as tasks:
        fence = await taken(journal)
        with locked(path):
            appends = [tasks.create_task(journal.append(group(fence, seq))) for seq in (1, 2, 3)]
            await asyncio.sleep(0)  # they have begun
            for append in appends:
                append.cancel()
            await asyncio.wait(appends)
            assert all(append.cancelled() for append in appends)
        assert await journal.append(group(fence, 4))
        assert [one.record.seq for one in await journal.tail(TYPE, 0, 0, 9)] == [1, 2, 3, 4]


async def test_closing_waits_for_what_is_being_written(path: Path) -> None:
    async with opened(path) as journal, asyncio.TaskGroup() as tasks:
        fence = await taken(journal)
        with locked(path):
            append = tasks.create_task(journal.append(group(fence, 1)))
            await asyncio.sleep(0)  # it has begun
            close = tasks.create_task(journal.close())
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await journal.append(group(fence, 2))
            assert not close.done()
        await close
        assert append.done()
        assert await append
    async with opened(path) as again:
        assert await last(again) == 1


async def test_a_close_that_is_given_up_closes_all_the_same(path: Path) -> None:
    async with opened(path) as journal, asyncio.TaskGroup() as tasks:
        with locked(path):
            take = tasks.create_task(taken(journal))
            await asyncio.sleep(0)  # it has begun
            close = tasks.create_task(journal.close())
            await asyncio.sleep(0)
            close.cancel()
        await take
