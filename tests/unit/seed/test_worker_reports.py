"""What workers tell of themselves reaches their records, at once, whole, and not more often."""

from __future__ import annotations

import pytest

from seedbed.ids import Epoch
from seedbed.routing import Release
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.records import releases_of
from tests.unit.seed.desk import Desk, ScriptedWorker, desk, hello, resuming

FIRST = Release("t", 3, Epoch(7))
SECOND = Release("t", 4, Epoch(8))


def lists(*releases: Release) -> list[store_pb2.ReleasedShards]:
    shards = [one.shard for one in releases]
    epochs = [one.epoch for one in releases]
    return [store_pb2.ReleasedShards(type="t", shards=shards, epochs=epochs)] if releases else []


def said(*releases: Release) -> pb.WorkerMessage:
    return pb.WorkerMessage(released=pb.Released(released=lists(*releases)))


def released(one: Desk, node: str = "w1") -> set[Release]:
    known = one.view.workers.get(node)
    return releases_of(known.record.released) if known is not None else set()


async def until_released(one: Desk, *releases: Release) -> None:
    await one.until(f"{releases} in the record", lambda: released(one) == set(releases))


async def beat(worker: ScriptedWorker, seq: int, *releases: Release, rate: float = 0.0) -> None:
    hottest = [store_pb2.ShardLoad(type="t", shard=1, calls_per_s=rate)]
    load = store_pb2.Load(calls_per_s=rate, hottest=hottest)
    heartbeat = pb.Heartbeat(seq=seq, released=lists(*releases), load=load)
    worker.send(pb.WorkerMessage(heartbeat=heartbeat))
    await worker.expect("heartbeat_ack")


async def test_a_release_is_in_the_record_without_waiting_for_a_heartbeat() -> None:
    async with desk() as one:
        worker, _ = await one.join(hello())
        worker.send(said(FIRST))
        await until_released(one, FIRST)
        worker.send(said(FIRST, SECOND))
        await until_released(one, FIRST, SECOND)


async def test_what_a_table_shows_by_now_is_written_over_with_the_next_news() -> None:
    async with desk() as one:
        worker, _ = await one.join(hello())
        worker.send(said(FIRST))
        await until_released(one, FIRST)
        worker.send(said(SECOND))
        await until_released(one, SECOND)


async def test_a_heartbeat_repeats_releases_and_writes_no_known_one_again() -> None:
    async with desk(ttl_s=4) as one:
        worker, _ = await one.join(hello())
        await beat(worker, 1, FIRST)
        await until_released(one, FIRST)
        await one.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        revision = one.view.workers["w1"].entry.mod_revision
        await beat(worker, 2, FIRST)
        await beat(worker, 3, FIRST)
        worker.send(said(FIRST, SECOND))
        await until_released(one, FIRST, SECOND)
        written = one.view.workers["w1"].entry.mod_revision - revision
        assert written == 1, "one write, of what was new"


async def test_a_lost_answer_loses_no_release() -> None:
    async with desk(ttl_s=4) as one:
        worker, _ = await one.join(hello())
        await beat(worker, 1)
        await one.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        one.store.swallow = 1
        worker.send(said(FIRST))
        await until_released(one, FIRST)
        one.store.lose_answers = 1
        worker.send(said(FIRST, SECOND))
        await until_released(one, FIRST, SECOND)


async def test_a_load_is_written_once_an_interval_and_only_if_it_has_changed() -> None:
    async with desk(ttl_s=4) as one:
        worker, _ = await one.join(hello())
        seq = 0

        def rates() -> dict[int, float]:
            hottest = one.view.workers["w1"].record.load.hottest
            return {entry.shard: entry.calls_per_s for entry in hottest}

        while rates() != {1: 50.0}:
            seq += 1
            await beat(worker, seq, rate=50.0)
        revision = one.view.workers["w1"].entry.mod_revision
        for _ in range(20):
            seq += 1
            await beat(worker, seq, rate=50.5)
        assert one.view.workers["w1"].entry.mod_revision == revision


@pytest.mark.parametrize(
    "garbage",
    [
        store_pb2.ReleasedShards(type="t", shards=[1, 2], epochs=[1]),
        store_pb2.ReleasedShards(type="t", shards=[1, 1], epochs=[1, 1]),
        store_pb2.ReleasedShards(type="t", shards=[4096], epochs=[1]),
    ],
    ids=["an epoch missing", "a shard twice", "no such shard"],
)
async def test_garbage_ends_the_stream(garbage: store_pb2.ReleasedShards) -> None:
    async with desk() as one:
        worker, _ = await one.join(hello())
        worker.send(pb.WorkerMessage(released=pb.Released(released=[garbage])))
        await worker.until_ended()
        assert released(one) == set()


async def test_a_resumed_workers_record_keeps_what_it_released() -> None:
    async with desk() as one:
        first = hello()
        worker, welcome = await one.join(first)
        worker.send(said(FIRST))
        await until_released(one, FIRST)
        await one.join(resuming(first, welcome))
        assert released(one) == {FIRST}
