"""A disk that is full or fails: nothing is half kept, and the journal goes on when it can."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from seedbed_worker.journal.port import Fence, InDoubt, Unavailable
from seedbed_worker.journal.sqlite import SqliteJournal
from tests.integration.journal.sqlite_files import TYPE, group, last, opened, taken

DATA = b"x" * 20_000


class Limited(sqlite3.Connection):
    """Its file can be made to have no room for more pages."""

    pages = 2**30

    def execute(self, *args: Any) -> sqlite3.Cursor:
        if args[0].startswith("BEGIN"):
            super().execute(f"PRAGMA max_page_count = {Limited.pages}")
        return super().execute(*args)


async def fill(journal: SqliteJournal, fence: Fence) -> int:
    """Append until there is no room; the number that was not written any more."""
    for seq in count(1):
        try:
            await journal.append(group(fence, seq, DATA))
        except Unavailable:
            return seq
    raise AssertionError


async def goes_on(journal: SqliteJournal, fence: Fence, seq: int) -> None:
    """From the number that was refused; what was acknowledged is there, once."""
    assert await last(journal) == seq - 1
    assert await journal.append(group(fence, seq, DATA))
    tail = await journal.tail(TYPE, 0, 0, seq + 10)
    assert [one.off for one in tail] == [one.record.seq for one in tail] == [*range(1, seq + 1)]
    assert all(one.record.data == DATA for one in tail)


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_file_without_room_takes_nothing_until_there_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        return real(*args, **options, factory=Limited)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    async with opened(path) as journal:
        fence = await taken(journal)
        monkeypatch.setattr(Limited, "pages", 60)
        refused = await fill(journal, fence)
        assert refused > 2
        with pytest.raises(Unavailable, match="full"):
            await journal.append(group(fence, refused, DATA))
        monkeypatch.setattr(Limited, "pages", 2**30)
        await goes_on(journal, fence, refused)
    assert sound(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """Of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_takes_nothing_until_there_is_room(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    async with opened(path) as journal:
        fence = await taken(journal)
        refused = await fill(journal, fence)
        with pytest.raises(Unavailable, match="full"):
            await journal.append(group(fence, refused, DATA))
        ballast.unlink()
        await goes_on(journal, fence, refused)
    assert sound(path)
    async with opened(path) as journal:
        assert await last(journal) == refused


@contextmanager
def no_file_may_grow_beyond(size: int) -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_fails_is_in_doubt(path: Path) -> None:
    async with opened(path) as journal:
        fence = await taken(journal)
        await journal.append(group(fence, 1, DATA))
        log = path.with_name(f"{path.name}-wal")
        with no_file_may_grow_beyond(log.stat().st_size + 5000), pytest.raises(InDoubt):
            await journal.append(group(fence, 2, DATA))
        again = await taken(journal)
        seq = await last(journal)
        await goes_on(journal, again, seq + 1)
        assert not await journal.append(group(fence, seq + 2))
    assert sound(path)
