"""Who may write into a shard, in every journal."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.port import Fence, Group, Journal, Superseded
from tests.contract.journals import TYPE, Maker, fence, log, opened, record, taken, written


async def test_a_fence_holds_until_the_next_one(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await journal.holds(TYPE, 0, own)
    assert not await journal.holds(TYPE, 1, own)
    again = await taken(journal, 0, 1)
    assert not await journal.holds(TYPE, 0, own)
    assert await journal.holds(TYPE, 0, again)
    await taken(journal, 0, 2)
    assert not await journal.holds(TYPE, 0, again)


@pytest.mark.parametrize("later", [1, 2], ids=["under the same epoch", "under a higher one"])
async def test_a_take_shuts_the_earlier_writer_out(make: Maker, later: int) -> None:
    async with opened(make) as old, opened(make) as new:
        earlier = await taken(old, 0, 1)
        assert await written(old, 0, earlier, record("a", 1))
        own = await taken(new, 0, later)
        assert not await written(old, 0, earlier, record("a", 2, b"late"))
        assert await log(new, 0) == [record("a", 1)]
        assert await written(new, 0, own, record("a", 2))
        assert not await written(old, 0, earlier, record("b", 1))
        assert await log(old, 0) == [record("a", 1), record("a", 2)]


async def test_a_take_under_a_lower_epoch_is_refused(make: Maker) -> None:
    async with opened(make) as old, opened(make) as new:
        own = await taken(new, 0, 7)
        with pytest.raises(Superseded) as refusal:
            await taken(old, 0, 6)
        assert refusal.value.epoch == 7
        assert f"shard 0 of {TYPE}" in str(refusal.value)
        assert await written(new, 0, own, record("a", 1))


async def test_a_take_may_be_repeated(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, record("a", 1))
    await journal.take(TYPE, 0, own)
    assert await written(journal, 0, own, record("a", 2))
    assert len(await log(journal, 0)) == 2


async def test_nobody_writes_what_nobody_took(journal: Journal) -> None:
    assert not await written(journal, 0, fence(1), record("a", 1))
    own = await taken(journal, 0, 1)
    assert not await written(journal, 0, Fence(2, own.writer), record("a", 1))
    assert not await written(journal, 0, fence(1), record("a", 1))
    assert not await written(journal, 1, own, record("a", 1))
    assert await log(journal, 0) == await log(journal, 1) == []


async def test_a_fenced_shard_drops_out_of_a_group_commit(make: Maker) -> None:
    async with opened(make) as old, opened(make) as new:
        fences = [await taken(old, shard, 1) for shard in range(4)]
        for shard in (1, 2):
            await taken(new, shard, 2)
        groups = [Group(TYPE, shard, fences[shard], [record("a", 1)]) for shard in (2, 0, 3, 1)]
        assert set(await old.append(groups)) == {(TYPE, 0), (TYPE, 3)}
        assert [len(await log(new, shard)) for shard in range(4)] == [1, 0, 0, 1]


async def test_an_append_of_no_records_asks_for_the_fence(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own)
    assert not await written(journal, 0, fence(1))
    assert not await journal.append([])
    assert await log(journal, 0) == []
