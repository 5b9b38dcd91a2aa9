"""States in a journal that is at times late, gone, in doubt or somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from seedbed.errors import CallError, Reason
from seedbed_worker.entity_store import Ownership
from seedbed_worker.journal.memory import Memory, MemoryJournal
from seedbed_worker.journal.port import Fence, Group, History, InDoubt, ShardKey, Unavailable
from seedbed_worker.journal.store import JournalStore
from tests.support.waiting import until
from tests.unit.worker.commits_world import record


class Place:
    """One ownership."""

    def __init__(self, number: int, epoch: int) -> None:
        self.number = number
        self.epoch = epoch


class Moody(MemoryJournal):
    """A journal that fails as it is told: the next appends, each by one of these moods."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.moods: list[str] = []
        self.groups: list[Sequence[Group]] = []
        self.gate: asyncio.Event | None = None
        self.away = False
        """Nothing can be taken."""

    async def take(self, type_: str, shard: int, fence: Fence) -> None:
        if self.away:
            raise Unavailable("it is away")
        await super().take(type_, shard, fence)

    async def append(self, groups: Sequence[Group]) -> Collection[ShardKey]:
        self.groups.append(groups)
        if self.gate is not None:
            await self.gate.wait()
        mood = self.moods.pop(0) if self.moods else ""
        if mood == "unavailable":
            raise Unavailable("it is away")
        if mood == "lost before":
            raise InDoubt("the connection was lost")
        kept = await super().append(groups)
        if mood == "lost after":
            raise InDoubt("the connection was lost")
        return kept


@dataclass
class World:
    memory: Memory
    journal: Moody
    store: JournalStore
    lost: list[Ownership] = field(default_factory=list[Ownership])
    seen: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    still_ours: list[Ownership] = field(default_factory=list[Ownership])
    by_epoch: list[Ownership] = field(default_factory=list[Ownership])
    """Those of `lost` that a higher epoch has taken."""
    """What the tables say."""

    async def other(self, epoch: int) -> MemoryJournal:
        """Another owner has taken shard 1."""
        journal = MemoryJournal(self.memory)
        await journal.open("c")
        await journal.take("t", 1, Fence(epoch, uuid4()))
        return journal


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    memory = Memory()
    journal = Moody(memory)
    await journal.open("c")
    lost: list[Ownership] = []
    still_ours: list[Ownership] = []
    by_epoch: list[Ownership] = []
    seen: list[tuple[str, int, int]] = []

    def is_lost(place: Ownership, superseded: bool) -> bool:
        lost.append(place)
        if superseded:
            by_epoch.append(place)
        return place in still_ours and not superseded

    store = JournalStore(
        journal,
        new_writer=uuid4,
        lost=is_lost,
        epoch_seen=lambda type_, shard, epoch: seen.append((type_, shard, epoch)),
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        yield World(memory, journal, store, lost, seen, still_ours, by_epoch)
        running.cancel()


async def test_what_was_committed_is_loaded_also_by_the_next_owner() -> None:
    async with world() as w:
        place = Place(1, 7)
        assert await w.store.load("t", "a", place) is None
        await w.store.commit("t", record("a", 1, b"one"), place).wait()
        await w.store.commit("t", record("a", 2, b"two"), place).wait()
        assert await w.store.load("t", "a", Place(1, 8)) == History(2, exists=True, state=b"two")
        await w.store.load("t", "b", Place(1, 9))
        with pytest.raises(CallError) as refused:
            await w.store.commit("t", record("a", 3, b"three"), place).wait()
        assert refused.value.reason is Reason.FENCED
        assert w.lost == [place]


async def test_a_deleted_entity_is_fresh_and_keeps_its_seq() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        await w.store.commit("t", record("a", 1, b"one"), place).wait()
        await w.store.commit("t", record("a", 2, None), place).wait()
        assert await w.store.load("t", "a", place) == History(2, exists=False)


async def test_records_that_clash_end_their_own_shard_only() -> None:
    async with world() as w:
        place, other = Place(1, 7), Place(2, 7)
        for one in (place, other):
            await w.store.load("t", "a", one)
        await w.store.commit("t", record("a", 1, b"one"), place).wait()
        w.journal.gate = asyncio.Event()
        first = w.store.commit("t", record("b", 1, b""), place)
        await until("it is being written", lambda: len(w.journal.groups) == 2, within=2)
        twice = w.store.commit("t", record("a", 1, b"two"), place)
        good = w.store.commit("t", record("a", 1, b"three"), other)
        w.journal.gate.set()
        for commit in (first, good):
            await commit.wait()
        with pytest.raises(CallError):
            await twice.wait()
        assert w.lost == [place]
        assert await w.store.load("t", "a", Place(1, 7)) == History(1, exists=True, state=b"one")


async def test_many_entities_share_a_commit() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        w.journal.gate = asyncio.Event()
        async with asyncio.TaskGroup() as calls:
            calls.create_task(w.store.commit("t", record("0", 1, b""), place).wait())
            await until("it is being written", lambda: len(w.journal.groups) == 1, within=2)
            for key in "123456789":
                calls.create_task(w.store.commit("t", record(key, 1, b""), place).wait())
            await asyncio.sleep(0)
            w.journal.gate.set()
        sizes = [sum(len(group.records) for group in groups) for groups in w.journal.groups]
        assert sizes == [1, 9]


async def test_a_journal_that_is_away_keeps_nothing_and_is_tried_again_by_the_next_call() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        w.journal.moods = ["unavailable"]
        with pytest.raises(CallError) as refused:
            await w.store.commit("t", record("a", 1, b"one"), place).wait()
        assert refused.value.reason is Reason.STORE_UNAVAILABLE
        assert await w.store.load("t", "a", place) is None
        await w.store.commit("t", record("a", 1, b"one"), place).wait()
        assert w.lost == []


async def test_a_commit_in_doubt_that_had_happened_is_found() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        fence = w.memory.shards["t", 1].fence
        w.journal.moods = ["lost after"]
        await w.store.commit("t", record("a", 1, b"one"), place).wait()
        assert w.memory.shards["t", 1].fence != fence, "it fenced itself before it read"
        await w.store.commit("t", record("a", 2, b"two"), place).wait()
        assert await w.store.load("t", "a", place) == History(2, exists=True, state=b"two")


async def test_a_commit_in_doubt_that_had_not_happened_is_refused_and_cannot_come_later() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        w.journal.moods = ["lost before"]
        with pytest.raises(CallError) as refused:
            await w.store.commit("t", record("a", 1, b"one"), place).wait()
        assert refused.value.reason is Reason.STORE_UNAVAILABLE
        [late] = w.journal.groups
        assert await MemoryJournal.append(w.journal, late) == set(), "the lost commit comes at last"
        assert await w.store.load("t", "a", place) is None


@pytest.mark.parametrize(("mood", "seq"), [("lost after", 1), ("lost before", 0)])
async def test_nothing_piles_up_behind_a_doubt_that_lasts(mood: str, seq: int) -> None:
    async with world() as w:
        place, other = Place(1, 7), Place(2, 7)
        for one in (place, other):
            await w.store.load("t", "a", one)
        w.journal.moods, w.journal.gate, w.journal.away = [mood], asyncio.Event(), True
        doubtful = w.store.commit("t", record("a", 1, b"one"), place)
        await until("it is being written", lambda: len(w.journal.groups) == 1, within=2)
        behind = w.store.commit("t", record("b", 1, b""), place)
        w.journal.gate.set()
        with pytest.raises(CallError) as refused:
            await behind.wait()
        assert refused.value.reason is Reason.STORE_UNAVAILABLE
        with pytest.raises(CallError, match="it is away"):
            w.store.commit("t", record("b", 1, b""), place)
        with pytest.raises(CallError, match="it is away"):
            await w.store.load("t", "a", place)
        await w.store.commit("t", record("a", 1, b""), other).wait()
        assert not doubtful.done
        w.journal.away = False
        await doubtful.ended()
        assert (doubtful.error is None) is (mood == "lost after")
        found = await w.store.load("t", "a", place)
        assert (found.seq if found is not None else 0) == seq
        await w.store.commit("t", record("a", seq + 1, b"next"), place).wait()


async def test_a_commit_in_doubt_whose_shard_was_taken_meanwhile_is_nobody_s_to_tell() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        w.journal.moods = ["lost after"]
        w.journal.gate = asyncio.Event()
        async with asyncio.TaskGroup() as calls:
            call = calls.create_task(outcome(w.store, place))
            await until("it is being written", lambda: len(w.journal.groups) == 1, within=2)
            await w.other(8)
            w.journal.gate.set()
        assert call.result() is Reason.FENCED
        assert w.lost == [place]


async def outcome(store: JournalStore, place: Ownership) -> Reason | None:
    try:
        await store.commit("t", record("a", 1, b"one"), place).wait()
    except CallError as error:
        return error.reason
    return None


async def test_an_epoch_below_the_journal_s_is_refused_and_reported() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.other(9)
        with pytest.raises(CallError) as refused:
            await w.store.load("t", "a", place)
        assert refused.value.reason is Reason.NOT_OWNER
        assert w.seen == [("t", 1, 9)]
        assert w.lost == w.by_epoch == [place], "calls wait for the table that comes"


async def test_a_fence_of_another_process_keeps_nothing_and_blames_nobody() -> None:
    async with world() as w:
        place = Place(1, 7)
        w.still_ours.append(place)
        await w.store.load("t", "a", place)
        await w.other(7)
        with pytest.raises(CallError) as refused:
            await w.store.commit("t", record("a", 1, b"one"), place).wait()
        assert refused.value.reason is Reason.STORE_UNAVAILABLE
        assert (w.lost, w.by_epoch) == ([place], []), "no other table comes"
        again = Place(1, 7)
        await w.store.load("t", "a", again)
        await w.store.commit("t", record("a", 1, b"one"), again).wait()


async def test_an_owner_is_confirmed_until_another_has_taken_the_shard() -> None:
    async with world() as w:
        place = Place(1, 7)
        await w.store.load("t", "a", place)
        await w.store.confirm("t", place)
        await w.other(8)
        with pytest.raises(CallError) as refused:
            await w.store.confirm("t", place)
        assert refused.value.reason is Reason.FENCED


async def test_a_shard_is_taken_once_for_all_its_entities() -> None:
    async with world() as w:
        place = Place(1, 7)
        async with asyncio.TaskGroup() as calls:
            for key in "abc":
                calls.create_task(w.store.load("t", key, place))
        fence = w.memory.shards["t", 1].fence
        await w.store.load("t", "d", place)
        assert w.memory.shards["t", 1].fence == fence
