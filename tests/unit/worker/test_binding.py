"""A worker's journal is one cluster's, and committed to, before the worker says a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import pytest

from seedbed.ids import Incarnation
from seedbed_worker import binding as module
from seedbed_worker.binding import Binding, Welcomed
from seedbed_worker.journal.memory import Memory, MemoryJournal
from seedbed_worker.journal.port import InDoubt, Unavailable, Whose, WrongJournal
from tests.support.waiting import until

FIRST, SECOND = Incarnation("one"), Incarnation("two")


class Frail(MemoryJournal):
    """Can be read-only, and counts what it was asked."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.read_only = False
        self.in_doubt = 0
        self.binds = 0

    async def probe(self) -> Whose:
        if self.read_only:
            raise Unavailable("it takes no writes")
        return await super().probe()

    async def bind(self, cluster_uid: str) -> None:
        self.binds += 1
        if self.read_only:
            raise Unavailable("it takes no writes")
        await super().bind(cluster_uid)
        if self.in_doubt:
            self.in_doubt -= 1
            raise InDoubt("the answer was lost")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", (0.001,))


def welcome(
    incarnation: Incarnation = FIRST, uid: str = "uid", counts: Mapping[str, int] | None = None
) -> Welcomed:
    return Welcomed(incarnation, uid, {"t": 8} if counts is None else counts)


class World:
    def __init__(self, memory: Memory, cluster: str = "c") -> None:
        self.memory = memory
        self.journal = Frail(memory)
        self.binding = Binding(self.journal)
        self.bound: list[Incarnation] = []
        self.cluster = cluster

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        await self.binding.open(self.cluster)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self.binding.keep(self.bound.append))
            yield
            keeping.cancel()

    async def until_bound(self, *incarnations: Incarnation) -> None:
        wanted = list(incarnations)
        await until(f"{wanted} bound", lambda: self.bound == wanted, within=2)


async def test_a_welcome_binds_the_journal_and_enters_the_types() -> None:
    w = World(Memory())
    async with w.open():
        assert w.binding.why_not() == "not bound to a cluster yet"
        assert w.binding.whose().cluster_uid == ""
        w.binding.welcomed(welcome())
        await w.until_bound(FIRST)
        assert w.binding.why_not() is None
        assert w.binding.whose() == w.memory.whose
        assert (w.memory.whose.cluster_uid, w.memory.shard_counts) == ("uid", {"t": 8})


async def test_another_welcome_by_the_same_cluster_needs_no_journal() -> None:
    w = World(Memory())
    async with w.open():
        w.binding.welcomed(welcome())
        await w.until_bound(FIRST)
        w.journal.read_only = True
        w.binding.welcomed(welcome(SECOND))
        await w.until_bound(FIRST, SECOND)
        assert w.journal.binds == 1


async def test_a_journal_that_takes_no_writes_is_never_accepted() -> None:
    w = World(Memory())
    w.journal.read_only = True
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(w.binding.open("c"))
        await until("it says so", lambda: w.binding.why_not() == "it takes no writes", within=2)
        assert not opening.done()
        w.journal.read_only = False
    assert w.binding.whose().cluster == "c"


async def test_one_that_is_away_is_bound_when_it_is_back() -> None:
    w = World(Memory())
    async with w.open():
        w.journal.read_only = True
        w.binding.welcomed(welcome())
        await until("it tries", lambda: w.journal.binds > 1, within=2)
        assert w.binding.why_not() == "it takes no writes"
        assert not w.bound
        w.binding.welcomed(welcome(SECOND))
        w.journal.read_only = False
        await w.until_bound(SECOND)


async def test_a_binding_in_doubt_is_repeated() -> None:
    w = World(Memory())
    async with w.open():
        w.journal.in_doubt = 2
        w.binding.welcomed(welcome())
        await w.until_bound(FIRST)
        assert w.journal.binds == 3


async def test_of_two_clusters_at_one_fresh_journal_one_is_refused() -> None:
    memory = Memory()
    ours, theirs = World(memory), World(memory)
    await theirs.binding.open("c")
    async with ours.open():
        theirs.binding.welcomed(welcome(uid="theirs"))
        ours.binding.welcomed(welcome(uid="ours"))
        await ours.until_bound(FIRST)
        with pytest.raises(WrongJournal, match=r"uid ours.*has theirs"):
            await theirs.binding.keep(theirs.bound.append)
    assert not theirs.bound
    assert "ours" in str(theirs.binding.why_not())


async def test_a_type_with_another_number_of_shards_is_refused() -> None:
    memory = Memory()
    first = World(memory)
    async with first.open():
        first.binding.welcomed(welcome())
        await first.until_bound(FIRST)
    again = World(memory)
    await again.binding.open("c")
    again.binding.welcomed(welcome(counts={"t": 16}))
    with pytest.raises(WrongJournal, match=r"t has 8 shards, in this cluster 16"):
        await again.binding.keep(again.bound.append)
    assert not again.bound


async def test_another_clusters_journal_is_not_opened() -> None:
    memory = Memory()
    async with World(memory).open():
        pass
    other = World(memory, "staging")
    with pytest.raises(WrongJournal):
        await other.binding.open("staging")
    assert "'staging'" in str(other.binding.why_not())


async def test_after_a_refusal_it_reads_whose_the_journal_is_by_now() -> None:
    w = World(Memory())
    async with w.open():
        w.binding.welcomed(welcome())
        await w.until_bound(FIRST)
        await w.journal.rebind("new")
        assert w.binding.whose().cluster_uid == "uid"
        w.binding.look_again()
        await until("it sees", lambda: w.binding.whose().cluster_uid == "new", within=2)
        w.binding.welcomed(welcome(SECOND, "new"))
        await w.until_bound(FIRST, SECOND)
