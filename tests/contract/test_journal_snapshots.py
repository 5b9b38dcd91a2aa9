"""What every journal does with snapshots, and with the records behind them."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.port import (
    DROPPED_AT_ONCE,
    Fence,
    History,
    Journal,
    Kind,
    Record,
    Snapshot,
    Snapshots,
)
from tests.contract.journals import TYPE, Maker, opened, record, taken, written


def events(key: str, seq: int, *, keep_until_ms: int = 0) -> Record:
    return Record(key, seq, Kind.EVENTS, b"%d" % seq, 0, keep_until_ms=keep_until_ms)


async def snapshot(
    journal: Journal,
    shard: int,
    fence: Fence,
    key: str,
    seq: int,
    *,
    keep: int | None = None,
    time_ms: int = 0,
) -> None:
    one = Snapshot(key, seq, b"state %d" % seq, time_ms)
    await journal.snapshot([Snapshots(TYPE, shard, fence, [one])], keep=keep)


async def loaded(journal: Journal, shard: int, key: str) -> History | None:
    return (await journal.load(TYPE, shard, [key])).get(key)


async def kept(journal: Journal, shard: int, key: str = "a") -> list[int]:
    """Numbers of its records."""
    tail = await journal.tail(TYPE, shard, 0, 10_000)
    return [one.record.seq for one in tail if one.record.key == key]


async def test_a_history_begins_at_the_newest_snapshot(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, 5)))
        await snapshot(journal, 0, own, "a", 2)
        assert await loaded(journal, 0, "a") == History(4, True, b"state 2", (b"3", b"4"))
        await snapshot(journal, 0, own, "a", 4)
        await snapshot(journal, 0, own, "a", 3)  # it comes late
    async with opened(make) as again:
        assert await loaded(again, 0, "a") == History(4, True, b"state 4", ())
        assert await kept(again, 0) == [1, 2, 3, 4]


async def test_what_comes_after_a_snapshot_counts_more(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, 3)))
    await snapshot(journal, 0, own, "a", 2)
    assert await written(journal, 0, own, Record("a", 3, Kind.DELETED, b"", 1))
    assert await loaded(journal, 0, "a") == History(3, exists=False)
    assert await written(journal, 0, own, events("a", 4))
    assert await loaded(journal, 0, "a") == History(4, True, None, (b"4",))
    assert await written(journal, 0, own, record("a", 5))
    assert await loaded(journal, 0, "a") == History(5, True, b"data")


async def test_snapshots_are_of_one_entity_of_one_shard(journal: Journal) -> None:
    places = [(shard, key) for shard in (0, 1) for key in ("a", "b")]
    fences = [await taken(journal, shard, 1) for shard in (0, 1)]
    for shard, key in places:
        assert await written(journal, shard, fences[shard], events(key, 1), events(key, 2))
    groups = [
        Snapshots(
            TYPE, shard, own, [Snapshot(key, 1, b"%d%s" % (shard, key.encode()), 0) for key in "ab"]
        )
        for shard, own in enumerate(fences)
    ]
    await journal.snapshot(groups, keep=0)
    for shard, key in places:
        state = b"%d%s" % (shard, key.encode())
        assert await loaded(journal, shard, key) == History(2, True, state, (b"2",))
        assert await kept(journal, shard, key) == [2]


@pytest.mark.parametrize("later", [1, 2], ids=["under the same epoch", "under a higher one"])
async def test_a_snapshot_under_another_fence_is_left_out(make: Maker, later: int) -> None:
    async with opened(make) as old, opened(make) as new:
        stale, own = await taken(old, 0, 1), await taken(old, 1, 1)
        for shard, fence_ in enumerate((stale, own)):
            assert await written(old, shard, fence_, events("a", 1))
        await taken(new, 0, later)
        one = Snapshot("a", 1, b"state", 0)
        groups = [Snapshots(TYPE, shard, f, [one]) for shard, f in enumerate((stale, own))]
        await old.snapshot(groups, keep=0)
        assert await loaded(new, 0, "a") == History(1, True, None, (b"1",))
        assert await loaded(new, 1, "a") == History(1, True, b"state")
        assert (await kept(new, 0), await kept(new, 1)) == ([1], [])


async def test_records_behind_a_snapshot_go_as_many_as_are_not_kept(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        both = [events(key, seq) for seq in range(1, 8) for key in ("a", "b")]
        assert await written(journal, 0, own, *both)
        await snapshot(journal, 0, own, "a", 6, keep=2)
        assert await kept(journal, 0) == [5, 6, 7]
        assert len(await kept(journal, 0, "b")) == 7
        assert await loaded(journal, 0, "a") == History(7, True, b"state 6", (b"7",))
        await snapshot(journal, 0, own, "a", 7, keep=100)
        assert await kept(journal, 0) == [5, 6, 7]
        await snapshot(journal, 0, own, "a", 7, keep=0)
        assert await kept(journal, 0) == []
    async with opened(make) as again:
        assert await loaded(again, 0, "a") == History(7, True, b"state 7")
        own = await taken(again, 0, 2)
        assert await written(again, 0, own, events("a", 8))
        tail = await again.tail(TYPE, 0, 13, 10)
        assert [(one.off, one.record.seq) for one in tail] == [(14, 7), (15, 8)]
        assert len(await again.tail(TYPE, 0, 0, 3)) == 3, "holes do not count"


async def test_a_record_whose_call_may_be_repeated_stays(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    until = [100, 300, 200, 0]
    records = [events("a", seq, keep_until_ms=ms) for seq, ms in enumerate(until, 1)]
    assert await written(journal, 0, own, *records)
    await snapshot(journal, 0, own, "a", 4, keep=0, time_ms=200)
    assert await kept(journal, 0) == [2]
    assert await loaded(journal, 0, "a") == History(4, True, b"state 4")
    await snapshot(journal, 0, own, "a", 4, keep=0, time_ms=300)
    assert await kept(journal, 0) == []


async def test_records_that_have_piled_up_go_in_pieces(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    last = DROPPED_AT_ONCE + 5
    assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, last + 1)))
    await snapshot(journal, 0, own, "a", last, keep=0)
    assert await kept(journal, 0) == list(range(DROPPED_AT_ONCE + 1, last + 1))
    await snapshot(journal, 0, own, "a", last, keep=0)
    assert await kept(journal, 0) == []
