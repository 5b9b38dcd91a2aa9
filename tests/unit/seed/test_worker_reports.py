"""What workers release and that they drain reaches their records: at once, whole, no more often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from seedbed.errors import CallError, Reason
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.store import Compare, Get, Outcome, Put, WatchUpdate
from tests.unit.seed.declared import hello, resuming
from tests.unit.seed.desk import desk
from tests.unit.seed.reporting import Counted, list_of, released, until_released, up


async def test_a_release_is_one_write_and_no_reading() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        counted = Counted(seed.store)
        worker.send(released(list_of([1, 2])))
        await until_released(seed, 1, 2)
        assert (counted.reads, counted.writes) == (0, 1)


async def test_the_newest_list_replaces_the_one_before() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        worker.send(released(list_of([1, 2])))
        await until_released(seed, 1, 2)
        worker.send(released(list_of([2, 3])))
        await until_released(seed, 2, 3)


async def test_what_is_known_already_is_not_written() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        worker.send(released(list_of([1, 2])))
        await until_released(seed, 1, 2)
        counted = Counted(seed.store)
        for lists in ([list_of([1, 2])], [list_of([2])], []):
            worker.beat(released=lists)
            await worker.expect("heartbeat_ack")
        assert counted.writes == 0
        worker.send(released(list_of([3])))
        await until_released(seed, 3)


async def test_a_heartbeat_repeats_the_list() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        worker.beat(released=[list_of([4])])
        await until_released(seed, 4)


async def test_no_release_waits_for_a_heartbeats_answer() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)

        async def hang(lease: int, *, timeout: float | None = None) -> int:
            return await asyncio.Event().wait()

        seed.store.renew = hang  # type: ignore[method-assign]
        worker.beat()
        worker.send(released(list_of([1])))
        async with asyncio.timeout(1):  # the heartbeat is given up after 2.5 s
            await until_released(seed, 1)


async def test_what_comes_during_a_write_goes_with_the_next() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        goes_on, began = asyncio.Event(), asyncio.Event()
        write, writes = seed.store.write, 0

        async def slow(*done: Put, when: Sequence[Compare] = (), **rest: object) -> Outcome:
            nonlocal writes
            writes += 1
            began.set()
            await goes_on.wait()
            return await write(*done, when=when, otherwise=[Get(done[0].key)])

        seed.store.write = slow  # type: ignore[assignment]
        worker.send(released(list_of([0])))
        await began.wait()
        for shard in range(1, 10):
            worker.send(released(list_of(range(shard + 1))))
        await worker.ack()  # so all of them have been read
        worker.send(released(list_of(range(10))))
        goes_on.set()
        await until_released(seed, *range(10))
        assert writes == 2


@pytest.mark.parametrize("lost", ["lose_answers", "swallow"])
async def test_a_write_in_doubt_is_found_out_about(lost: str) -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        setattr(seed.store, lost, 1)
        worker.send(released(list_of([1])))
        await until_released(seed, 1)


async def test_a_store_that_does_not_answer_is_asked_again() -> None:
    async with desk(ttl_s=2) as seed:
        worker, _ = await up(seed)
        seed.store.swallow = 4  # more than one round of attempts
        worker.send(released(list_of([1])))
        await until_released(seed, 1)


async def test_a_record_that_the_view_has_in_an_older_state_is_read_once() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        known = seed.view.workers["w1"]
        record = store_pb2.MemberRecord()
        record.CopyFrom(known.record)
        record.replaced_incarnation = "other"
        put = Put(known.entry.key, record.SerializeToString(), lease=record.lease_id)
        apply = seed.view.apply

        def late(update: WatchUpdate) -> None:
            """The watch stands still: what it delivers is thrown away."""

        seed.view.apply = late  # type: ignore[method-assign]
        await seed.store.write(put)
        worker.send(released(list_of([1])))
        async with asyncio.timeout(2):
            while not (now := await seed.record("w1")) or not now.released:
                await asyncio.sleep(0)
        assert now.replaced_incarnation == "other"
        seed.view.apply = apply  # type: ignore[method-assign]


async def test_a_resumed_worker_keeps_its_releases_and_a_new_incarnation_begins_without() -> None:
    async with desk(ttl_s=20) as seed:
        first = hello()
        worker, welcome = await up(seed, first)
        worker.send(released(list_of([1])))
        await until_released(seed, 1)
        again, _ = await seed.join(resuming(first, welcome))
        record = await seed.record("w1")
        assert record is not None
        assert record.stream_id == again.hello.stream_id
        assert [list(one.shards) for one in record.released] == [[1]]
        again.send(pb.WorkerMessage(goodbye=pb.Goodbye()))
        await seed.until_gone("w1")
        await seed.join(hello())
        record = await seed.record("w1")
        assert record is not None
        assert not record.released


async def test_a_stream_that_the_worker_has_left_writes_nothing() -> None:
    async with desk(ttl_s=20) as seed:
        first = hello()
        old, welcome = await up(seed, first)
        await seed.join(resuming(first, welcome))
        old.send(released(list_of([1])))
        assert (await old.ack()).state == pb.LEASE_STATE_UNKNOWN
        record = await seed.record("w1")
        assert record is not None
        assert not record.released


GARBAGE = {
    "twice in a list": [list_of([1, 1])],
    "two lists of a type": [list_of([1]), list_of([2])],
    "a shard that is none": [list_of([16])],
    "no epoch": [store_pb2.ReleasedShards(type="cup", shards=[1])],
}


@pytest.mark.parametrize("lists", GARBAGE.values(), ids=list(GARBAGE))
async def test_garbage_ends_the_stream(lists: list[store_pb2.ReleasedShards]) -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        worker.send(released(*lists))
        await worker.until_ended()
        assert isinstance(worker.error, CallError)
        assert worker.error.reason is Reason.BAD_REQUEST


async def test_a_drain_is_written_although_the_store_was_away() -> None:
    async with desk(ttl_s=2) as seed:
        worker, _ = await up(seed)
        seed.store.swallow = 4
        worker.send(pb.WorkerMessage(draining=pb.Draining()))
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_DRAINING)
