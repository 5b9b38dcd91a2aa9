"""A process that is killed while it writes leaves all that it has acknowledged, and no more than
one append of which nobody has heard."""

from __future__ import annotations

import asyncio
from itertools import count
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from seedbed_worker.journal.port import Group, Kind, Record
from tests.integration.journal.sqlite_files import TYPE, opened, taken

pytestmark = pytest.mark.integration

KILLS = 5
AT_ONCE = 20
"""Records of one append: they are there all, or none."""


def write(path: Path, first: int, acknowledged: Connection) -> None:
    """Append for ever, from this number on; tell the last number of each append."""
    asyncio.run(_write(path, first, acknowledged))


async def _write(path: Path, first: int, acknowledged: Connection) -> None:
    async with opened(path) as journal:
        fence = await taken(journal)
        for start in count(first, AT_ONCE):
            records = [
                Record("a", seq, Kind.EVENTS, b"%d" % seq * 100, 0)
                for seq in range(start, start + AT_ONCE)
            ]
            await journal.append([Group(TYPE, 0, fence, records)])
            acknowledged.send(records[-1].seq)


def killed_while_writing(path: Path, first: int, appends: int) -> int:
    """Kill a process after so many of its appends; the last number that it acknowledged."""
    ours, its = Pipe(duplex=False)
    with ours:
        process = get_context("spawn").Process(target=write, args=(path, first, its))
        process.start()
        its.close()
        last = 0
        try:
            for _ in range(appends):
                last = ours.recv()
        finally:
            process.kill()
        process.join()
        while True:
            try:
                last = ours.recv()
            except EOFError:
                return last


async def test_what_a_killed_process_has_acknowledged_is_there(path: Path) -> None:
    there = 0
    for kill in range(KILLS):
        acknowledged = killed_while_writing(path, there + 1, 10 + 7 * kill)
        async with opened(path) as journal:
            tail = await journal.tail(TYPE, 0, 0, 100_000)
        assert [one.off for one in tail] == [one.record.seq for one in tail]
        assert [one.off for one in tail] == [*range(1, len(tail) + 1)]
        there = len(tail)
        assert there in (acknowledged, acknowledged + AT_ONCE)
