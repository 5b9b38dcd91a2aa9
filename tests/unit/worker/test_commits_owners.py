"""What hooks keep, and whose the kept states are."""

from __future__ import annotations

import pytest

from seedbed.errors import CallError, Reason
from seedbed.sharding import shard_of
from seedbed_worker.entity_store import MemoryStore
from seedbed_worker.journal.port import History
from tests.unit.worker.commits_world import Kept, Store, Volatile, does, record, seen
from tests.unit.worker.host_world import SHARDS, reason, refused, world

# Hooks.


class Hooked(Kept, durable=True):
    async def activated(self) -> None:
        if not self.exists:
            self.state.value = 100
            self.save()

    async def deactivating(self) -> None:
        self.state.value += 1
        if self.key == "fails":
            raise ZeroDivisionError
        self.save()


async def test_what_hooks_save_is_stored() -> None:
    async with world(Hooked) as w:
        assert await seen(w) == (100, 1, "True")
        await does(w, "passivate")
        assert await seen(w) == (101, 2, "True")


async def test_a_leaving_hook_that_fails_stores_nothing() -> None:
    async with world(Hooked) as w:
        await w.read("fails")
        await w.run(w.call("Act", "fails", how="passivate"))
        assert (await w.read("fails")).total == 100


# Whose states they are.


async def test_a_store_of_the_cluster_outlives_moves_and_crashes() -> None:
    async with world(Kept, store=Store()) as w:
        await w.write(amount=1)
        w.place("other")
        w.host.region_changed()
        w.place("me")
        w.host.region_changed()
        assert await seen(w) == (1, 1, "True")
        w.region.fence()
        w.lease.fence()
        w.host.drop_all(Reason.FENCED)
        w.rejoin("me again")
        assert await seen(w) == (1, 1, "True")


async def test_a_turn_is_confirmed_by_the_store_unless_the_class_is_volatile() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await does(w, "confirm")
        await store.load("probe", "a", Owner(99, shard_of(b"a", SHARDS)))
        assert reason(await w.run(w.call("Act", how="confirm"))) is Reason.FENCED
    async with world(Volatile) as w:
        assert refused(await w.run(w.call("Act", how="confirm"))).message == "RuntimeError"


class Owner:
    def __init__(self, epoch: int, number: int = 3) -> None:
        self.number, self.epoch = number, epoch


async def test_it_refuses_an_owner_that_has_a_successor() -> None:
    store = MemoryStore()
    await store.commit("t", record("a", 1, b"old"), Owner(1)).wait()
    assert await store.load("t", "a", Owner(2)) == History(1, exists=True, state=b"old")
    with pytest.raises(CallError, match="epoch 2"):
        store.commit("t", record("a", 2, b"late"), Owner(1))
    assert await store.load("t", "a", Owner(2)) == History(1, exists=True, state=b"old")
