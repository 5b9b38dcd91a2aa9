"""What only the store in memory promises: it lives by the clock it was given."""

from __future__ import annotations

import asyncio

from seedbed_seed import memory_store
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.store import Changes, Get, Put, Removed, Snapshot


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ns(self) -> int:
        return int(self.seconds * 1e9)

    def wall_ms(self) -> int:
        return int(self.seconds * 1e3)


async def test_a_lease_ends_by_the_given_clock_alone() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    await store.grant(1, 5)
    await store.write(Put("/a", b"", 1))
    clock.seconds += 4.9
    assert await store.renew(1) == 5
    clock.seconds += 4.9
    assert (await store.read(Get("/a"))).answers[0]
    clock.seconds += 0.1
    assert not (await store.read(Get("/a"))).answers[0]
    assert await store.renew(1) == 0


async def test_expire_wakes_a_watch() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    await store.grant(1, 5)
    await store.write(Put("/a", b"", 1))
    async with store.watch("/") as updates, asyncio.timeout(5):
        assert isinstance(await anext(updates), Snapshot)

        async def let_it_end() -> None:
            clock.seconds += 5
            store.expire()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(let_it_end())
            update = await anext(updates)
    assert isinstance(update, Changes)
    assert isinstance(update.changes[0], Removed)


async def test_a_reader_that_is_too_slow_gets_a_new_snapshot() -> None:
    store = MemoryStore()
    async with store.watch("/") as updates:
        assert isinstance(await anext(updates), Snapshot)
        for number in range(memory_store.WATCH_BACKLOG):
            await store.write(Put("/a", b"%d" % number))
        last = await store.write(Put("/a", b"last"))
        update = await anext(updates)
        assert isinstance(update, Snapshot)
        assert update.revision == last.revision
        assert not update.restored
        after = await store.write(Put("/a", b"after"))
        assert (await anext(updates)).revision == after.revision
