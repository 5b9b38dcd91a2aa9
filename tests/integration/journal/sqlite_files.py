"""One entity in a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from seedbed_worker.journal.port import Fence, Group, Kind, Record
from seedbed_worker.journal.sqlite import SqliteJournal

TYPE = "bank.Account"


@asynccontextmanager
async def opened(path: Path, *, lock_wait_s: float = 5.0) -> AsyncGenerator[SqliteJournal]:
    journal = SqliteJournal(path, lock_wait_s=lock_wait_s)
    try:
        await journal.open("test")
        await journal.enter({TYPE: 8})
        yield journal
    finally:
        await journal.close()


async def taken(journal: SqliteJournal) -> Fence:
    fence = Fence(1, uuid4())
    await journal.take(TYPE, 0, fence)
    return fence


def group(fence: Fence, seq: int, data: bytes | None = None) -> list[Group]:
    """One record; its data is its number."""
    data = b"%d" % seq if data is None else data
    return [Group(TYPE, 0, fence, [Record("a", seq, Kind.STATE, data, 0)])]


async def last(journal: SqliteJournal) -> int:
    return (await journal.load(TYPE, 0, ["a"]))["a"].seq
