"""Snapshots on their way into a journal: beside the commits, and not at any price."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from seedbed_worker.journal import snapshots
from seedbed_worker.journal.memory import MemoryJournal
from seedbed_worker.journal.port import History, Kind, Record, Snapshot, Snapshots, Unavailable
from seedbed_worker.journal.store import JournalStore
from tests.support.waiting import until
from tests.unit.worker.test_journal_store import Place

PLACE = Place(1, 1)


class Slow(MemoryJournal):
    """Writes snapshots when the gate is open, and fails as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.asked: list[list[Snapshot]] = []
        self.kept: list[int | None] = []

    async def snapshot(self, groups: Sequence[Snapshots], *, keep: int | None) -> None:
        self.asked.append([one for group in groups for one in group.snapshots])
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise Unavailable("it is away")
        await super().snapshot(groups, keep=keep)
        self.kept.append(keep)


@dataclass
class World:
    journal: Slow
    store: JournalStore

    async def change(self, key: str, seq: int) -> None:
        record = Record(key, seq, Kind.EVENTS, b"%d" % seq, 0)
        await self.store.commit("t", record, PLACE).wait()

    def snapshot(self, key: str, seq: int, data: bytes = b"state") -> None:
        self.store.snapshot("t", Snapshot(key, seq, data, 0), PLACE)

    async def asked(self, times: int) -> None:
        await until("it was asked", lambda: len(self.journal.asked) == times, within=2)


@asynccontextmanager
async def world(keep: int | None = None) -> AsyncGenerator[World]:
    journal = Slow()
    await journal.open("c")
    store = JournalStore(
        journal,
        new_writer=uuid4,
        lost=lambda shard, superseded: False,
        epoch_seen=lambda type_, shard, epoch: None,
        keep=keep,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        await asyncio.sleep(0)
        await store.load("t", "a", PLACE)
        yield World(journal, store)
        running.cancel()


async def test_states_behind_the_newest_go_whatever_is_to_be_kept_of_events() -> None:
    async with world(keep=None) as w:
        await w.store.load("t", "s", PLACE)
        for seq in (1, 2, 3):
            record = Record("s", seq, Kind.STATE, b"%d" % seq, 0)
            await w.store.commit("t", record, PLACE).wait()
            await w.change("a", seq)
        w.snapshot("a", 2)
        w.store.snapshot("t", Snapshot("s", 2, b"2", 0, of_events=False), PLACE)
        await until("both are kept", lambda: len(w.journal.kept) == 2, within=2)
        assert w.journal.kept == [None, 0]
        there = [one.record for one in await w.journal.tail("t", 1, 0, 10)]
        assert [one.seq for one in there if one.key == "s"] == [3]
        assert [one.seq for one in there if one.key == "a"] == [1, 2, 3]
        assert await w.store.load("t", "s", PLACE) == History(3, True, b"3")


async def test_a_snapshot_is_written_and_read() -> None:
    async with world(keep=1) as w:
        for seq in (1, 2, 3):
            await w.change("a", seq)
        w.snapshot("a", 2)
        await until("it is kept", lambda: bool(w.journal.kept), within=2)
        assert await w.store.load("t", "a", PLACE) == History(3, True, b"state", (b"3",))
        assert w.journal.kept == [1]
        assert [one.record.seq for one in await w.journal.tail("t", 1, 0, 10)] == [2, 3]


async def test_commits_go_on_while_one_is_written() -> None:
    async with world() as w:
        await w.change("a", 1)
        w.journal.gate.clear()
        w.snapshot("a", 1)
        await w.asked(1)
        await w.change("a", 2)
        assert not w.journal.kept
        w.journal.gate.set()


async def test_those_that_wait_are_written_together_the_newest_of_each_entity() -> None:
    async with world() as w:
        await w.change("a", 1)
        w.journal.gate.clear()
        w.snapshot("a", 1)
        await w.asked(1)
        for seq in (2, 3):
            w.snapshot("a", seq)
        w.snapshot("b", 1)
        w.journal.gate.set()
        await w.asked(2)
    assert [[(one.key, one.seq) for one in group] for group in w.journal.asked] == [
        [("a", 1)],
        [("a", 3), ("b", 1)],
    ]


async def test_one_that_cannot_be_written_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        await w.change("a", 1)
        w.journal.failures = 1
        caplog.set_level(logging.WARNING)
        w.snapshot("a", 1)
        await w.asked(1)
        await w.change("a", 2)
        w.snapshot("a", 2)
        await until("it is kept", lambda: bool(w.journal.kept), within=2)
        assert await w.store.load("t", "a", PLACE) == History(2, True, b"state")
    assert [one.getMessage() for one in caplog.records] == ["snapshots not kept"]


async def test_more_than_may_wait_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "WAITING_BYTES", 10)
    monkeypatch.setattr(snapshots, "WRITTEN_BYTES", 8)
    async with world() as w:
        w.journal.gate.clear()
        w.snapshot("a", 1, b"x" * 10)
        await w.asked(1)
        w.snapshot("b", 1, b"x" * 5)
        w.snapshot("c", 1, b"x" * 5)
        w.snapshot("d", 1, b"x")
        w.snapshot("b", 2, b"x" * 4)
        w.snapshot("e", 1, b"x")
        w.journal.gate.set()
        await w.asked(3)
    assert [[(one.key, one.seq) for one in group] for group in w.journal.asked[1:]] == [
        [("b", 2)],
        [("c", 1), ("e", 1)],
    ]
